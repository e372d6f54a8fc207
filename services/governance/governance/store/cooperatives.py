"""Queries on cooperatives."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

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
        signing_keys=[pb.CooperativeKey.FromString(key) for key in row.signing_keys],
    )


async def insert_cooperative(
    connection: AsyncConnection,
    id: str,
    display_name: str,
    description: str,
    charter: pb.Charter,
    keys: Sequence[pb.CooperativeKey],
    now: dt.datetime,
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
            signing_keys=[key.SerializeToString() for key in keys],
        )
        .on_conflict_do_nothing()
        .returning(cooperative_table)
    )
    row = (await connection.execute(statement)).first()
    return cooperative_of(row) if row is not None else None


async def cooperative(connection: AsyncConnection, id: str, lock: bool = False) -> pb.Cooperative | None:
    """One cooperative. Whoever decides about its members or rules locks it first, so that one decision follows another."""
    statement = sa.select(cooperative_table).where(cooperative_table.c.id == id)
    # Not against those who only refer to it: a proposal's own lock may be held while one is drafted in its place.
    row = (await connection.execute(statement.with_for_update(key_share=True) if lock else statement)).first()
    return cooperative_of(row) if row is not None else None


async def add_key(connection: AsyncConnection, id: str, key: pb.CooperativeKey) -> None:
    table = cooperative_table
    await connection.execute(
        table.update()
        .where(table.c.id == id)
        .values(signing_keys=sa.func.array_append(table.c.signing_keys, key.SerializeToString()))
    )


async def set_charter(connection: AsyncConnection, id: str, charter: pb.Charter) -> None:
    table = cooperative_table
    await connection.execute(table.update().where(table.c.id == id).values(charter=charter.SerializeToString()))


async def cooperatives(connection: AsyncConnection, after: str | None, limit: int) -> list[pb.Cooperative]:
    """By id."""
    table = cooperative_table
    statement = sa.select(table).order_by(table.c.id).limit(limit)
    if after is not None:
        statement = statement.where(table.c.id > after)
    return [cooperative_of(row) for row in await connection.execute(statement)]
