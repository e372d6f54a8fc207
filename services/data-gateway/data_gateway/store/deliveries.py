"""Queries on which files with members' rows went under which license."""

from __future__ import annotations

import datetime as dt
import json
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.ingest import DataFile
from data_gateway.store.tables import delivery_table, selection_table
from data_gateway.store.versions import Version


@dataclass(frozen=True)
class Delivered:
    """Files as a licensee got them; excluded are the pseudonyms whose rows are not in them."""

    kind: str
    files: tuple[DataFile, ...]
    excluded: frozenset[str]


@dataclass(frozen=True)
class Delivery:
    """Some files of a version, under one license. dataset is a resource name."""

    dataset: str
    number: int
    delivered: Delivered


async def save(
    connection: AsyncConnection, license: str, version: Version, delivered: Delivered, now: dt.datetime
) -> None:
    """Keeps a delivery; the same again changes nothing."""
    where = {"dataset": version.dataset, "number": version.number, "kind": delivered.kind}
    await connection.execute(
        insert(selection_table)
        .values(
            **where,
            files=pack([asdict(one) for one in delivered.files]),
            excluded=pack(sorted(delivered.excluded)),
        )
        .on_conflict_do_nothing()
    )
    await connection.execute(
        insert(delivery_table).values(license=license, **where, first_time=now).on_conflict_do_nothing()
    )


async def of_license(connection: AsyncConnection, license: str) -> list[Delivery]:
    """By version, first delivery first."""
    one, other = delivery_table, selection_table
    statement = (
        sa.select(other)
        .join(
            one, sa.and_(one.c.dataset == other.c.dataset, one.c.number == other.c.number, one.c.kind == other.c.kind)
        )
        .where(one.c.license == license)
        .order_by(one.c.dataset, one.c.number, one.c.first_time, one.c.kind)
    )
    return [
        Delivery(
            row.dataset,
            row.number,
            Delivered(row.kind, tuple(DataFile(**file) for file in unpack(row.files)), frozenset(unpack(row.excluded))),
        )
        for row in await connection.execute(statement)
    ]


def pack(value: object) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def unpack(packed: bytes) -> Any:
    return json.loads(zlib.decompress(packed))
