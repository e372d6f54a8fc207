"""Writes the Parquet parts of a version, hashed as they are written; it leaves out what the rows mean."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_gateway.ingest.job import DataFile, PartTarget

_GROUP_ROWS = 131_072
_GROUP_BYTES = 32 << 20


class _HashingFile:
    """A file that knows the sha256 of what went through it, so that nothing is read back to be hashed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: Any) -> int:
        self._sha256.update(data)
        self.size_bytes += memoryview(data).nbytes
        return self._file.write(data)

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


class PartFile:
    """One Parquet file under way; `close` tells its hash, size and rows.

    zstd rather than snappy: files are a third smaller for the same reading speed, and every reader we promise opens
    it (pyarrow, pandas, DuckDB, and the Rust kernel inside the delta-sharing client). No metadata of the source
    travels along: a pandas index or a private note in it was not voted on.
    """

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        """name: the path inside the folder."""
        self._name = name
        self._file = _HashingFile(folder / self._name)
        self._sink = pa.PythonFile(self._file, mode="w")
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd", compression_level=3, store_schema=False)
        self.row_count = 0
        self.bytes = 0

    def write(self, table: pa.Table) -> None:
        """One call is one row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self.row_count += table.num_rows
        self.bytes += table.nbytes

    def close(self) -> DataFile:
        self._writer.close()
        self._sink.close()
        self._file.close()
        return DataFile(self._name, self._file.hexdigest(), self._file.size_bytes, self.row_count)


class PartWriter:
    """Splits a stream of batches into parts; where the cuts fall depends on the rows alone, so bytes are repeatable."""

    def __init__(self, folder: Path, schema: pa.Schema, target: PartTarget) -> None:
        (folder / "data").mkdir(parents=True)
        self._folder, self._schema, self._target = folder, schema, target
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        self._part: PartFile | None = None
        self._files: list[DataFile] = []

    def write(self, batch: pa.RecordBatch) -> None:
        while batch.num_rows:
            done = self._pending_rows + (self._part.row_count if self._part else 0)
            room = min(self._target.rows - done, _GROUP_ROWS - self._pending_rows)
            head, batch = batch.slice(0, room), batch.slice(room)
            self._pending.append(head)
            self._pending_rows += head.num_rows
            self._pending_bytes += head.nbytes
            full = self._pending_rows >= _GROUP_ROWS or done + head.num_rows >= self._target.rows
            if full or self._pending_bytes >= min(_GROUP_BYTES, self._target.bytes):
                self._flush()

    def close(self) -> tuple[DataFile, ...]:
        if self._pending:
            self._flush()
        if self._part:
            self._files.append(self._part.close())
            self._part = None
        return tuple(self._files)

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._pending, self._schema).combine_chunks()
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        if self._part is None:
            self._part = PartFile(self._folder, f"data/part-{len(self._files):05d}.parquet", self._schema)
        self._part.write(table)
        if self._part.row_count >= self._target.rows or self._part.bytes >= self._target.bytes:
            self._files.append(self._part.close())
            self._part = None
