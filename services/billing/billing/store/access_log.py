"""What left under a license, added up by version and day."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.store.refund_tables import access_day_table
from billing.store.tables import order_table

_table = access_day_table


@dataclass(frozen=True)
class AccessDay:
    """One version's use under one license on one day, in UTC."""

    version: str
    day: dt.date
    listed_files: int
    sent_bytes: int
    first_time: dt.datetime
    last_time: dt.datetime


async def add(
    connection: AsyncConnection, license: str, version: str, listed_files: int, sent_bytes: int, at: dt.datetime
) -> None:
    """Adds one use. Called once for each; the inbox sees to that."""
    new = upsert(_table).values(
        license=license,
        version=version,
        day=at.date(),
        listed_files=listed_files,
        sent_bytes=sent_bytes,
        first_time=at,
        last_time=at,
    )
    await connection.execute(
        new.on_conflict_do_update(
            index_elements=["license", "version", "day"],
            set_={
                "listed_files": _table.c.listed_files + new.excluded.listed_files,
                "sent_bytes": _table.c.sent_bytes + new.excluded.sent_bytes,
                "first_time": sa.func.least(_table.c.first_time, new.excluded.first_time),
                "last_time": sa.func.greatest(_table.c.last_time, new.excluded.last_time),
            },
        )
    )


async def of_license(connection: AsyncConnection, license: str) -> list[AccessDay]:
    """By day."""
    statement = sa.select(_table).where(_table.c.license == license).order_by(_table.c.day, _table.c.version)
    return [
        AccessDay(row.version, row.day, row.listed_files, row.sent_bytes, row.first_time, row.last_time)
        for row in await connection.execute(statement)
    ]


async def seller_of(connection: AsyncConnection, license: str) -> str | None:
    """Whose data a license is for, "valley-health"; None for a license that was not heard of yet."""
    statement = sa.select(order_table.c.seller).where(order_table.c.license == license).limit(1)
    return (await connection.execute(statement)).scalar_one_or_none()
