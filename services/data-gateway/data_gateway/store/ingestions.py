"""Queries on ingestions."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.store.tables import ingestion_table as table
from rochdale.catalog.v1 import catalog_pb2
from rochdale.data_gateway.v1 import data_gateway_pb2 as pb


@dataclass(frozen=True)
class Ingestion:
    """A row. dataset is a resource name; version is the catalog's description once there is one."""

    id: str
    dataset: str
    format: int
    size_bytes: int
    sha256: str
    member_column: str
    broken_rows: int
    state: int
    processed_bytes: int
    row_count: int
    rejected_row_count: int
    failure_reason: str
    failure_message: str
    version: catalog_pb2.Version | None
    delta_schema: str | None
    create_time: dt.datetime
    derived_from: str | None


def _ingestion_of(row: sa.Row[tuple[object, ...]]) -> Ingestion:
    values = dict(row._mapping)
    document = values.pop("version")
    return Ingestion(**values, version=None if document is None else catalog_pb2.Version.FromString(document))


async def insert(
    connection: AsyncConnection, id: str, request: pb.StartIngestionRequest, now: dt.datetime
) -> Ingestion:
    statement = (
        table.insert()
        .values(
            id=id,
            dataset=request.dataset,
            format=request.format,
            size_bytes=request.size_bytes,
            sha256=request.sha256,
            member_column=request.member_column,
            broken_rows=request.broken_rows or pb.BROKEN_ROWS_STOP,
            state=pb.INGESTION_STATE_UPLOADING,
            processed_bytes=0,
            row_count=0,
            rejected_row_count=0,
            failure_reason="",
            failure_message="",
            create_time=now,
        )
        .returning(table)
    )
    return _ingestion_of((await connection.execute(statement)).one())


async def insert_derived(
    connection: AsyncConnection, id: str, derived_from: str, version: catalog_pb2.Version, now: dt.datetime
) -> None:
    """Of a version made here out of another one: approved from the first, for nobody chose anything."""
    await connection.execute(
        table.insert().values(
            id=id,
            dataset=version.name.rsplit("/versions/", 1)[0],
            format=pb.SOURCE_FORMAT_PARQUET,
            size_bytes=version.size_bytes,
            sha256="",
            member_column=next(column.name for column in version.columns if column.member_pseudonym),
            broken_rows=pb.BROKEN_ROWS_STOP,
            state=pb.INGESTION_STATE_APPROVED,
            processed_bytes=version.size_bytes,
            row_count=version.row_count,
            rejected_row_count=0,
            failure_reason="",
            failure_message="",
            version=version.SerializeToString(deterministic=True),
            create_time=now,
            derived_from=derived_from,
        )
    )


async def get(connection: AsyncConnection, id: str, lock: bool = False) -> Ingestion | None:
    statement = sa.select(table).where(table.c.id == id)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return None if row is None else _ingestion_of(row)


async def newest(connection: AsyncConnection, before: str | None, limit: int) -> list[Ingestion]:
    # What was made here was brought in by nobody.
    statement = sa.select(table).where(table.c.derived_from.is_(None)).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(table.c.id < before)
    return [_ingestion_of(row) for row in await connection.execute(statement)]


async def next_to_process(connection: AsyncConnection) -> Ingestion | None:
    """The oldest that waits for a worker."""
    statement = sa.select(table).where(table.c.state == pb.INGESTION_STATE_PROCESSING).order_by(table.c.id).limit(1)
    row = (await connection.execute(statement)).first()
    return None if row is None else _ingestion_of(row)


async def states(connection: AsyncConnection) -> dict[str, int]:
    rows = await connection.execute(sa.select(table.c.id, table.c.state))
    return {row.id: row.state for row in rows}


async def start_processing(connection: AsyncConnection, id: str) -> None:
    """Only out of UPLOADING: whoever finds the upload complete a second time changes nothing."""
    await connection.execute(
        table.update()
        .where(table.c.id == id, table.c.state == pb.INGESTION_STATE_UPLOADING)
        .values(state=pb.INGESTION_STATE_PROCESSING)
    )


async def save_progress(connection: AsyncConnection, id: str, processed_bytes: int, row_count: int) -> None:
    await connection.execute(
        table.update()
        .where(table.c.id == id, table.c.state == pb.INGESTION_STATE_PROCESSING)
        .values(processed_bytes=processed_bytes, row_count=row_count)
    )


async def finish(
    connection: AsyncConnection,
    id: str,
    processed_bytes: int,
    rejected_row_count: int,
    version: catalog_pb2.Version,
    delta_schema: str,
) -> None:
    await connection.execute(
        table.update()
        .where(table.c.id == id, table.c.state == pb.INGESTION_STATE_PROCESSING)
        .values(
            state=pb.INGESTION_STATE_AWAITING_APPROVAL,
            processed_bytes=processed_bytes,
            row_count=version.row_count,
            rejected_row_count=rejected_row_count,
            version=version.SerializeToString(deterministic=True),
            delta_schema=delta_schema,
        )
    )


async def approve(connection: AsyncConnection, id: str, version: catalog_pb2.Version) -> Ingestion:
    statement = (
        table.update()
        .where(table.c.id == id)
        .values(state=pb.INGESTION_STATE_APPROVED, version=version.SerializeToString(deterministic=True))
        .returning(table)
    )
    return _ingestion_of((await connection.execute(statement)).one())


async def fail(connection: AsyncConnection, id: str, reason: str, message: str) -> Ingestion:
    """Nothing of it is kept, its sample included."""
    statement = (
        table.update()
        .where(table.c.id == id)
        .values(
            state=pb.INGESTION_STATE_FAILED,
            failure_reason=reason,
            failure_message=message,
            version=None,
            delta_schema=None,
        )
        .returning(table)
    )
    return _ingestion_of((await connection.execute(statement)).one())
