"""Reads Parquet row group by row group, trusting no size that the file tells; it leaves out CSV's line numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_gateway.ingest.job import Format, IngestJob, IngestRefused, check_names
from data_gateway.ingest.members import canonical_text
from data_gateway.ingest.rows import Reject, Rows, null_member, require_member_column
from data_gateway.ingest.text_types import TIMESTAMP

_PIECE_BYTES = 16 << 20
_DICTIONARY_BYTES = 8 << 20
_Column = tuple[str, pa.DataType, tuple[str, ...]]


class ParquetSource:
    format = Format.PARQUET
    delimiter = None
    two_passes = False

    def __init__(self, job: IngestJob) -> None:
        self._job = job
        self._size = job.source.stat().st_size
        file = self._open([])
        schema = file.schema_arrow
        self.names = list(schema.names)
        check_names(self.names, job.limits.columns)
        require_member_column(job, self.names)
        large = _large_columns(file.metadata)
        self._texts = [field.name for field in schema if _is_text(field.type) and field.name not in large]
        self._columns = [_target(field) for field in schema]

    def rows(self, final: bool) -> Iterator[Rows]:
        """Each batch's data is a record batch in the file's types, text as dictionaries.

        A dictionary of one long text repeated a million times is the cheapest bomb. Left as a dictionary it costs
        what it costs on disk, so that its decoded size can be counted before anything is decoded. Columns that say
        they are large are decoded at once, since a dictionary of mostly different texts would cost more; if that
        was a lie, the kernel's limit ends it.
        """
        file = self._open(self._texts)
        row, decoded = 1, 0
        groups = max(1, file.num_row_groups)
        try:
            for group in range(file.num_row_groups):
                batches = file.iter_batches(self._batch_rows(file, group), row_groups=[group], use_threads=False)
                for batch in batches:
                    size = sum(_decoded_bytes(column) for column in batch.columns)
                    decoded += size
                    check_decoded(self._job, self._size, decoded)
                    step = max(1, batch.num_rows * _PIECE_BYTES // max(size, _PIECE_BYTES))
                    for start in range(0, batch.num_rows, step):
                        piece = batch.slice(start, step)
                        yield self._sound(piece, row, self._size * (group + 1) // groups)
                        row += piece.num_rows
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, MemoryError):
                raise
            raise _unreadable() from None

    def inspect(self, rows: Rows) -> None:
        """The file declares its types, so there is nothing to find out."""

    def decide(self) -> list[_Column]:
        return self._columns

    def convert(self, rows: Rows) -> Iterator[pa.RecordBatch]:
        if not len(rows):
            return
        arrays = []
        for column, (name, target, _) in zip(rows.data.columns, self._columns, strict=True):
            arrays.append(canonical_text(column) if name == self._job.member_column else _convert(column, target))
        yield pa.record_batch(arrays, names=self.names)

    def _open(self, texts: list[str]) -> pq.ParquetFile:
        with self._job.source.open("rb") as file:
            file.seek(max(0, self._size - 4))
            if self._size < 12 or file.read(4) != b"PAR1":
                raise IngestRefused("FILE_TRUNCATED", "The Parquet file has no footer at its end; it was cut off.")
        try:
            return pq.ParquetFile(self._job.source, read_dictionary=texts, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, MemoryError):
                raise
            raise _unreadable() from None

    def _batch_rows(self, file: pq.ParquetFile, group: int) -> int:
        """A guess from the footer, for speed only: a lie costs memory up to the kernel's limit and nothing else."""
        metadata = file.metadata.row_group(group)
        width = max(1, metadata.total_byte_size // max(1, metadata.num_rows))
        return int(min(65_536, max(256, _PIECE_BYTES // width)))

    def _sound(self, batch: pa.RecordBatch, first_row: int, bytes_done: int) -> Rows:
        lines = np.arange(first_row, first_row + batch.num_rows, dtype=np.int64)
        broken: dict[int, str] = {}
        for column in batch.columns:
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                broken.update(dict.fromkeys(_not_utf8(column), "NOT_UTF8"))
        if self._job.member_column is not None:
            nobody: npt.NDArray[np.bool_] = np.zeros(batch.num_rows, bool)
            nobody[list(broken)] = True
            sound = batch.column(self.names.index(self._job.member_column)).filter(pa.array(~nobody))
            missing = pc.is_null(canonical_text(sound)).to_numpy(zero_copy_only=False)
            broken.update(dict.fromkeys(np.flatnonzero(~nobody)[missing].tolist(), "NULL_MEMBER"))
        if not broken:
            return Rows(batch, lines, [], 0, bytes_done)
        rejects = [self._reject(batch, index, first_row + index, broken[index]) for index in sorted(broken)]
        keep = np.ones(batch.num_rows, bool)
        keep[list(broken)] = False
        return Rows(batch.filter(pa.array(keep)), lines[keep], rejects, 0, bytes_done)

    def _reject(self, batch: pa.RecordBatch, index: int, row: int, reason: str) -> Reject:
        values = {}
        for name, column in zip(self.names, batch.columns, strict=True):
            try:
                values[name] = column[index].as_py()
            except UnicodeDecodeError:
                values[name] = column[index].cast(pa.binary()).as_py().decode("utf-8", "backslashreplace")
        raw = json.dumps(values, default=str)
        if reason == "NULL_MEMBER":
            return null_member(row, raw, "Row")
        return Reject(row, reason, f"Row {row} holds text that is not UTF-8.", raw)


def check_decoded(job: IngestJob, source_bytes: int, decoded_bytes: int) -> None:
    """Refuses once the decoded rows outgrow the limits, whatever the file said about its size."""
    limits = job.limits
    cap = min(limits.decoded_bytes, max(limits.expansion_floor_bytes, limits.expansion * source_bytes))
    if decoded_bytes > cap:
        raise IngestRefused(
            "TOO_LARGE_DECODED",
            f"The file of {source_bytes} bytes decodes to more than {cap} bytes.",
            source_bytes=source_bytes,
            limit_bytes=cap,
        )


def _large_columns(metadata: pq.FileMetaData) -> set[str]:
    """The columns of which one of the first row groups holds more than 8 MiB, as far as the footer says."""
    large = set()
    for number in range(min(16, metadata.num_row_groups)):
        group = metadata.row_group(number)
        chunks = (group.column(position) for position in range(group.num_columns))
        large |= {chunk.path_in_schema for chunk in chunks if chunk.total_uncompressed_size > _DICTIONARY_BYTES}
    return large


def _unreadable() -> IngestRefused:
    return IngestRefused("FILE_UNREADABLE", "The Parquet file is damaged or uses a feature that is not read.")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _plain(column: pa.Array) -> pa.Array:
    return pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _decoded_bytes(column: pa.Array) -> int:
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    size = int(column.dictionary.nbytes + column.indices.nbytes)
    if pa.types.is_string(column.type.value_type) or pa.types.is_large_string(column.type.value_type):
        lengths = pc.cast(pc.binary_length(column.dictionary), pa.int64())
        size += pc.sum(lengths.take(column.indices)).as_py() or 0
    return size


def _not_utf8(column: pa.Array) -> list[int]:
    """The rows of a text column that are not UTF-8. A column that is wrong in another way makes the file unreadable."""
    plain = column
    if pa.types.is_dictionary(column.type):
        column.indices.validate(full=True)
        bad = set(_not_utf8(column.dictionary))
        return [row for row, index in enumerate(column.indices.to_pylist()) if index in bad]
    if not _is_text(plain.type):
        raise _unreadable()
    found = []
    for row, value in enumerate(plain.view(pa.binary() if pa.types.is_string(plain.type) else pa.large_binary())):
        try:
            (value.as_py() or b"").decode()
        except UnicodeDecodeError:
            found.append(row)
    return found


def _target(field: pa.Field) -> _Column:
    """The type in which a column of the file is stored, and what to tell about it."""
    name, kind = field.name, field.type
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_uint64(kind):
        return name, pa.string(), ("Unsigned 64-bit numbers are stored as text.",)
    if types.is_integer(kind):
        return name, pa.int64(), ()
    if types.is_floating(kind):
        return name, pa.float64(), ()
    if types.is_boolean(kind):
        return name, pa.bool_(), ()
    if types.is_date(kind):
        return name, pa.date32(), ()
    if types.is_timestamp(kind):
        notes = [] if kind.tz else ["The times name no zone; they are stored as UTC."]
        notes += ["Nanoseconds are cut to microseconds."] if kind.unit == "ns" else []
        return name, TIMESTAMP, tuple(notes)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind):
        return name, pa.string(), ()
    if types.is_decimal(kind):
        return name, pa.string(), ("Exact decimals are stored as text.",)
    if types.is_time(kind):
        return name, pa.string(), ("Times of day are stored as text.",)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_struct(kind) or types.is_map(kind):
        return name, pa.string(), ("Nested values are stored as JSON text.",)
    raise IngestRefused(
        "UNSUPPORTED_TYPE", f"Column {name!r} has the type {kind}, which is not taken.", column=name, type=kind
    )


def _convert(column: pa.Array, target: pa.DataType) -> pa.Array:
    column = _plain(column)
    if pa.types.is_nested(column.type):
        texts = [
            None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
            for value in column.to_pylist()
        ]
        return pa.array(texts, target)
    if pa.types.is_timestamp(column.type):
        # Only nanoseconds may be lost here; a time outside the range of microseconds is refused by the cast.
        column = pc.cast(column, pa.timestamp("us", column.type.tz), safe=column.type.unit != "ns")
    return pc.cast(column, target)
