"""Reads finished versions: the sample a steward approves and the column subset a license pays for; writes no source."""

from __future__ import annotations

import base64
import datetime
import hashlib
import math
import os
import random
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_gateway.ingest.job import DataFile, IngestRefused
from data_gateway.ingest.output import PartFile

SAMPLE_ROWS = 20
SampleValue = str | int | float | bool | None


def read_sample(
    version_folder: Path,
    files: Sequence[DataFile],
    member_column: str | None,
    columns: Sequence[str] | None = None,
    rows: int = SAMPLE_ROWS,
) -> list[dict[str, SampleValue]]:
    """Up to 20 rows of a version, for a steward to look at before anybody else does.

    The same version gives the same rows: they are drawn with the files' hashes as the seed. The member column is
    never part of it. Values are fit for JSON: dates and times as ISO text, NaN and infinities as text.
    """
    schema = pq.read_schema(version_folder / files[0].path)
    wanted = _in_order(schema, columns if columns is not None else schema.names)
    wanted = [name for name in wanted if name != member_column]
    total = sum(file.row_count for file in files)
    seed = hashlib.sha256("".join(file.sha256 for file in files).encode()).digest()
    drawn = sorted(random.Random(seed).sample(range(total), min(rows, SAMPLE_ROWS, total)))  # noqa: S311 - repeatable
    sample: list[dict[str, SampleValue]] = []
    offset = 0
    for data_file in files:
        parquet = pq.ParquetFile(version_folder / data_file.path)
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            inside = [row - offset for row in drawn if offset <= row < offset + count]
            if inside:
                table = parquet.read_row_group(group, columns=wanted, use_threads=False).take(pa.array(inside))
                sample += [{name: _plain(row[name]) for name in wanted} for row in table.to_pylist()]
            offset += count
    return sample


def project(
    version_folder: Path,
    files: Sequence[DataFile],
    columns: Sequence[str],
    out_folder: Path,
    member_column: str | None = None,
    excluded: Collection[str] = (),
) -> tuple[DataFile, ...]:
    """Writes the named columns of a version to `out_folder`, file by file, in bounded memory.

    Columns keep the version's order, whatever the order asked for, so equal subsets are equal bytes. Rows of excluded
    pseudonyms are left out, whether or not the member column is among the columns; a file without rows is not written,
    and the others keep their names. The folder appears whole or not at all and must not exist before. Refuses
    COLUMN_UNKNOWN, EMPTY_PROJECTION, VERSION_EXISTS.
    """
    if out_folder.exists():
        raise IngestRefused("VERSION_EXISTS", "The projection exists already.")
    staging = out_folder.with_name(f"{out_folder.name}.{os.getpid()}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "data").mkdir(parents=True)
    names = pa.array(sorted(excluded), pa.string())
    try:
        made = []
        for file in files:
            wanted = _in_order(pq.read_schema(version_folder / file.path), columns)
            if not wanted:
                raise IngestRefused("EMPTY_PROJECTION", "No column was named.")
            made.append(_project_one(version_folder / file.path, wanted, staging, file.path, member_column, names))
        staging.rename(out_folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return tuple(file for file in made if file is not None)


def arrow_schema(encoded: str) -> pa.Schema:
    """The schema out of IngestResult.arrow_schema."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(encoded)))


def _project_one(
    path: Path, wanted: list[str], folder: Path, name: str, member_column: str | None, excluded: pa.Array
) -> DataFile | None:
    # One row group is read at a time; ingestion keeps them to 32 MiB or one row.
    parquet = pq.ParquetFile(path)
    schema = pa.schema([parquet.schema_arrow.field(column) for column in wanted])
    part = None
    for group in range(parquet.num_row_groups):
        read = wanted if member_column is None or member_column in wanted else [*wanted, member_column]
        table = parquet.read_row_group(group, columns=read, use_threads=False)
        if member_column is not None and len(excluded):
            table = table.filter(pc.invert(pc.is_in(table[member_column], excluded)))
        if table.num_rows:
            part = part or PartFile(folder, name, schema)
            part.write(table.select(wanted).replace_schema_metadata(None).combine_chunks())
    return None if part is None else part.close()


def _in_order(schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    for name in columns:
        if name not in schema.names:
            raise IngestRefused("COLUMN_UNKNOWN", f"The version has no column {name!r}.", column=name)
    asked = set(columns)
    return [name for name in schema.names if name in asked]


def _plain(value: object) -> SampleValue:
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    assert value is None or isinstance(value, str | int | float | bool)
    return value
