"""Requests outside the mandate as rows."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from licensing.domain.mandates import WAITING
from licensing.store.tables import bare, mandate_request_table, seen_by
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import from_timestamp

_table = mandate_request_table


async def save(connection: AsyncConnection, request: pb.MandateRequest) -> None:
    """The request as it is now. The caller holds its lock, or just made it."""
    now = {"state": request.state, "body": request.SerializeToString()}
    await connection.execute(
        insert(_table)
        .values(
            id=bare(request.name),
            licensee=bare(request.licensee),
            cooperative=bare(request.cooperative),
            respond_by_time=from_timestamp(request.respond_by_time),
            **now,
        )
        .on_conflict_do_update(index_elements=["id"], set_=now)
    )


async def mandate_request(
    connection: AsyncConnection, id: str, organization: str | None, *, lock: bool = False
) -> pb.MandateRequest | None:
    """One request, as far as the organization may see it; None sees all."""
    statement = sa.select(_table.c.body).where(_table.c.id == id, seen_by(_table, organization))
    body = (await connection.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    return pb.MandateRequest.FromString(body) if body is not None else None


async def mandate_requests(
    connection: AsyncConnection, organization: str | None, before: str | None, limit: int
) -> list[pb.MandateRequest]:
    """Newest first."""
    statement = sa.select(_table.c.body).where(seen_by(_table, organization)).order_by(_table.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(_table.c.id < before)
    return [pb.MandateRequest.FromString(body) for body in (await connection.execute(statement)).scalars()]


async def unanswered(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[pb.MandateRequest]:
    """Requests whose response clock has run out, locked; those another replica holds are left to it."""
    statement = (
        sa.select(_table.c.body)
        .where(_table.c.state.in_(WAITING), _table.c.respond_by_time <= now)
        .order_by(_table.c.respond_by_time)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [pb.MandateRequest.FromString(body) for body in (await connection.execute(statement)).scalars()]
