"""Orders as rows. Transfers of the bank are in transfers.py."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.orders import Order
from billing.store.tables import order_table
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money

_table = order_table


_LICENSE = pb.ORDER_KIND_LICENSE


def order_of(row: Any) -> Order:
    billed = pb.Order.FromString(row.billed)
    return Order(
        id=row.id,
        kind=row.kind,
        license=row.license,
        buyer=row.buyer,
        seller=row.seller,
        lines=tuple(billed.lines),
        tax_lines=tuple(billed.tax_lines),
        net=Money(amount_minor=row.net_minor, currency=row.currency),
        amount=Money(amount_minor=row.amount_minor, currency=row.currency),
        terms_hash=row.terms_hash,
        quote_hash=row.quote_hash,
        payment_reference=row.payment_reference,
        create_time=row.create_time,
        due_time=row.due_time,
        traceparent=row.traceparent,
        state=row.state,
        closing=row.closing,
        pay_time=row.pay_time,
        period_start_time=row.period_start_time,
        period_end_time=row.period_end_time,
        refunded_minor=row.refunded_minor,
        disputed=row.disputed,
        invoice_number=row.invoice_number,
    )


def _changing(order: Order) -> dict[str, object]:
    return {
        "state": order.state,
        "closing": order.closing,
        "pay_time": order.pay_time,
        "period_start_time": order.period_start_time,
        "period_end_time": order.period_end_time,
        "refunded_minor": order.refunded_minor,
        "disputed": order.disputed,
        "invoice_number": order.invoice_number,
    }


async def insert(connection: AsyncConnection, order: Order) -> bool:
    """Whether it is new: a license has one order of its own, and one of each other kind for a period."""
    statement = upsert(_table).values(
        id=order.id,
        kind=order.kind,
        license=order.license,
        buyer=order.buyer,
        seller=order.seller,
        billed=pb.Order(lines=order.lines, tax_lines=order.tax_lines).SerializeToString(),
        net_minor=order.net.amount_minor,
        amount_minor=order.amount.amount_minor,
        currency=order.amount.currency,
        terms_hash=order.terms_hash,
        quote_hash=order.quote_hash,
        payment_reference=order.payment_reference,
        create_time=order.create_time,
        due_time=order.due_time,
        traceparent=order.traceparent,
        **_changing(order),
    )
    # Named, because another conflict, such as a payment reference drawn twice, must not read as "it is there already".
    if order.kind == _LICENSE:
        statement = statement.on_conflict_do_nothing(
            index_elements=["license"], index_where=sa.text(f"kind = {_LICENSE:d}")
        )
    else:
        statement = statement.on_conflict_do_nothing(
            index_elements=["license", "kind", "period_start_time"], index_where=sa.text(f"kind <> {_LICENSE:d}")
        )
    return (await connection.execute(statement.returning(_table.c.id))).first() is not None


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
    """The order that a license itself made, held as `lock` does."""
    statement = sa.select(_table).where(_table.c.license == license, _table.c.kind == _LICENSE).with_for_update()
    row = (await connection.execute(statement)).first()
    return order_of(row) if row is not None else None


async def of_references(connection: AsyncConnection, references: Collection[str]) -> list[Order]:
    rows = await connection.execute(sa.select(_table).where(_table.c.payment_reference.in_(references)))
    return [order_of(row) for row in rows]


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
    await connection.execute(_table.update().where(_table.c.id == order.id).values(**_changing(order)))


async def to_close(connection: AsyncConnection, now: dt.datetime, limit: int, besides: Collection[str]) -> list[str]:
    """Open orders that are overdue or being closed, without some."""
    statement = (
        sa.select(_table.c.id)
        .where(
            _table.c.state == pb.ORDER_STATE_OPEN,
            sa.or_(_table.c.due_time <= now, _table.c.closing != ""),
            _table.c.id.not_in(besides),
        )
        .order_by(_table.c.due_time)
        .limit(limit)
    )
    return list((await connection.execute(statement)).scalars())
