"""Payments as rows. Every change is made while holding the order's lock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.payments import LIVE, Payment, Taken
from billing.store.tables import incident_table, order_table, payment_table
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money

_table = payment_table
_CARDS = (pb.PAYMENT_METHOD_PAYMENT_INTENT, pb.PAYMENT_METHOD_CHECKOUT, pb.PAYMENT_METHOD_SAVED)
# What a payment collects and its reference are the order's: kept once.
_select = sa.select(
    _table, order_table.c.amount_minor, order_table.c.currency, order_table.c.payment_reference
).select_from(_table.join(order_table))


def payment_of(row: Any) -> Payment:
    return Payment(
        id=row.id,
        order_id=row.order_id,
        method=row.method,
        state=row.state,
        amount=Money(amount_minor=row.amount_minor, currency=row.currency),
        payment_reference=row.payment_reference,
        create_time=row.create_time,
        success_url=row.success_url,
        cancel_url=row.cancel_url,
        intent_id=row.intent_id,
        client_secret=row.client_secret,
        session_id=row.session_id,
        checkout_url=row.checkout_url,
        failure_code=row.failure_code,
        refund_due=row.refund_due,
        refund_id=row.refund_id,
        settle_time=row.settle_time,
        taken=_taken(row) if row.transaction_id else None,
        customer_id=row.customer_id,
        method_id=row.method_id,
        action_required=row.action_required,
    )


def _taken(row: Any) -> Taken:
    return Taken(
        charge_id=row.charge_id,
        transaction_id=row.transaction_id,
        amount=Money(amount_minor=row.taken_minor, currency=row.taken_currency),
        processing_minor=row.processing_minor,
        available_time=row.available_time,
    )


def _changing(payment: Payment) -> dict[str, object]:
    taken = payment.taken
    return {
        "state": payment.state,
        "intent_id": payment.intent_id,
        "client_secret": payment.client_secret,
        "session_id": payment.session_id,
        "checkout_url": payment.checkout_url,
        "failure_code": payment.failure_code,
        "refund_due": payment.refund_due,
        "refund_id": payment.refund_id,
        "settle_time": payment.settle_time,
        "action_required": payment.action_required,
        "charge_id": taken.charge_id if taken else "",
        "transaction_id": taken.transaction_id if taken else "",
        "taken_minor": taken.amount.amount_minor if taken else 0,
        "taken_currency": taken.amount.currency if taken else "",
        "processing_minor": taken.processing_minor if taken else 0,
        "available_time": taken.available_time if taken else None,
    }


async def insert(connection: AsyncConnection, payment: Payment) -> None:
    await connection.execute(
        _table.insert().values(
            id=payment.id,
            order_id=payment.order_id,
            method=payment.method,
            success_url=payment.success_url,
            cancel_url=payment.cancel_url,
            customer_id=payment.customer_id,
            method_id=payment.method_id,
            create_time=payment.create_time,
            ask_time=payment.create_time,
            **_changing(payment),
        )
    )


async def save(connection: AsyncConnection, payment: Payment) -> None:
    await connection.execute(_table.update().where(_table.c.id == payment.id).values(**_changing(payment)))


async def get(connection: AsyncConnection, id: str) -> Payment | None:
    row = (await connection.execute(_select.where(_table.c.id == id))).first()
    return payment_of(row) if row is not None else None


async def live_of(connection: AsyncConnection, order_id: str) -> Payment | None:
    """The attempt that may still succeed; the database allows one."""
    row = (await connection.execute(_select.where(_table.c.order_id == order_id, _table.c.state.in_(LIVE)))).first()
    return payment_of(row) if row is not None else None


async def succeeded(connection: AsyncConnection, order_id: str) -> Payment | None:
    """The payment that paid an order; the database allows one."""
    statement = _select.where(_table.c.order_id == order_id, _table.c.state == pb.PAYMENT_STATE_SUCCEEDED)
    row = (await connection.execute(statement)).first()
    return payment_of(row) if row is not None else None


async def to_clear(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[Payment]:
    """Payments whose money the rail lets us use by now, and whose journal does not say so yet. Held, and skipped where
    another replica holds them."""
    statement = (
        _select.where(_table.c.available_time <= now, _table.c.clear_time.is_(None))
        .order_by(_table.c.available_time)
        .limit(limit)
        .with_for_update(of=_table, skip_locked=True)
    )
    return [payment_of(row) for row in await connection.execute(statement)]


async def cleared(connection: AsyncConnection, ids: Iterable[str], now: dt.datetime) -> None:
    await connection.execute(_table.update().where(_table.c.id.in_(list(ids))).values(clear_time=now))


async def to_ask(
    connection: AsyncConnection, states: Iterable[int], asked_before: dt.datetime, limit: int
) -> list[Payment]:
    """Card payments in these states that the rail was not asked about since, longest ago first."""
    statement = (
        _select.where(_table.c.state.in_(list(states)), _table.c.method.in_(_CARDS), _table.c.ask_time <= asked_before)
        .order_by(_table.c.ask_time)
        .limit(limit)
    )
    return [payment_of(row) for row in await connection.execute(statement)]


async def asked(connection: AsyncConnection, ids: Iterable[str], now: dt.datetime) -> None:
    await connection.execute(_table.update().where(_table.c.id.in_(list(ids))).values(ask_time=now))


async def to_refund(connection: AsyncConnection, limit: int) -> list[Payment]:
    """Payments whose money must go back, those that the rail was asked about longest ago first."""
    statement = _select.where(_table.c.refund_due).order_by(_table.c.ask_time, _table.c.id).limit(limit)
    return [payment_of(row) for row in await connection.execute(statement)]


async def add_incident(connection: AsyncConnection, payment_id: str, detail: str, now: dt.datetime) -> None:
    """Something a person must look at."""
    await connection.execute(
        upsert(incident_table)
        .values(payment_id=payment_id, detail=detail, create_time=now)
        .on_conflict_do_nothing(index_elements=["payment_id"])
    )
