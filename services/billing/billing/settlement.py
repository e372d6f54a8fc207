"""What becomes of an order and its payment when the rail was heard: one transaction, one effect, said once.

Asks the rail nothing itself; attempts.py and keeper.py do.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import invoicing, store, subscribing
from billing.domain import invoices, postings, shares
from billing.domain.ledger import Journal
from billing.domain.orders import Order
from billing.domain.payments import CANCELED, LIVE, Payment, Seen, Taken, failed, judge
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import Database
from rochdale_kit.outbox import announce
from rochdale_kit.telemetry import Telemetry, traceparent

log = logging.getLogger(__name__)

# What a sale does to the books depends on where its money is.
Booked = Callable[[postings.Sale], list[Journal]]
Also = Callable[[AsyncConnection], Awaitable[None]]


class Settlement:
    """Moves payments and orders forward. Several may run at once; the order's row lock makes one of them first."""

    def __init__(self, database: Database, telemetry: Telemetry, fee_bps: int, hold_seconds: float) -> None:
        self._database = database
        self._telemetry = telemetry
        self._fee_bps = fee_bps
        self._hold_seconds = hold_seconds

    async def payment(self, id: str) -> Payment | None:
        async with self._database.read() as connection:
            return await store.payments.get(connection, id)

    async def apply(self, payment_id: str, seen: Seen, also: Also | None = None) -> Payment:
        """Applies what the rail says; `also` is done in the same transaction. Returns the payment as it is now."""
        async with self._database.read() as connection:
            payment, order = await _pair(connection, payment_id)
        before = judge(payment, order, seen, now())
        if before.payment == payment and also is None:
            return payment
        # A sweep that finds nothing new is no part of the purchase's story.
        ends = before.payment.state not in LIVE and payment.live
        with self.purchase(order) if ends else contextlib.nullcontext():
            async with self._database.begin() as connection:
                locked = await store.orders.lock(connection, order.id)
                payment, _ = await _pair(connection, payment_id)
                assert locked is not None, "orders are never deleted"
                at = now()
                verdict = judge(payment, locked, seen, at)
                if verdict.payment != payment:
                    await store.payments.save(connection, verdict.payment)
                    await subscribing.stuck(connection, payment, verdict.payment, at)
                if verdict.incident:
                    await store.payments.add_incident(connection, payment.id, verdict.incident, at)
                    log.error("%s: %s; its money goes back", payment.name, verdict.incident)
                elif verdict.payment.refund_due and not payment.refund_due:
                    log.warning("%s took money after it was given up; its money goes back", payment.name)
                taken = verdict.payment.taken
                if taken is not None and payment.taken is None and not verdict.pays:
                    # Nothing moves at the rail without a journal, expected or not.
                    await store.ledger.post(connection, _unexpected(taken, at))
                if verdict.pays:
                    assert taken is not None, "no payment succeeds without money"
                    await self.pay(connection, locked, at, postings.STRIPE, _charged(taken, at), taken.charge_id)
                if also is not None:
                    await also(connection)
        return verdict.payment

    async def pay(
        self, connection: AsyncConnection, order: Order, at: dt.datetime, rail: str, booked: Booked, charge_id: str = ""
    ) -> Order:
        """Makes an open order paid: its share, its journals, its invoice, and says so. The caller holds its lock.

        rail is postings.STRIPE or postings.BANK, charge_id the charge's for the first.
        """
        share = shares.share_of(order, new_id("shr"), rail, charge_id, self._fee_bps, self._hold_seconds, at)
        await store.shares.insert(connection, share)
        await store.ledger.post(connection, booked(share.sale()))
        order = await subscribing.begin(connection, order, at)
        paid = replace(order, state=pb.ORDER_STATE_PAID, closing="", pay_time=at)
        paid = await invoicing.issue(connection, paid, at)
        await store.orders.save(connection, paid)
        await announce(connection, events_pb2.OrderPaid(order=paid.resource()))
        await subscribing.over(connection, paid, at)
        return paid

    @contextlib.contextmanager
    def purchase(self, order: Order) -> Iterator[None]:
        """Continues the trace in which the order was made, so that a purchase is one trace; what we were doing when we
        heard of it is linked."""
        with self._telemetry.span("payment settled", parent=order.traceparent or "", link=traceparent()):
            yield


async def _pair(connection: AsyncConnection, payment_id: str) -> tuple[Payment, Order]:
    payment = await store.payments.get(connection, payment_id)
    assert payment is not None, "the caller has seen this payment, and none is ever deleted"
    order = await store.orders.get(connection, payment.order_id)
    assert order is not None, "a payment belongs to an order"
    return payment, order


def _charged(taken: Taken, at: dt.datetime) -> Booked:
    def booked(sale: postings.Sale) -> list[Journal]:
        if taken.amount.currency == sale.currency:
            return postings.charge(sale, taken.charge_id, taken.transaction_id, taken.processing_minor, at)
        return postings.exchanged_charge(
            sale,
            taken.charge_id,
            taken.transaction_id,
            taken.amount.amount_minor,
            taken.processing_minor,
            taken.amount.currency,
            at,
        )

    return booked


def _unexpected(taken: Taken, at: dt.datetime) -> list[Journal]:
    return postings.unexpected_charge(
        taken.charge_id,
        taken.transaction_id,
        taken.amount.amount_minor,
        taken.processing_minor,
        taken.amount.currency,
        at,
    )


async def make(connection: AsyncConnection, order: Order) -> bool:
    """Writes a new order down; one that costs nothing is paid, which is said at once. False when it was there before."""
    if order.pay_time is not None:
        order = await subscribing.begin(connection, order, order.pay_time)
    if not await store.orders.insert(connection, order):
        return False
    if order.state == pb.ORDER_STATE_PAID:
        await announce(connection, events_pb2.OrderPaid(order=order.resource()))
    return True


async def close(connection: AsyncConnection, order: Order, why: str) -> bool:
    """Closes an open order unpaid if nobody can be paying it; otherwise notes that it is to be closed.

    The caller holds its lock. Returns whether it is closed.
    """
    live = await store.payments.live_of(connection, order.id)
    if live is not None and live.can_be_paid_elsewhere:
        if order.closing != why:
            await store.orders.save(connection, replace(order, closing=why))
        return False
    if live is not None:
        await store.payments.save(connection, failed(live, CANCELED, now()))
    canceled = replace(order, state=pb.ORDER_STATE_CANCELED, closing=why)
    # What was invoiced and is owed no more is taken back by a document as well.
    await invoicing.credit(
        connection, order, invoices.CANCELED, order.amount.amount_minor, order.tax_minor, why.replace("_", " "), now()
    )
    await store.orders.save(connection, canceled)
    await announce(connection, events_pb2.OrderCanceled(order=canceled.resource()))
    return True
