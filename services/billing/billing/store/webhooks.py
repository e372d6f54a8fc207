"""The webhook inbox: what the rail told us, once each, and when it is looked into next."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.store.tables import webhook_table

_table = webhook_table


@dataclass(frozen=True)
class Webhook:
    """A hint that an object changed. Nothing else of what was sent is kept, because nothing else is believed."""

    event_id: str
    type: str
    object_id: str
    receive_time: dt.datetime
    attempts: int


async def receive(connection: AsyncConnection, event_id: str, type: str, object_id: str, now: dt.datetime) -> bool:
    """Whether it is new."""
    statement = (
        upsert(_table)
        .values(
            event_id=event_id,
            type=type,
            object_id=object_id,
            receive_time=now,
            attempts=0,
            next_time=now,
            outcome="",
        )
        .on_conflict_do_nothing()
        .returning(_table.c.event_id)
    )
    return (await connection.execute(statement)).first() is not None


async def claim(connection: AsyncConnection, now: dt.datetime, until: dt.datetime) -> Webhook | None:
    """The next hint to look into, kept from other workers until a time by which this one is done or dead."""
    due = (
        sa.select(_table.c.event_id)
        .where(_table.c.apply_time.is_(None), _table.c.next_time <= now)
        .order_by(_table.c.next_time)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    statement = (
        _table.update()
        .where(_table.c.event_id == due.scalar_subquery())
        .values(next_time=until, attempts=_table.c.attempts + 1)
        .returning(_table.c.event_id, _table.c.type, _table.c.object_id, _table.c.receive_time, _table.c.attempts)
    )
    row = (await connection.execute(statement)).first()
    return Webhook(row.event_id, row.type, row.object_id, row.receive_time, row.attempts) if row is not None else None


async def applied(connection: AsyncConnection, event_id: str, outcome: str, now: dt.datetime) -> None:
    await connection.execute(
        _table.update().where(_table.c.event_id == event_id).values(apply_time=now, outcome=outcome)
    )


async def put_off(connection: AsyncConnection, event_id: str, outcome: str, next_time: dt.datetime) -> None:
    await connection.execute(
        _table.update().where(_table.c.event_id == event_id).values(next_time=next_time, outcome=outcome)
    )
