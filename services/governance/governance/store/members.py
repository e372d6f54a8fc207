"""Queries on members."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.tables import cooperative_table, member_table
from rochdale.governance.v1 import governance_pb2 as pb
from rochdale_kit.clock import to_timestamp


@dataclass(frozen=True)
class Voter:
    """A member as a roll is taken of them. name: resource name. active: whether they did something lately."""

    name: str
    affiliations: tuple[str, ...]
    active: bool


def member_of(row: Any) -> pb.Member:
    return pb.Member(
        name=f"cooperatives/{row.cooperative_id}/members/{row.id}",
        reference=row.reference,
        join_time=to_timestamp(row.join_time),
        state=row.state,
        email=row.email,
        affiliations=row.affiliations,
        steward=row.steward,
        leave_time=to_timestamp(row.leave_time),
        statement=row.statement,
        has_key=row.key_hash is not None,
    )


async def member(connection: AsyncConnection, name: str, lock: bool = False) -> pb.Member | None:
    """One member by resource name; whoever changes a membership locks it."""
    _, cooperative_id, _, id = name.split("/")
    table = member_table
    statement = sa.select(table).where(table.c.id == id, table.c.cooperative_id == cooperative_id)
    row = (await connection.execute(statement.with_for_update(key_share=True) if lock else statement)).first()
    return member_of(row) if row is not None else None


async def voters(
    connection: AsyncConnection, cooperative_id: str, joined_before: dt.datetime, active_since: dt.datetime
) -> list[Voter]:
    """Members in good standing who had joined by then."""
    table = member_table
    statement = sa.select(table.c.id, table.c.affiliations, table.c.last_active_time).where(
        table.c.cooperative_id == cooperative_id,
        table.c.state == pb.MEMBER_STATE_ACTIVE,
        table.c.join_time <= joined_before,
    )
    return [
        Voter(
            f"cooperatives/{cooperative_id}/members/{row.id}",
            tuple(row.affiliations),
            row.last_active_time is not None and row.last_active_time >= active_since,
        )
        for row in await connection.execute(statement)
    ]


async def touch(connection: AsyncConnection, name: str, now: dt.datetime) -> None:
    """The member did something as a member."""
    await touch_all(connection, [name], now)


async def touch_all(connection: AsyncConnection, names: Collection[str], now: dt.datetime) -> None:
    """The same for many at once."""
    table = member_table
    ids = [name.rsplit("/", 1)[1] for name in names]
    for start in range(0, len(ids), 5_000):
        await connection.execute(
            table.update().where(table.c.id.in_(ids[start : start + 5_000])).values(last_active_time=now)
        )


async def insert_members(
    connection: AsyncConnection, cooperative_id: str, new: Sequence[tuple[str, str]], now: dt.datetime
) -> list[str]:
    """Adds those of (id, reference) who are no members yet, and counts them; resource names of the added, in order."""
    table = member_table
    rows = [
        {
            "id": id,
            "cooperative_id": cooperative_id,
            "reference": reference,
            "join_time": now,
            "state": pb.MEMBER_STATE_ACTIVE,
        }
        for id, reference in new
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


async def by_reference(
    connection: AsyncConnection, cooperative_id: str, reference: str, lock: bool = False
) -> pb.Member | None:
    table = member_table
    statement = sa.select(table).where(table.c.cooperative_id == cooperative_id, table.c.reference == reference)
    row = (await connection.execute(statement.with_for_update(key_share=True) if lock else statement)).first()
    return member_of(row) if row is not None else None


async def by_references(
    connection: AsyncConnection, cooperative_id: str, references: Sequence[str]
) -> dict[str, pb.Member]:
    """Members in good standing by reference, locked in the order of their ids."""
    table = member_table
    statement = (
        sa.select(table)
        .where(
            table.c.cooperative_id == cooperative_id,
            table.c.reference.in_(references),
            table.c.state == pb.MEMBER_STATE_ACTIVE,
        )
        .order_by(table.c.id)
        .with_for_update(key_share=True)
    )
    return {row.reference: member_of(row) for row in await connection.execute(statement)}


async def by_key(connection: AsyncConnection, key_hash: bytes) -> pb.Member | None:
    """Whose key has this hash, in whichever cooperative."""
    row = (await connection.execute(sa.select(member_table).where(member_table.c.key_hash == key_hash))).first()
    return member_of(row) if row is not None else None


async def key_hash(connection: AsyncConnection, name: str) -> bytes | None:
    table = member_table
    statement = sa.select(table.c.key_hash).where(table.c.id == name.rsplit("/", 1)[1])
    found: bytes | None = (await connection.execute(statement)).scalar_one_or_none()
    return found


async def insert_one(
    connection: AsyncConnection, cooperative_id: str, id: str, reference: str, now: dt.datetime, **values: object
) -> pb.Member:
    """A new person; whether they count as a member is for the caller, who counts them."""
    row = (
        await connection.execute(
            member_table.insert()
            .values(id=id, cooperative_id=cooperative_id, reference=reference, join_time=now, **values)
            .returning(member_table)
        )
    ).one()
    return member_of(row)


async def update(connection: AsyncConnection, name: str, **values: object) -> pb.Member:
    """The member with these columns changed."""
    table = member_table
    row = (
        await connection.execute(
            table.update().where(table.c.id == name.rsplit("/", 1)[1]).values(**values).returning(table)
        )
    ).one()
    return member_of(row)


async def count(connection: AsyncConnection, cooperative_id: str, change: int) -> None:
    """One member more, or less."""
    table = cooperative_table
    await connection.execute(
        table.update().where(table.c.id == cooperative_id).values(member_count=table.c.member_count + change)
    )
