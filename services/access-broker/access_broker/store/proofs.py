"""Reports of proving."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from access_broker.store.tables import proof_report_table
from rochdale.access_broker.v1 import access_broker_pb2 as pb


async def insert_report(connection: AsyncConnection, report: pb.ProofReport, cooperative: str | None) -> None:
    """cooperative: whose grants were proved, None for all."""
    await connection.execute(
        proof_report_table.insert().values(
            id=report.name.removeprefix("proofReports/"), cooperative=cooperative, body=report.SerializeToString()
        )
    )


async def reports(
    connection: AsyncConnection, cooperative: str | None, before: str | None, limit: int
) -> list[pb.ProofReport]:
    """Newest first. cooperative: only those that proved its grants, alone or among all; None for every report."""
    table = proof_report_table
    statement = sa.select(table.c.body).order_by(table.c.id.desc()).limit(limit)
    if cooperative is not None:
        statement = statement.where(sa.or_(table.c.cooperative.is_(None), table.c.cooperative == cooperative))
    if before is not None:
        statement = statement.where(table.c.id < before)
    return [pb.ProofReport.FromString(body) for body in await connection.scalars(statement)]
