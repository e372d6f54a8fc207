"""Queries on members."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.tables import cooperative_table, member_table
from rochdale.governance.v1 import governance_pb2 as pb
from rochdale_kit.clock import to_timestamp


def member_of(row: sa.Row[tuple[object, ...]]) -> pb.Member:
    return pb.Member(
        name=f"cooperatives/{row.cooperative_id}/members/{row.id}",
        reference=row.reference,
        join_time=to_timestamp(row.join_time),
    )


async def insert_members(
    connection: AsyncConnection, cooperative_id: str, new: Sequence[tuple[str, str]], now: dt.datetime
) -> list[str]:
    """Adds those of (id, reference) who are no members yet, and counts them; resource names of the added, in order."""
    table = member_table
    rows = [
        {"id": id, "cooperative_id": cooperative_id, "reference": reference, "join_time": now} for id, reference in new
    ]
    statement = insert(table).values(rows).on_conflict_do_nothing(index_elements=["cooperative_id", "reference"])
    added = sorted(row.id for row in await connection.execute(statement.returning(table.c.id)))
    await connection.execute(
        cooperative_table.update()
        .where(cooperative_table.c.id == cooperative_id)
        .values(member_count=cooperative_table.c.member_count + len(added))
    )
    return [f"cooperatives/{cooperative_id}/members/{id}" for id in added]


async def members(connection: AsyncConnection, cooperative_id: str, after: str | None, limit: int) -> list[pb.Member]:
    """By reference."""
    table = member_table
    statement = (
        sa.select(table).where(table.c.cooperative_id == cooperative_id).order_by(table.c.reference).limit(limit)
    )
    if after is not None:
        statement = statement.where(table.c.reference > after)
    return [member_of(row) for row in await connection.execute(statement)]
