"""The ingestion itself, start to end, inside the limited subprocess; it leaves out starting and limiting it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_gateway.ingest.csv_source import CsvSource
from data_gateway.ingest.formats import recognize
from data_gateway.ingest.job import (
    Column,
    DataFile,
    Format,
    IngestJob,
    IngestProgress,
    IngestRefused,
    IngestResult,
    OnBrokenRow,
)
from data_gateway.ingest.json_source import JsonLinesSource
from data_gateway.ingest.members import MemberCounter, Pseudonymizer
from data_gateway.ingest.output import PartWriter
from data_gateway.ingest.parquet_source import ParquetSource, check_decoded
from data_gateway.ingest.rows import RejectLog, Source
from data_gateway.ingest.stats import ColumnObserver, ColumnStatistics, K

_DELTA_TYPES = {
    pa.int64(): "long",
    pa.float64(): "double",
    pa.string(): "string",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us", "UTC"): "timestamp",
}
_SOURCES: dict[Format, Callable[[IngestJob], Source]] = {
    Format.CSV: CsvSource,
    Format.JSON_LINES: JsonLinesSource,
    Format.PARQUET: ParquetSource,
}
_Decided = list[tuple[str, pa.DataType, tuple[str, ...]]]
Report = Callable[[IngestProgress], None]


def ingest(job: IngestJob, key: bytes | None, report: Report) -> IngestResult:
    """Reads the source, writes the version folder and the private files. Raises IngestRefused; leaves nothing then."""
    before = _identity(job.source)
    source = _SOURCES[recognize(job.source, job.format)](job)
    staging = staging_folder(job.version_folder)
    try:
        result = _write(job, source, key, staging, report)
        if _identity(job.source) != before:
            raise IngestRefused("SOURCE_CHANGED", "The file changed while it was read. Nothing was stored.")
        report(IngestProgress("FINISH", result.row_count, result.source_bytes, result.source_bytes))
        job.version_folder.parent.mkdir(parents=True, exist_ok=True)
        _sync(staging / "data")
        # The version appears whole or not at all.
        staging.rename(job.version_folder)
        _sync(job.version_folder.parent)
    except BaseException:
        discard(job)
        raise
    return result


def staging_folder(version_folder: Path) -> Path:
    return version_folder.with_name(version_folder.name + ".partial")


def discard(job: IngestJob) -> None:
    """Removes whatever an unfinished ingestion may have left, private files included."""
    shutil.rmtree(staging_folder(job.version_folder), ignore_errors=True)
    for name in ("members.parquet", "rejects.jsonl"):
        (job.job_folder / name).unlink(missing_ok=True)


def _write(job: IngestJob, source: Source, key: bytes | None, staging: Path, report: Report) -> IngestResult:
    total = job.source.stat().st_size
    stop = job.on_broken_row is OnBrokenRow.STOP
    if source.two_passes:
        rows = _inspect(source, RejectLog(stop, None), total, report)
        _require_rows(rows)
    decided = source.decide()
    schema = _schema(decided, job.member_column)
    columns = tuple(
        Column(field.name, _DELTA_TYPES[field.type], field.name == job.member_column, notes)
        for field, (_, _, notes) in zip(schema, decided, strict=True)
    )
    rejects = RejectLog(stop, job.job_folder / "rejects.jsonl")
    writer = PartWriter(staging, schema, job.parts)
    members = _Members(job.member_column, key)
    observers = {c.name: ColumnObserver(c.name, c.type) for c in columns if not c.is_member}
    row_count = blank_lines = decoded = 0
    for batch in source.rows(final=True):
        rejects.take(batch, row_count)
        blank_lines += batch.blank_lines
        for piece in source.convert(batch):
            decoded += piece.nbytes
            check_decoded(job, total, decoded)
            piece, codes, first = members.replace(piece, row_count)
            for name, observer in observers.items():
                observer.feed(piece.column(name), codes, first)
            writer.write(piece)
            row_count += piece.num_rows
        report(IngestProgress("WRITE", row_count, batch.bytes_done, total))
    rejects.close()
    _require_rows(row_count)
    files = writer.close()
    _require_all_written(row_count, files)
    members.write(job.job_folder / "members.parquet")
    return IngestResult(
        format=source.format,
        source_sha256=_sha256(job.source),
        source_bytes=total,
        row_count=row_count,
        reject_count=rejects.count,
        blank_line_count=blank_lines,
        member_count=members.count,
        columns=columns,
        files=files,
        arrow_schema=base64.b64encode(schema.serialize()).decode(),
        delta_schema=_delta_schema(columns),
        statistics=_publish(observers, row_count if members.count is None else members.count),
        delimiter=source.delimiter,
    )


def _inspect(source: Source, rejects: RejectLog, total: int, report: Report) -> int:
    rows = 0
    for batch in source.rows(final=False):
        rejects.take(batch, rows)
        source.inspect(batch)
        rows += len(batch)
        report(IngestProgress("INSPECT", rows, batch.bytes_done, total))
    return rows


def _require_rows(rows: int) -> None:
    if not rows:
        raise IngestRefused("FILE_EMPTY", "The file holds no sound row. Nothing was stored.")


def _require_all_written(rows: int, files: tuple[DataFile, ...]) -> None:
    written = sum(file.row_count for file in files)
    if written != rows:
        raise AssertionError(f"{rows} rows were read but {written} were written")


class _Members:
    """Replaces the member column, or numbers the rows where there is none."""

    def __init__(self, column: str | None, key: bytes | None) -> None:
        self._column = column
        self._pseudonymizer = Pseudonymizer(key) if key is not None else None
        self._counter = MemberCounter()

    @property
    def count(self) -> int | None:
        return None if self._column is None else len(self._counter)

    def replace(
        self, batch: pa.RecordBatch, rows_before: int
    ) -> tuple[
        pa.RecordBatch, np.ndarray[tuple[int, ...], np.dtype[np.int64]], np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    ]:
        if self._column is None or self._pseudonymizer is None:
            codes = np.arange(rows_before, rows_before + batch.num_rows, dtype=np.int64)
            return batch, codes, np.ones(batch.num_rows, bool)
        position = batch.schema.get_field_index(self._column)
        names = self._pseudonymizer.replace(batch.column(position))
        codes, first = self._counter.feed(names)
        return batch.set_column(position, self._column, names), codes, first

    def write(self, path: Path) -> None:
        if self._column is not None:
            self._counter.write(path)


def _publish(observers: dict[str, ColumnObserver], members: int) -> tuple[ColumnStatistics, ...]:
    return tuple(observer.publish() for observer in observers.values()) if members >= K else ()


def _schema(decided: _Decided, member_column: str | None) -> pa.Schema:
    return pa.schema([(name, pa.string() if name == member_column else kind) for name, kind, _ in decided])


def _delta_schema(columns: tuple[Column, ...]) -> str:
    fields = [{"name": c.name, "type": c.type, "nullable": True, "metadata": {}} for c in columns]
    return json.dumps({"type": "struct", "fields": fields}, separators=(",", ":"), ensure_ascii=False)


def _identity(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
