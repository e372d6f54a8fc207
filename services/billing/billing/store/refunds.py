"""Refunds as rows. Every change is made while holding the order's lock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.postings import STRIPE, Parts
from billing.domain.refunds import Refund
from billing.store.refund_tables import refund_table
from billing.store.tables import order_table
from rochdale.billing.v1 import billing_pb2 as pb

_table = refund_table
# Whose it is, is the order's: kept once.
_select = sa.select(_table, order_table.c.buyer).select_from(_table.join(order_table))


def _refund(row: Any) -> Refund:
    return Refund(
        id=row.id,
        order_id=row.order_id,
        buyer=row.buyer,
        currency=row.currency,
        parts=Parts(row.tax_minor, row.fee_minor, row.cooperative_minor),
        receivable_minor=row.receivable_minor,
        rail=row.rail,
        reason=row.reason,
        requested_by=row.requested_by,
        create_time=row.create_time,
        state=row.state,
        rail_id=row.rail_id,
        settle_time=row.settle_time,
    )


async def insert(connection: AsyncConnection, refund: Refund) -> None:
    await connection.execute(
        _table.insert().values(
            id=refund.id,
            order_id=refund.order_id,
            currency=refund.currency,
            tax_minor=refund.parts.tax_minor,
            fee_minor=refund.parts.fee_minor,
            cooperative_minor=refund.parts.cooperative_minor,
            receivable_minor=refund.receivable_minor,
            rail=refund.rail,
            reason=refund.reason,
            requested_by=refund.requested_by,
            create_time=refund.create_time,
            ask_time=refund.create_time,
            state=refund.state,
            rail_id=refund.rail_id,
            settle_time=refund.settle_time,
        )
    )


async def save(connection: AsyncConnection, refund: Refund) -> None:
    await connection.execute(
        _table.update()
        .where(_table.c.id == refund.id)
        .values(state=refund.state, rail=refund.rail, rail_id=refund.rail_id, settle_time=refund.settle_time)
    )


async def get(connection: AsyncConnection, id: str) -> Refund | None:
    row = (await connection.execute(_select.where(_table.c.id == id))).first()
    return _refund(row) if row is not None else None


async def of_order(connection: AsyncConnection, order_id: str) -> list[Refund]:
    """Oldest first: ids sort by time."""
    rows = await connection.execute(_select.where(_table.c.order_id == order_id).order_by(_table.c.id))
    return [_refund(row) for row in rows]


async def to_ask(connection: AsyncConnection, asked_before: dt.datetime, limit: int) -> list[Refund]:
    """Refunds the rail was not asked about since, longest ago first."""
    statement = (
        _select.where(
            _table.c.state == pb.REFUND_STATE_PENDING, _table.c.rail == STRIPE, _table.c.ask_time <= asked_before
        )
        .order_by(_table.c.ask_time)
        .limit(limit)
    )
    return [_refund(row) for row in await connection.execute(statement)]


async def asked(connection: AsyncConnection, ids: Iterable[str], at: dt.datetime) -> None:
    await connection.execute(_table.update().where(_table.c.id.in_(list(ids))).values(ask_time=at))
