"""Reads JSON Lines in two streaming passes, one object a line; it leaves out what happens to broken rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from data_gateway.ingest.csv_source import BOM
from data_gateway.ingest.job import Format, IngestJob, IngestRefused, check_names
from data_gateway.ingest.members import canonical_text
from data_gateway.ingest.rows import BLOCK_BYTES, Reject, Rows, null_member, require_member_column

_EXACT = 2**53
_INT64 = (-(2**63), 2**63 - 1)
# A line as short as {} is a row as wide as the widest, so rows are converted in pieces of this many cells.
_CELLS = 2_000_000
_Object = dict[str, Any]


class _Broken(ValueError):
    """A line that is JSON for some readers and not for others."""


class _JsonColumn:
    """The kinds of values seen in a column. `exact` turns False once a whole number does not exist as float64."""

    def __init__(self) -> None:
        self.kinds: set[type] = set()
        self.lowest = self.highest = 0

    def decide(self) -> tuple[str, pa.DataType, tuple[str, ...]]:
        """How to convert, the Arrow type, and notes."""
        kinds = self.kinds - {type(None)}
        whole_fits = _INT64[0] <= self.lowest and self.highest <= _INT64[1]
        if dict in kinds or list in kinds:
            return "json", pa.string(), ("Nested values are stored as JSON text.",)
        if kinds == {bool}:
            return "value", pa.bool_(), ()
        if kinds == {int} and whole_fits:
            return "value", pa.int64(), ()
        if kinds == {float} or (kinds == {int, float} and self.lowest >= -_EXACT and self.highest <= _EXACT):
            return "float", pa.float64(), ()
        if kinds == {str}:
            return "value", pa.string(), ()
        if not kinds:
            return "value", pa.string(), ("The column is empty.",)
        if kinds <= {int, float}:
            note = "Some whole numbers are too large to be exact; the column is kept as text."
            return "text", pa.string(), (note,)
        return "text", pa.string(), ("Values of different types are stored as text.",)


class JsonLinesSource:
    format = Format.JSON_LINES
    delimiter = None
    two_passes = True

    def __init__(self, job: IngestJob) -> None:
        self._job = job
        self._columns: dict[str, _JsonColumn] = {}
        self._how: list[tuple[str, pa.DataType]] = []
        self._require_member_early()

    @property
    def names(self) -> list[str]:
        return list(self._columns)

    def rows(self, final: bool) -> Iterator[Rows]:
        """Each batch's data is a list of objects."""
        line, limit = 1, self._job.limits.row_bytes
        carry = b""
        with self._job.source.open("rb") as file:
            if file.read(len(BOM)) != BOM:
                file.seek(0)
            while chunk := file.read(BLOCK_BYTES):
                head, newline, tail = chunk.rpartition(b"\n")
                if not newline:
                    carry += chunk
                else:
                    lines = (carry + head).split(b"\n")
                    yield self._parse(lines, line, file.tell(), ended=True)
                    line += len(lines)
                    carry = tail
                if len(carry) > limit:
                    raise IngestRefused(
                        "ROW_TOO_LARGE", f"Line {line} is longer than {limit} bytes.", line=line, limit_bytes=limit
                    )
            if carry:
                yield self._parse([carry], line, file.tell(), ended=False)

    def inspect(self, rows: Rows) -> None:
        known = self._columns
        count = len(known)
        for row in rows.data:
            for name, value in row.items():
                column = known.get(name)
                if column is None:
                    column = known[name] = _JsonColumn()
                kind = type(value)
                column.kinds.add(kind)
                if kind is int:
                    column.lowest = min(column.lowest, value)
                    column.highest = max(column.highest, value)
            if len(known) > count:
                count = len(known)
                check_names(self.names, self._job.limits.columns)

    def decide(self) -> list[tuple[str, pa.DataType, tuple[str, ...]]]:
        if self._columns:
            require_member_column(self._job, self.names)
        decided = []
        for name, column in self._columns.items():
            how, kind, notes = column.decide()
            self._how.append((how, kind))
            decided.append((name, kind, notes))
        return decided

    def convert(self, rows: Rows) -> Iterator[pa.RecordBatch]:
        step = max(1, _CELLS // max(1, len(self._columns)))
        for start in range(0, len(rows), step):
            piece = rows.data[start : start + step]
            arrays = []
            for name, (how, kind) in zip(self._columns, self._how, strict=True):
                converted = _to_array([row.get(name) for row in piece], how, kind)
                arrays.append(canonical_text(converted) if name == self._job.member_column else converted)
            yield pa.record_batch(arrays, names=self.names)

    def _require_member_early(self) -> None:
        """A mistyped member column should be called that, rather than a first row without a member."""
        member = self._job.member_column
        if member is None:
            return
        with self._job.source.open("rb") as file:
            first = file.read(BLOCK_BYTES).removeprefix(BOM)
        rows = (_read_object(text, 0, True) for text in first.split(b"\n") if text.strip())
        if first.strip() and not any(isinstance(row, Reject) or member in row for row in rows):
            require_member_column(self._job, [])

    def _parse(self, lines: list[bytes], first_line: int, bytes_done: int, ended: bool) -> Rows:
        data: list[_Object] = []
        numbers: list[int] = []
        rejects: list[Reject] = []
        blank = 0
        member = self._job.member_column
        for number, text in enumerate(lines, start=first_line):
            if not text.strip():
                blank += 1
                continue
            row = _read_object(text, number, ended)
            if isinstance(row, Reject):
                rejects.append(row)
            elif member is not None and _names_nobody(row.get(member)):
                rejects.append(null_member(number, text.decode()))
            else:
                data.append(row)
                numbers.append(number)
        return Rows(data, np.array(numbers, np.int64), rejects, blank, bytes_done)


def _read_object(text: bytes, line: int, ended: bool) -> _Object | Reject:
    raw = text.decode("utf-8", "backslashreplace")
    try:
        value = _DECODER.decode(text.decode())
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair cannot be stored
    except UnicodeDecodeError:
        return Reject(line, "NOT_UTF8", f"Line {line} is not text in UTF-8.", raw)
    except _Broken as broken:
        return Reject(line, "BROKEN_ROW", f"Line {line} {broken}.", raw)
    except (ValueError, RecursionError):
        if not ended:
            return Reject(line, "FILE_TRUNCATED", f"Line {line}, the last, is cut off.", raw)
        return Reject(line, "BROKEN_ROW", f"Line {line} is not a JSON object.", raw)
    if not isinstance(value, dict):
        return Reject(line, "BROKEN_ROW", f"Line {line} is not a JSON object.", raw)
    return value


def _unique_object(pairs: list[tuple[str, Any]]) -> _Object:
    value = dict(pairs)
    if len(value) != len(pairs):
        # Readers differ on which of the two counts, so one value would be dropped silently.
        raise _Broken("names a field twice")
    return value


def _finite_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Broken("holds a number too large to be stored")
    return value


def _no_constant(_: str) -> float:
    raise _Broken("holds NaN or Infinity, which JSON does not have")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_object, parse_float=_finite_float, parse_constant=_no_constant, strict=True
)


def _names_nobody(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _to_array(values: list[Any], how: str, kind: pa.DataType) -> pa.Array:
    if how == "float":
        values = [None if value is None else float(value) for value in values]
    elif how == "json":
        values = [None if value is None else _dump(value) for value in values]
    elif how == "text":
        values = [value if value is None or isinstance(value, str) else _dump(value) for value in values]
    return pa.array(values, kind)
