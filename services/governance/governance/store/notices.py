"""Queries on notices: what members were told, and what still has to be mailed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.membership_tables import notice_table
from governance.store.tables import member_table
from rochdale.governance.v1 import governance_pb2
from rochdale_kit.clock import new_id

_CHUNK = 5_000


async def tell(
    connection: AsyncConnection, cooperative_id: str, kind: int, subject: str, text: str, about: str, now: dt.datetime
) -> None:
    """Tells every member in good standing."""
    table = member_table
    statement = sa.select(table.c.id, table.c.email).where(
        table.c.cooperative_id == cooperative_id, table.c.state == governance_pb2.MEMBER_STATE_ACTIVE
    )
    told = [(row.id, row.email) for row in await connection.execute(statement)]
    await _insert(connection, told, kind, subject, text, about, now)


async def tell_one(
    connection: AsyncConnection, member: str, kind: int, subject: str, text: str, about: str, now: dt.datetime
) -> None:
    """Tells one member. member: resource name."""
    table = member_table
    statement = sa.select(table.c.id, table.c.email).where(table.c.id == member.rsplit("/", 1)[1])
    told = [(row.id, row.email) for row in await connection.execute(statement)]
    await _insert(connection, told, kind, subject, text, about, now)


async def _insert(
    connection: AsyncConnection,
    told: Sequence[tuple[str, str]],
    kind: int,
    subject: str,
    text: str,
    about: str,
    now: dt.datetime,
) -> None:
    for start in range(0, len(told), _CHUNK):
        rows = [
            {
                "id": new_id("not"),
                "member_id": id,
                "kind": kind,
                "subject": subject,
                "text": text,
                "about": about,
                "create_time": now,
                "mail_time": now if email else None,
                "mail_attempts": 0,
            }
            for id, email in told[start : start + _CHUNK]
        ]
        await connection.execute(notice_table.insert(), rows)
