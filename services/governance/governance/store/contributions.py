"""Queries on what members contributed: counts and hashes, never the data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.membership_tables import contribution_table
from governance.store.tables import member_table
from rochdale.data_gateway.v1.events_pb2 import MemberContribution
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit.clock import to_timestamp


def latest(datasets: Sequence[str]) -> sa.Subquery:
    """The number of the latest version of each dataset that somebody contributed to."""
    table = contribution_table
    return (
        sa.select(table.c.dataset, sa.func.max(table.c.number).label("number"))
        .where(table.c.dataset.in_(datasets))
        .group_by(table.c.dataset)
        .subquery()
    )


async def contributors(connection: AsyncConnection, datasets: Sequence[str]) -> set[str]:
    """Resource names of the members with rows in the latest version of any of these datasets."""
    table, last = contribution_table, latest(datasets)
    statement = (
        sa.select(member_table.c.cooperative_id, member_table.c.id)
        .distinct()
        .join(table, table.c.member_id == member_table.c.id)
        .join(last, sa.and_(last.c.dataset == table.c.dataset, last.c.number == table.c.number))
    )
    return {f"cooperatives/{row.cooperative_id}/members/{row.id}" for row in await connection.execute(statement)}


async def counts(connection: AsyncConnection, datasets: Sequence[str]) -> tuple[int, int]:
    """Members with rows in the latest versions of these datasets, and their rows."""
    table, last = contribution_table, latest(datasets)
    statement = sa.select(
        sa.func.count(table.c.member_id.distinct()), sa.func.coalesce(sa.func.sum(table.c.row_count), 0)
    ).join(last, sa.and_(last.c.dataset == table.c.dataset, last.c.number == table.c.number))
    members, rows = (await connection.execute(statement)).one()
    return int(members), int(rows)


async def save(
    connection: AsyncConnection,
    cooperative_id: str,
    version: str,
    contributions: Sequence[MemberContribution],
    now: dt.datetime,
) -> list[str]:
    """What members have in a version (resource name); told again it changes nothing. Ids of the members it was news of."""
    dataset, _, number = version.partition("/versions/")
    prefix = f"cooperatives/{cooperative_id}/members/"
    named = {one.member.removeprefix(prefix) for one in contributions if one.member.startswith(prefix)}
    # Whatever a gateway says, nobody gets rows who is not the cooperative's own.
    own = set(
        await connection.scalars(
            sa.select(member_table.c.id).where(
                member_table.c.cooperative_id == cooperative_id,
                member_table.c.id == sa.any_(sa.literal(sorted(named), ARRAY(sa.Text))),
            )
        )
    )
    rows = [
        {
            "member_id": one.member.removeprefix(prefix),
            "version": version,
            "dataset": dataset,
            "number": int(number),
            "row_count": one.row_count,
            "rows_hash": one.rows_hash,
            "record_time": now,
        }
        for one in contributions
        if one.member.startswith(prefix) and one.member.removeprefix(prefix) in own
    ]
    new: list[str] = []
    for start in range(0, len(rows), 2_000):
        statement = insert(contribution_table).values(rows[start : start + 2_000]).on_conflict_do_nothing()
        new += (await connection.execute(statement.returning(contribution_table.c.member_id))).scalars()
    return new


async def contributions(
    connection: AsyncConnection, member: str, before: tuple[str, int] | None, limit: int
) -> list[pb.Contribution]:
    """A member's (resource name), by dataset from the end of the alphabet, latest version first."""
    table = contribution_table
    statement = (
        sa.select(table)
        .where(table.c.member_id == member.rsplit("/", 1)[1])
        .order_by(table.c.dataset.desc(), table.c.number.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(sa.tuple_(table.c.dataset, table.c.number) < sa.tuple_(*map(sa.literal, before)))
    return [
        pb.Contribution(
            version=row.version,
            row_count=row.row_count,
            rows_hash=row.rows_hash,
            record_time=to_timestamp(row.record_time),
        )
        for row in await connection.execute(statement)
    ]
