"""Queries on cooperatives."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.tables import cooperative_table
from rochdale.governance.v1 import governance_pb2 as pb
from rochdale_kit.clock import to_timestamp


def cooperative_of(row: sa.Row[tuple[object, ...]]) -> pb.Cooperative:
    return pb.Cooperative(
        name=f"cooperatives/{row.id}",
        display_name=row.display_name,
        description=row.description,
        charter=pb.Charter.FromString(row.charter),
        member_count=row.member_count,
        create_time=to_timestamp(row.create_time),
    )


async def insert_cooperative(
    connection: AsyncConnection, id: str, display_name: str, description: str, charter: pb.Charter, now: dt.datetime
) -> pb.Cooperative | None:
    """The new cooperative, or None if the organization has one."""
    statement = (
        insert(cooperative_table)
        .values(
            id=id,
            display_name=display_name,
            description=description,
            charter=charter.SerializeToString(),
            member_count=0,
            create_time=now,
        )
        .on_conflict_do_nothing()
        .returning(cooperative_table)
    )
    row = (await connection.execute(statement)).first()
    return cooperative_of(row) if row is not None else None


async def cooperative(connection: AsyncConnection, id: str, lock: bool = False) -> pb.Cooperative | None:
    """One cooperative. Whoever decides about its members or rules locks it first, so that one decision follows another."""
    statement = sa.select(cooperative_table).where(cooperative_table.c.id == id)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return cooperative_of(row) if row is not None else None


async def cooperatives(connection: AsyncConnection, after: str | None, limit: int) -> list[pb.Cooperative]:
    """By id."""
    table = cooperative_table
    statement = sa.select(table).order_by(table.c.id).limit(limit)
    if after is not None:
        statement = statement.where(table.c.id > after)
    return [cooperative_of(row) for row in await connection.execute(statement)]
