"""Reads CSV in two streaming passes, with exact line numbers; it leaves out what happens to broken rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from data_gateway.ingest.csv_records import Records, find_records
from data_gateway.ingest.job import Format, IngestJob, IngestRefused, check_names
from data_gateway.ingest.members import canonical_text
from data_gateway.ingest.rows import BLOCK_BYTES, Reject, Rows, null_member, require_member_column
from data_gateway.ingest.text_types import TextColumn, convert

BOM = b"\xef\xbb\xbf"
_DELIMITERS = (",", ";", "\t", "|")
_FIRST_BYTES = 1 << 16


class CsvSource:
    format = Format.CSV
    two_passes = True

    def __init__(self, job: IngestJob) -> None:
        self._job = job
        with job.source.open("rb") as file:
            first = file.read(max(_FIRST_BYTES, job.limits.row_bytes))
        self._offset = len(BOM) if first.startswith(BOM) else 0
        first = first[self._offset :]
        final = job.source.stat().st_size == self._offset + len(first)
        self.delimiter: str | None = job.csv.delimiter or _guess_delimiter(first[:_FIRST_BYTES], final)
        self._delimiter = self.delimiter.encode()
        header = find_records(first[: job.limits.row_bytes], self._delimiter, final)
        if not len(header.starts):
            reason = "FILE_TRUNCATED" if final else "ROW_TOO_LARGE"
            raise IngestRefused(reason, "The header line, line 1, does not end.", line=1)
        self.names = _header_names(first[: header.ends[0]], self.delimiter)
        check_names(self.names, job.limits.columns)
        require_member_column(job, self.names)
        self._offset += int(header.stops[0])
        self._first_line = 1 + int(header.lines[1] if len(header.lines) > 1 else header.line_count)
        self._columns = [TextColumn() for _ in self.names]
        self._types: list[pa.DataType] = []

    def rows(self, final: bool) -> Iterator[Rows]:
        """Each batch's data is a table of text. The first pass reads only the columns that may still be numbers."""
        for data, records, line, bytes_done in self._blocks():
            yield self._parse(data, records, line, bytes_done, final)

    def inspect(self, rows: Rows) -> None:
        for position, column in enumerate(self._columns):
            if column.undecided and (name := f"f{position}") in rows.data.column_names:
                for chunk in rows.data.column(name).chunks:
                    column.feed(chunk)

    def decide(self) -> list[tuple[str, pa.DataType, tuple[str, ...]]]:
        decided = [(name, *column.decide()) for name, column in zip(self.names, self._columns, strict=True)]
        self._types = [kind for _, kind, _ in decided]
        return decided

    def convert(self, rows: Rows) -> Iterator[pa.RecordBatch]:
        if not len(rows):
            return
        arrays = []
        for position, (name, target) in enumerate(zip(self.names, self._types, strict=True)):
            values = rows.data.column(f"f{position}").combine_chunks()
            values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
            converted = convert(values, target)
            arrays.append(canonical_text(converted) if name == self._job.member_column else converted)
        yield pa.record_batch(arrays, names=self.names)

    def _blocks(self) -> Iterator[tuple[bytes, Records, int, int]]:
        """Whole rows, block by block, with the line on which the block begins."""
        limit = self._job.limits.row_bytes
        line = self._first_line
        carry = b""
        with self._job.source.open("rb") as file:
            file.seek(self._offset)
            while True:
                chunk = file.read(BLOCK_BYTES)
                data = carry + chunk
                records = find_records(data, self._delimiter, final=not chunk)
                if len(records.starts) and int((records.stops - records.starts).max()) > limit:
                    long = int(records.lines[np.argmax(records.stops - records.starts > limit)]) + line
                    raise _too_large(long, limit)
                if records.consumed:
                    yield data, records, line, file.tell()
                line += records.line_count
                carry = data[records.consumed :]
                if len(carry) > limit:
                    raise _too_large(line, limit)
                if not chunk:
                    break
        if carry:
            # Where rows end is no longer known, so there is nothing that could be set aside.
            raise IngestRefused(
                "FILE_TRUNCATED",
                f"The row that begins on line {line} opens a quote that is never closed. Nothing was stored.",
                line=line,
            )

    def _parse(self, data: bytes, records: Records, line: int, bytes_done: int, final: bool) -> Rows:
        blank = records.ends == records.starts
        broken = (records.fields != len(self.names)) & ~blank
        rejects = {
            int(index): self._ragged(data, records, int(index), line, bytes_done) for index in np.flatnonzero(broken)
        }
        if not data.isascii():
            rejects.update(self._not_utf8(data, records, line))
        keep = ~blank
        keep[list(rejects)] = False
        lines = records.lines[keep] + line
        if rejects:
            body = b"".join(data[a:b] for a, b in zip(records.starts[keep], records.stops[keep], strict=True))
        else:
            body = data[: records.consumed]
        table = self._to_text(body, int(keep.sum()), final)
        if self._job.member_column is not None and len(lines):
            member = canonical_text(table.column(f"f{self.names.index(self._job.member_column)}").combine_chunks())
            missing = pc.is_null(member).to_numpy(zero_copy_only=False)
            for index in np.flatnonzero(keep)[missing]:
                raw = _raw(data, records, int(index))
                rejects[int(index)] = null_member(int(records.lines[index]) + line, raw)
            if missing.any():
                table, lines = table.filter(pa.array(~missing)), lines[~missing]
        return Rows(table, lines, [rejects[index] for index in sorted(rejects)], int(blank.sum()), bytes_done)

    def _to_text(self, body: bytes, expected_rows: int, final: bool) -> pa.Table:
        wanted = [
            f"f{position}"
            for position, column in enumerate(self._columns)
            if final or column.undecided or self.names[position] == self._job.member_column
        ]
        if not wanted or not expected_rows:
            return pa.table({name: pa.array([], pa.string()) for name in wanted})
        if not body.endswith((b"\n", b"\r")):
            # Arrow takes a null at the very end of the text for a blank if another field of its row was quoted.
            body += b"\n"
        names = [f"f{position}" for position in range(len(self.names))]
        table = arrow_csv.read_csv(
            pa.BufferReader(body),
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=len(body) + 1, column_names=names),
            parse_options=arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                check_utf8=False,
            ),
        )
        # Two readers looked at the same bytes; if they disagree about the number of rows, one of them lost some.
        if table.num_rows != expected_rows:
            raise AssertionError(f"{expected_rows} rows were found but {table.num_rows} were read")
        return table

    def _ragged(self, data: bytes, records: Records, index: int, line: int, bytes_done: int) -> Reject:
        found, expected = int(records.fields[index]), len(self.names)
        number = int(records.lines[index]) + line
        message = f"Line {number} has {found} fields where the header names {expected}."
        # A last row that is short and has no line end is what a cut file looks like.
        unended = int(records.ends[index]) == len(data) and bytes_done == self._job.source.stat().st_size
        reason = "FILE_TRUNCATED" if unended and found < expected else "BROKEN_ROW"
        facts = {"expected_fields": expected, "found_fields": found}
        return Reject(number, reason, message, _raw(data, records, index), dict(facts))

    def _not_utf8(self, data: bytes, records: Records, line: int) -> dict[int, Reject]:
        if _is_utf8(data[: records.consumed]):
            return {}
        found = {}
        for index in range(len(records.starts)):
            if not _is_utf8(data[records.starts[index] : records.stops[index]]):
                number = int(records.lines[index]) + line
                found[index] = Reject(
                    number, "NOT_UTF8", f"Line {number} is not text in UTF-8.", _raw(data, records, index)
                )
        return found


