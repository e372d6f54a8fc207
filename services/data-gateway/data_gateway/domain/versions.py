"""A finished ingestion as the catalog's Version, and the sample in it that a steward may cut down."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from data_gateway.ingest import Column, ColumnStatistics, DataFile, IngestRefused, IngestResult, Remainder
from rochdale.catalog.v1 import catalog_pb2
from rochdale_kit.refusals import Refusal
from rochdale_kit.signing import canonical_hash

# A version travels in an event of at most 256 KiB, and the number, name and headers need a little.
MAX_VERSION_BYTES = 240 * 1024
MAX_SAMPLE_BYTES = 48 * 1024
MAX_SAMPLE_TEXT = 200

SampleRow = dict[str, str | int | float | bool | None]


def describe(result: IngestResult, sample: Sequence[SampleRow]) -> catalog_pb2.Version:
    """The version without its number and name. Raises IngestRefused when no event could hold it."""
    return _describe(
        result.columns, result.files, result.row_count, result.member_count or 0, result.statistics, sample
    )


def describe_remainder(
    columns: Sequence[Column], remainder: Remainder, sample: Sequence[SampleRow]
) -> catalog_pb2.Version:
    """A version out of which members' rows were taken, the same way. Raises as describe does."""
    return _describe(
        columns, remainder.files, remainder.row_count, remainder.member_count, remainder.statistics, sample
    )


def _describe(
    columns: Sequence[Column],
    files: Sequence[DataFile],
    row_count: int,
    member_count: int,
    published: Sequence[ColumnStatistics],
    sample: Sequence[SampleRow],
) -> catalog_pb2.Version:
    statistics = {one.name: one for one in published}
    version = catalog_pb2.Version(
        columns=[
            catalog_pb2.Column(
                name=column.name,
                type=column.type,
                missing_permille=_missing(statistics.get(column.name)),
                statistics_json=_statistics(statistics.get(column.name)),
                member_pseudonym=column.is_member,
            )
            for column in columns
        ],
        row_count=row_count,
        size_bytes=sum(file.size_bytes for file in files),
        files=[
            catalog_pb2.VersionFile(
                path=file.path, sha256=file.sha256, size_bytes=file.size_bytes, row_count=file.row_count
            )
            for file in files
        ],
        member_count=member_count // 10 * 10,
    )
    version.content_hash = canonical_hash(version, "columns", "row_count", "files")
    version.sample_json = _sample(sample)
    if version.ByteSize() > MAX_VERSION_BYTES:
        version.sample_json = ""
    if version.ByteSize() > MAX_VERSION_BYTES:
        raise IngestRefused(
            "DESCRIPTION_TOO_LARGE",
            f"The version has too many columns or files to be described in {MAX_VERSION_BYTES} bytes.",
            size_bytes=version.ByteSize(),
        )
    return version


def exposed_member_column(version: catalog_pb2.Version, earlier: Collection[str]) -> str | None:
    """A column that stood for members in an earlier version and would now show what the file says, else None.

    Licenses and rules reach later versions, so one forgotten option would hand out the members themselves.
    """
    known = {name.casefold() for name in earlier}
    open_columns = (column.name for column in version.columns if not column.member_pseudonym)
    return next((name for name in open_columns if name.casefold() in known), None)


def cut_sample(version: catalog_pb2.Version, columns: Sequence[str], withhold: bool) -> str:
    """The sample a steward approves. Refuses with COLUMN_UNKNOWN what is no column, or the members' column."""
    shown = [column.name for column in version.columns if not column.member_pseudonym]
    if unknown := [name for name in columns if name not in shown]:
        raise Refusal(
            "COLUMN_UNKNOWN", f"The version has no column {unknown[0]} that could be shown.", column=unknown[0]
        )
    if withhold or not version.sample_json:
        return ""
    rows: list[SampleRow] = json.loads(version.sample_json)
    wanted = set(columns) or set(shown)
    return _dumps([{name: value for name, value in row.items() if name in wanted} for row in rows])


def project_schema(delta_schema: str, columns: Collection[str]) -> str:
    """The Delta schemaString of some columns, in the version's order."""
    wanted = set(columns)
    schema = json.loads(delta_schema)
    schema["fields"] = [field for field in schema["fields"] if field["name"] in wanted]
    return _dumps(schema)


def _sample(rows: Sequence[SampleRow]) -> str:
    kept = [{name: _short(value) for name, value in row.items()} for row in rows]
    while kept and len(_dumps(kept).encode()) > MAX_SAMPLE_BYTES:
        kept.pop()
    return _dumps(kept) if kept else ""


def _short(value: str | int | float | bool | None) -> str | int | float | bool | None:
    return f"{value[:MAX_SAMPLE_TEXT]}…" if isinstance(value, str) and len(value) > MAX_SAMPLE_TEXT else value


def _missing(statistics: ColumnStatistics | None) -> int:
    if statistics is None or statistics.null_fraction is None:
        return -1
    return round(statistics.null_fraction * 1000)


def _statistics(statistics: ColumnStatistics | None) -> str:
    if statistics is None:
        return ""
    names = ("distinct_at_least", "low", "high", "shortest", "longest")
    found = {name: value for name in names if (value := getattr(statistics, name)) is not None}
    return _dumps(found) if found else ""


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
