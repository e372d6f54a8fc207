"""Queries on what members contributed: counts and hashes, never the data."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.membership_tables import contribution_table
from governance.store.tables import member_table


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