def _raw(data: bytes, records: Records, index: int) -> str:
    return data[records.starts[index] : records.ends[index]].decode("utf-8", "backslashreplace")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _too_large(line: int, limit: int) -> IngestRefused:
    message = f"The row that begins on line {line} is longer than {limit} bytes; a quote may be missing."
    return IngestRefused("ROW_TOO_LARGE", message, line=line, limit_bytes=limit)


def _header_names(header: bytes, delimiter: str) -> list[str]:
    try:
        text = header.decode()
    except UnicodeDecodeError:
        raise IngestRefused("NOT_UTF8", "Line 1, the header, is not text in UTF-8.", line=1) from None
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [""])
    except csv.Error:
        raise IngestRefused(
            "COLUMN_NAME_INVALID", "The header on line 1 cannot be read as column names.", line=1
        ) from None


def _guess_delimiter(first: bytes, final: bool) -> str:
    """The delimiter that cuts most of the first rows into as many fields as the header; then the one with most fields.

    A file in which none occurs in the header has one column.
    """
    best, best_score = ",", (0.0, 1)
    for candidate in _DELIMITERS:
        records = find_records(first, candidate.encode(), final)
        counts = records.fields[records.ends > records.starts]
        if len(counts) and counts[0] > 1:
            score = (float(np.mean(counts == counts[0])), int(counts[0]))
            if score > best_score:
                best, best_score = candidate, score
    return best
