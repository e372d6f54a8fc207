"""Negotiations and their steps as rows; steps are only ever added."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from licensing.domain.negotiations import MOVER, etag
from licensing.store.tables import Row, bare, negotiation_step_table, negotiation_table, seen_by
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import pricing_pb2, scope_pb2
from rochdale_kit.clock import from_timestamp, to_timestamp

_table, _steps = negotiation_table, negotiation_step_table


def _negotiation_of(row: Row) -> pb.Negotiation:
    """Without its steps."""
    name, scope = f"negotiations/{row.id}", scope_pb2.SharingScope.FromString(row.scope)
    return pb.Negotiation(
        name=name,
        offering=row.offering,
        licensee=f"licensees/{row.licensee}",
        cooperative=f"cooperatives/{row.cooperative}",
        state=row.state,
        scope=scope,
        price=scope.floor_price,
        license=row.license,
        etag=etag(name, row.steps),
        create_time=to_timestamp(row.create_time),
        expire_time=to_timestamp(row.expire_time),
        price_plan=pricing_pb2.PricePlan.FromString(row.price_plan) if row.price_plan is not None else None,
    )


async def save(connection: AsyncConnection, negotiation: pb.Negotiation, before: pb.Negotiation | None = None) -> None:
    """The negotiation as it is now, and the steps it has more than before. The caller holds its lock, or just made it."""
    id = bare(negotiation.name)
    now = {
        "state": negotiation.state,
        "scope": negotiation.scope.SerializeToString(),
        "steps": len(negotiation.steps),
        "license": negotiation.license,
        "expire_time": from_timestamp(negotiation.expire_time) if negotiation.HasField("expire_time") else None,
    }
    await connection.execute(
        insert(_table)
        .values(
            id=id,
            offering=negotiation.offering,
            licensee=bare(negotiation.licensee),
            cooperative=bare(negotiation.cooperative),
            create_time=from_timestamp(negotiation.create_time),
            price_plan=negotiation.price_plan.SerializeToString() if negotiation.HasField("price_plan") else None,
            **now,
        )
        .on_conflict_do_update(index_elements=["id"], set_=now)
    )
    new = negotiation.steps[len(before.steps) if before is not None else 0 :]
    rows = [{"negotiation": id, "number": step.number, "body": step.SerializeToString()} for step in new]
    await connection.execute(insert(_steps).values(rows))


async def negotiation(
    connection: AsyncConnection, id: str, organization: str | None, *, lock: bool = False
) -> pb.Negotiation | None:
    """One negotiation with its steps, as far as the organization may see it; None sees all."""
    statement = sa.select(_table).where(_table.c.id == id, seen_by(_table, organization))
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return await _with_steps(connection, row) if row is not None else None


async def negotiations(
    connection: AsyncConnection, organization: str | None, state: int, before: str | None, limit: int
) -> list[pb.Negotiation]:
    """Newest first, without steps; state 0 is any."""
    statement = sa.select(_table).where(seen_by(_table, organization)).order_by(_table.c.id.desc()).limit(limit)
    if state:
        statement = statement.where(_table.c.state == state)
    if before is not None:
        statement = statement.where(_table.c.id < before)
    return [_negotiation_of(row) for row in await connection.execute(statement)]


async def unanswered(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[pb.Negotiation]:
    """Negotiations whose time to answer is over, locked; those another replica holds are left to it."""
    statement = (
        sa.select(_table)
        .where(_table.c.state.in_(list(MOVER)), _table.c.expire_time <= now)
        .order_by(_table.c.expire_time)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [await _with_steps(connection, row) for row in (await connection.execute(statement)).all()]


async def _with_steps(connection: AsyncConnection, row: Row) -> pb.Negotiation:
    negotiation = _negotiation_of(row)
    statement = sa.select(_steps.c.body).where(_steps.c.negotiation == row.id).order_by(_steps.c.number)
    bodies = (await connection.execute(statement)).scalars()
    negotiation.steps.extend(pb.NegotiationStep.FromString(body) for body in bodies)
    return negotiation
