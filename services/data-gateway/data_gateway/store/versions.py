"""Queries on approved versions."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.ingest import DataFile
from data_gateway.store.tables import dataset_number_table, ingestion_table, version_table
from rochdale.catalog.v1 import catalog_pb2


@dataclass(frozen=True)
class Version:
    """An approved version: its description, and the ingestion whose folder holds its files. dataset is a resource name."""

    dataset: str
    number: int
    ingestion_id: str
    document: catalog_pb2.Version
    delta_schema: str
    # How often rows of erased members were taken out, what the stored files are then, and whose rows are missing.
    purge_count: int = 0
    stored_files: tuple[DataFile, ...] | None = None
    purged: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.dataset}/versions/{self.number}"

    # Asked while bytes flow, and there may be thousands of columns.
    @cached_property
    def member_column(self) -> str | None:
        return next((column.name for column in self.document.columns if column.member_pseudonym), None)

    @property
    def files(self) -> tuple[DataFile, ...]:
        """The files as they are stored now."""
        if self.stored_files is not None:
            return self.stored_files
        return self.published_files

    @cached_property
    def published_files(self) -> tuple[DataFile, ...]:
        """The files as the market was told of them."""
        return tuple(DataFile(one.path, one.sha256, one.size_bytes, one.row_count) for one in self.document.files)


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


async def get(connection: AsyncConnection, dataset: str, number: int, lock: bool = False) -> Version | None:
    table = version_table
    statement = sa.select(table).where(table.c.dataset == dataset, table.c.number == number)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return None if row is None else _version_of(row)


def _version_of(row: sa.Row[tuple[object, ...]]) -> Version:
    values = row._mapping
    stored = values["stored_files"]
    return Version(
        dataset=values["dataset"],
        number=values["number"],
        ingestion_id=values["ingestion_id"],
        document=catalog_pb2.Version.FromString(values["document"]),
        delta_schema=values["delta_schema"],
        purge_count=values["purge_count"],
        stored_files=None if stored is None else tuple(DataFile(**one) for one in json.loads(stored)),
        purged=frozenset(json.loads(values["purged"] or "[]")),
    )


async def without_contributions(connection: AsyncConnection) -> Version | None:
    """A version of which it was not worked out yet whose rows are where."""
    table = version_table
    statement = sa.select(table).where(table.c.contributions_time.is_(None)).limit(1)
    row = (await connection.execute(statement)).first()
    return None if row is None else _version_of(row)


async def set_contributed(connection: AsyncConnection, version: Version, now: dt.datetime) -> None:
    table = version_table
    await connection.execute(
        table.update()
        .where(table.c.dataset == version.dataset, table.c.number == version.number)
        .values(contributions_time=now)
    )


async def latest_of_each(connection: AsyncConnection) -> list[Version]:
    """The latest version of every dataset, once it is known whose rows are where in it."""
    table, other = version_table, version_table.alias()
    latest = sa.select(sa.func.max(other.c.number)).where(other.c.dataset == table.c.dataset).scalar_subquery()
    rows = await connection.execute(
        sa.select(table).where(table.c.number == latest, table.c.contributions_time.is_not(None))
    )
    return [_version_of(row) for row in rows]


async def purge(
    connection: AsyncConnection, version: Version, files: Sequence[DataFile], purged: Collection[str]
) -> None:
    """The stored files are others now, without these members' rows; and so the sample is gone."""
    table = version_table
    document = catalog_pb2.Version()
    document.CopyFrom(version.document)
    document.ClearField("sample_json")
    described = document.SerializeToString(deterministic=True)
    await connection.execute(
        table.update()
        .where(table.c.dataset == version.dataset, table.c.number == version.number)
        .values(
            purge_count=version.purge_count + 1,
            stored_files=json.dumps([asdict(one) for one in files]),
            purged=json.dumps(sorted(version.purged.union(purged))),
            document=described,
        )
    )
    await connection.execute(
        ingestion_table.update().where(ingestion_table.c.id == version.ingestion_id).values(version=described)
    )


async def every_purged(connection: AsyncConnection) -> list[Version]:
    """Versions whose stored files were changed."""
    rows = await connection.execute(sa.select(version_table).where(version_table.c.purge_count > 0))
    return [_version_of(row) for row in rows]


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
