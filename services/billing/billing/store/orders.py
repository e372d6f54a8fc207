"""Orders as rows, and the bank transfers that paid some of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.orders import Order
from billing.store.tables import bank_transfer_table, order_table
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money

_table = order_table


def order_of(row: Any) -> Order:
    return Order(
        id=row.id,
        license=row.license,
        buyer=row.buyer,
        seller=row.seller,
        amount=Money(amount_minor=row.amount_minor, currency=row.currency),
        terms_hash=row.terms_hash,
        payment_reference=row.payment_reference,
        create_time=row.create_time,
        due_time=row.due_time,
        traceparent=row.traceparent,
        state=row.state,
        closing=row.closing,
        pay_time=row.pay_time,
    )


async def insert(connection: AsyncConnection, order: Order) -> bool:
    """Whether it is new: a license has one order."""
    statement = (
        upsert(_table)
        .values(
            id=order.id,
            license=order.license,
            buyer=order.buyer,
            seller=order.seller,
            amount_minor=order.amount.amount_minor,
            currency=order.amount.currency,
            terms_hash=order.terms_hash,
            payment_reference=order.payment_reference,
            create_time=order.create_time,
            due_time=order.due_time,
            traceparent=order.traceparent,
            state=order.state,
            closing=order.closing,
            pay_time=order.pay_time,
        )
        .on_conflict_do_nothing(index_elements=["license"])
        .returning(_table.c.id)
    )
    return (await connection.execute(statement)).first() is not None


def _seen_by(organization: str | None) -> sa.ColumnElement[bool]:
    """Orders one organization may see, as buyer or as cooperative; None, the market itself, sees all."""
    if organization is None:
        return sa.true()
    return sa.or_(_table.c.buyer == organization, _table.c.seller == organization)


async def get(connection: AsyncConnection, id: str, organization: str | None = None) -> Order | None:
    row = (await connection.execute(sa.select(_table).where(_table.c.id == id, _seen_by(organization)))).first()
    return order_of(row) if row is not None else None


async def lock(connection: AsyncConnection, id: str) -> Order | None:
    """The order, held until the transaction ends. Whoever changes an order or its payments holds it first."""
    row = (await connection.execute(sa.select(_table).where(_table.c.id == id).with_for_update())).first()
    return order_of(row) if row is not None else None


async def lock_of_license(connection: AsyncConnection, license: str) -> Order | None:
    row = (await connection.execute(sa.select(_table).where(_table.c.license == license).with_for_update())).first()
    return order_of(row) if row is not None else None


async def page(
    connection: AsyncConnection,
    organization: str | None,
    before: str | None,
    limit: int,
    state: int,
    license: str,
) -> list[Order]:
    """Newest first: ids sort by time."""
    statement = sa.select(_table).where(_seen_by(organization)).order_by(_table.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(_table.c.id < before)
    if state:
        statement = statement.where(_table.c.state == state)
    if license:
        statement = statement.where(_table.c.license == license)
    return [order_of(row) for row in await connection.execute(statement)]


async def save(connection: AsyncConnection, order: Order) -> None:
    """What may change of an order. The caller holds its lock."""
    await connection.execute(
        _table.update()
        .where(_table.c.id == order.id)
        .values(state=order.state, closing=order.closing, pay_time=order.pay_time)
    )


async def to_close(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[str]:
    """Open orders that are overdue or being closed."""
    statement = (
        sa.select(_table.c.id)
        .where(
            _table.c.state == pb.ORDER_STATE_OPEN,
            sa.or_(_table.c.due_time <= now, _table.c.closing != ""),
        )
        .order_by(_table.c.due_time)
        .limit(limit)
    )
    return list((await connection.execute(statement)).scalars())


async def claim_transfer(
    connection: AsyncConnection, bank_reference: str, order_id: str, confirmed_by: str, now: dt.datetime
) -> bool:
    """Whether the bank's reference had confirmed nothing yet."""
    statement = (
        upsert(bank_transfer_table)
        .values(bank_reference=bank_reference, order_id=order_id, confirmed_by=confirmed_by, confirm_time=now)
        .on_conflict_do_nothing(index_elements=["bank_reference"])
        .returning(bank_transfer_table.c.order_id)
    )
    return (await connection.execute(statement)).first() is not None
