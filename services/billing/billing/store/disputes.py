"""Disputes as rows. Every change is made while holding the order's lock."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.disputes import OPEN, Dispute
from billing.store.refund_tables import dispute_table
from billing.store.tables import order_table
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money

_table = dispute_table


def _dispute(row: Any) -> Dispute:
    return Dispute(
        id=row.id,
        order_id=row.order_id,
        rail_id=row.rail_id,
        amount=Money(amount_minor=row.amount_minor, currency=row.currency),
        reason=row.reason,
        create_time=row.create_time,
        state=row.state,
        held=Money(amount_minor=row.held_minor, currency=row.held_currency) if row.held_currency else None,
        frozen_minor=row.frozen_minor,
        evidence_due_time=row.evidence_due_time,
        evidence_time=row.evidence_time,
        close_time=row.close_time,
    )


def _changing(dispute: Dispute) -> dict[str, object]:
    return {
        "amount_minor": dispute.amount.amount_minor,
        "currency": dispute.amount.currency,
        "state": dispute.state,
        "held_minor": dispute.held.amount_minor if dispute.held is not None else 0,
        "held_currency": dispute.held.currency if dispute.held is not None else "",
        "frozen_minor": dispute.frozen_minor,
        "evidence_due_time": dispute.evidence_due_time,
        "evidence_time": dispute.evidence_time,
        "close_time": dispute.close_time,
    }


async def insert(connection: AsyncConnection, dispute: Dispute) -> None:
    await connection.execute(
        _table.insert().values(
            id=dispute.id,
            order_id=dispute.order_id,
            rail_id=dispute.rail_id,
            reason=dispute.reason,
            create_time=dispute.create_time,
            **_changing(dispute),
        )
    )


async def save(connection: AsyncConnection, dispute: Dispute) -> None:
    await connection.execute(_table.update().where(_table.c.id == dispute.id).values(**_changing(dispute)))


async def get(connection: AsyncConnection, id: str) -> Dispute | None:
    row = (await connection.execute(sa.select(_table).where(_table.c.id == id))).first()
    return _dispute(row) if row is not None else None


async def at_rail(connection: AsyncConnection, rail_id: str) -> Dispute | None:
    row = (await connection.execute(sa.select(_table).where(_table.c.rail_id == rail_id))).first()
    return _dispute(row) if row is not None else None


async def any_open(connection: AsyncConnection, order_id: str, besides: str) -> bool:
    """Whether another dispute of the order is undecided."""
    statement = (
        sa.select(sa.literal(1))
        .where(_table.c.order_id == order_id, _table.c.state.in_(OPEN), _table.c.id != besides)
        .limit(1)
    )
    return (await connection.execute(statement)).first() is not None


async def page(
    connection: AsyncConnection, organization: str | None, before: str | None, limit: int, open_only: bool
) -> list[Dispute]:
    """Newest first, of orders the organization buys or sells; None, the market itself, sees all."""
    statement = sa.select(_table).select_from(_table.join(order_table)).order_by(_table.c.id.desc()).limit(limit)
    if organization is not None:
        statement = statement.where(sa.or_(order_table.c.buyer == organization, order_table.c.seller == organization))
    if before is not None:
        statement = statement.where(_table.c.id < before)
    if open_only:
        statement = statement.where(_table.c.state.in_(OPEN))
    return [_dispute(row) for row in await connection.execute(statement)]


async def to_answer(connection: AsyncConnection, due_before: dt.datetime, limit: int) -> list[Dispute]:
    """Disputes without evidence whose time is nearly over."""
    statement = (
        sa.select(_table)
        .where(
            _table.c.state == pb.DISPUTE_STATE_NEEDS_RESPONSE,
            _table.c.evidence_time.is_(None),
            _table.c.evidence_due_time <= due_before,
        )
        .order_by(_table.c.evidence_due_time)
        .limit(limit)
    )
    return [_dispute(row) for row in await connection.execute(statement)]


async def to_look_at(connection: AsyncConnection, after: str, limit: int) -> list[Dispute]:
    """Undecided ones after an id, oldest first: their webhooks may be lost."""
    statement = (
        sa.select(_table).where(_table.c.state.in_(OPEN), _table.c.id > after).order_by(_table.c.id).limit(limit)
    )
    return [_dispute(row) for row in await connection.execute(statement)]
