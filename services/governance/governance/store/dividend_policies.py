"""Queries on dividend policies: each version as it was enacted."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.tables import dividend_policy_table
from rochdale.governance.v1 import events_pb2


async def next_version(connection: AsyncConnection, cooperative_id: str) -> int:
    """The number the next policy gets. The caller holds the cooperative."""
    table = dividend_policy_table
    statement = sa.select(sa.func.coalesce(sa.func.max(table.c.version), 0)).where(
        table.c.cooperative_id == cooperative_id
    )
    last: int = (await connection.execute(statement)).scalar_one()
    return last + 1


async def insert(connection: AsyncConnection, enacted: events_pb2.DividendPolicyEnacted) -> None:
    await connection.execute(
        dividend_policy_table.insert().values(
            cooperative_id=enacted.cooperative.rsplit("/", 1)[1],
            version=enacted.version,
            proposal=enacted.proposal,
            body=enacted.SerializeToString(),
        )
    )
