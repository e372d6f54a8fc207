"""Queries on approved versions."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.store.tables import dataset_number_table, version_table
from rochdale.catalog.v1 import catalog_pb2


@dataclass(frozen=True)
class Version:
    """An approved version: its description, and the ingestion whose folder holds its files. dataset is a resource name."""

    dataset: str
    number: int
    ingestion_id: str
    document: catalog_pb2.Version
    delta_schema: str


async def next_number(connection: AsyncConnection, dataset: str) -> int:
    """The next number of a dataset. The row stays locked until the commit, so there is no gap, whoever rolls back."""
    table = dataset_number_table
    statement = (
        insert(table)
        .values(dataset=dataset, last_number=1)
        .on_conflict_do_update(index_elements=["dataset"], set_={"last_number": table.c.last_number + 1})
        .returning(table.c.last_number)
    )
    return int((await connection.execute(statement)).scalar_one())


async def insert_version(connection: AsyncConnection, version: Version, now: dt.datetime) -> None:
    await connection.execute(
        version_table.insert().values(
            dataset=version.dataset,
            number=version.number,
            ingestion_id=version.ingestion_id,
            document=version.document.SerializeToString(deterministic=True),
            delta_schema=version.delta_schema,
            approve_time=now,
        )
    )


async def get(connection: AsyncConnection, dataset: str, number: int) -> Version | None:
    table = version_table
    row = (
        await connection.execute(sa.select(table).where(table.c.dataset == dataset, table.c.number == number))
    ).first()
    if row is None:
        return None
    document = catalog_pb2.Version.FromString(row.document)
    return Version(row.dataset, row.number, row.ingestion_id, document, row.delta_schema)


async def member_columns(connection: AsyncConnection, dataset: str) -> set[str]:
    """The columns that stood for members in any approved version of a dataset."""
    statement = sa.select(version_table.c.document).where(version_table.c.dataset == dataset)
    documents = (await connection.execute(statement)).scalars()
    columns = (column for document in documents for column in catalog_pb2.Version.FromString(document).columns)
    return {column.name for column in columns if column.member_pseudonym}


async def latest_number(connection: AsyncConnection, dataset: str, first: int, last: int) -> int | None:
    """The latest number in an interval; last 0 leaves it open."""
    table = version_table
    statement = sa.select(sa.func.max(table.c.number)).where(table.c.dataset == dataset, table.c.number >= first)
    if last:
        statement = statement.where(table.c.number <= last)
    number = (await connection.execute(statement)).scalar_one()
    return None if number is None else int(number)
