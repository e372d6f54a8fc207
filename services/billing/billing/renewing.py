"""Subscriptions as time goes by: the next period's order, the order for use, and what is done while one stays unpaid.

Steps like the keeper's: each is safe to repeat, safe beside another replica's, and safe to die in. What is decided is
written in one transaction; the rail is asked outside of any.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import metering, standing, store, subscribing
from billing.attempts import Attempts
from billing.domain import orders, subscriptions, usage
from billing.domain.orders import Order
from billing.domain.payments import Payment
from billing.domain.pricing import Period, least_charge_minor
from billing.domain.references import REFERENCES, payment_reference
from billing.domain.standing import Cause
from billing.domain.subscriptions import Due, Dunning, Stage, Subscription, Verdict, dun
from billing.domain.taxes import TaxFacts
from billing.keeper import BATCH, each, patiently
from billing.rail import RailUnavailable
from billing.settlement import close, make
from billing.store.usage import UsePeriod
from billing.tax import TaxAdapter
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.database import Database
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)


class Renewing:
    """use_wait: how long after a period what was used in it may still be told for its own order."""

    def __init__(
        self,
        database: Database,
        attempts: Attempts,
        tax: TaxAdapter,
        rules: Dunning,
        use_wait: dt.timedelta,
        cards: bool,
        round_seconds: float,
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._tax = tax
        self._rules = rules
        self._use_wait = use_wait
        self._cards = cards
        self._round_seconds = round_seconds

    async def run(self) -> None:
        """Until canceled."""
        while True:
            await patiently(self.step)
            await asyncio.sleep(self._round_seconds)

    async def step(self, at: dt.datetime | None = None) -> None:
        """Everything that is due by now, or by another time; done again, it changes nothing."""
        moment = at or now()
        async with self._database.read() as connection:
            renewals = await store.subscriptions.to_renew(connection, moment, BATCH)
        await each(renewals, lambda license: self._renew(license, moment))
        async with self._database.read() as connection:
            periods = await store.usage.to_bill(connection, moment, BATCH)
        await each(periods, lambda period: self._bill_use(period, moment))
        async with self._database.read() as connection:
            dues = await store.subscriptions.to_dun(connection, moment, BATCH)
        await each(dues, lambda order_id: self._pursue(order_id, moment))

    # Periods.

    async def _renew(self, license: str, at: dt.datetime) -> None:
        """Begins the period that follows, or ends the subscription with its last."""
        async with self._database.begin() as connection:
            subscription = await store.subscriptions.lock(connection, license)
            assert subscription is not None, "subscriptions are never deleted"
            waits = subscription.state == pb.SUBSCRIPTION_STATE_SUSPENDED
            if not subscription.begun or subscription.ended or waits or subscription.period.end > at:
                return
            period = subscription.period
            if subscription.in_last_period:
                canceled = subscription.cancel_time is not None and period.end < subscription.term_end
                reason = subscriptions.CANCELED if canceled else subscriptions.LICENSE_ENDED
                await subscribing.end(connection, subscription, reason, self._use_wait, period.end)
                if canceled:
                    # A license that ends as agreed is ended by licensing itself.
                    await standing.add(connection, license, Cause.CANCELED, at)
                return
            if subscription.plan.metered:
                await store.usage.over(connection, UsePeriod(license, period, period.end + self._use_wait))
            subscription = replace(subscription, period_index=subscription.period_index + 1)
            await store.subscriptions.save(connection, subscription)
            price_minor, part = subscription.price_of_period(subscription.period)
            if price_minor:
                start, end = (f"{moment:%Y-%m-%d}" for moment in (subscription.period.start, subscription.period.end))
                text = f"License {license}, {start} to {end}" + (f", {part}" if part else "")
                amount = Money(amount_minor=price_minor, currency=subscription.price.currency)
                line = pb.OrderLine(description=text, amount=amount)
                await self._make(connection, subscription, pb.ORDER_KIND_PERIOD, [line], subscription.period, at)
            await metering.settle_caps(connection, subscription, at)

    async def _bill_use(self, use_period: UsePeriod, at: dt.datetime) -> None:
        """Makes the order for what was used in a period, and for what was told too late for an earlier one.

        What is less than a card can be charged waits for the next order, as long as there will be one.
        """
        async with self._database.begin() as connection:
            subscription = await store.subscriptions.lock(connection, use_period.license)
            assert subscription is not None, "subscriptions are never deleted"
            if not await store.usage.waits_for_bill(connection, use_period):
                return
            await store.usage.billed(connection, use_period, at)
            tallies = await store.usage.tallies(connection, subscription.license)
            found = usage.lines(subscription.plan, tallies, use_period.period)
            currency = subscription.price.currency
            total_minor = sum(line.amount_minor for line in found)
            if not total_minor or (total_minor < least_charge_minor(currency) and not subscription.ended):
                return
            for line in found:
                await store.usage.save_tally(connection, replace(line.tally, billed=line.tally.billed + line.units))
            lines = [line.line(currency) for line in found]
            await self._make(connection, subscription, pb.ORDER_KIND_USAGE, lines, use_period.period, at)

    async def _make(
        self,
        connection: AsyncConnection,
        subscription: Subscription,
        kind: pb.OrderKind.ValueType,
        lines: Sequence[pb.OrderLine],
        period: Period,
        at: dt.datetime,
    ) -> None:
        """Writes an order of a period down, due at once. The database allows one of each kind a period."""
        net_minor = sum(line.amount.amount_minor for line in lines)
        facts = TaxFacts(
            seller=subscription.seller,
            buyer=subscription.buyer,
            category=subscription.category,
            kind=kind,
            net=Money(amount_minor=net_minor, currency=subscription.price.currency),
        )
        order = orders.new_order(
            id=new_id("ord"),
            kind=kind,
            license=subscription.license,
            buyer=subscription.buyer,
            seller=subscription.seller,
            lines=lines,
            tax_lines=self._tax.lines(facts),
            terms_hash=subscription.terms_hash,
            reference=payment_reference(secrets.randbelow(REFERENCES)),
            now=at,
            ttl_seconds=subscription.calendar.days(self._rules.terminate_days).total_seconds(),
            traceparent=subscription.traceparent,
            period=(period.start, period.end),
        )
        if await make(connection, order):
            due = Due(order.id, order.license, kind, due_time=at, next_time=at)
            await store.subscriptions.insert_due(connection, due)

    # Unpaid orders.

    async def _pursue(self, order_id: str, at: dt.datetime) -> None:
        """Charges, reminds, suspends or ends, as long as an order stays unpaid."""
        await self._make_way(order_id, at)
        async with self._database.begin() as connection:
            payment = await self._decide(connection, order_id, at)
        if payment is not None:
            await self._attempts.advance(payment)

    async def _make_way(self, order_id: str, at: dt.datetime) -> None:
        """Ends an attempt that the buyer left open, when it is time for the saved method. Raises RailUnavailable."""
        async with self._database.read() as connection:
            due = await store.subscriptions.due(connection, order_id)
            subscription = await store.subscriptions.get(connection, due.license) if due is not None else None
            live = await store.payments.live_of(connection, order_id)
        if due is None or subscription is None or live is None or not live.can_be_paid_elsewhere:
            return
        verdict = dun(due, subscription.calendar, self._rules, at)
        if not verdict.charge or live.action_required:
            return
        try:
            # Too late to end it is well too: it is being paid.
            await self._attempts.give_up(live)
        except RailUnavailable:
            # Another round tries again, but access does not go on for ever because the rail is away.
            if not verdict.suspend:
                raise

    async def _decide(self, connection: AsyncConnection, order_id: str, at: dt.datetime) -> Payment | None:
        """Writes down what becomes of an order; the payment to be made of it, if one is."""
        due = await store.subscriptions.due(connection, order_id)
        assert due is not None, "only such orders are pursued"
        unpaid = await subscribing.lock_unpaid(connection, due.license)
        order = await store.orders.lock(connection, order_id)
        subscription = await store.subscriptions.lock(connection, due.license)
        due = await store.subscriptions.due(connection, order_id)
        assert order is not None and subscription is not None and due is not None, "none is ever deleted"
        if due.stage == Stage.OVER:
            return None
        if order.state == pb.ORDER_STATE_PAID:
            await subscribing.over(connection, order, at)
            return None
        verdict = dun(due, subscription.calendar, self._rules, at)
        if verdict.terminate or order.state == pb.ORDER_STATE_CANCELED:
            await self._give_up(connection, subscription, verdict.due, unpaid, at)
            return None
        after, payment = verdict.due, None
        if verdict.charge:
            payment = await self._charge(connection, order, subscription)
        if due.remind or (verdict.charge and payment is None):
            after = await self._remind(connection, order, subscription, verdict)
        await store.subscriptions.save_due(connection, replace(after, remind=False))
        await subscribing.settle_state(connection, subscription, at)
        return payment

    async def _charge(self, connection: AsyncConnection, order: Order, subscription: Subscription) -> Payment | None:
        """An attempt with what the buyer saved; None when nothing is saved, or another attempt is live after all."""
        method = await store.saved_methods.current(connection, subscription.buyer)
        if method is None or not self._cards or not orders.is_open(order):
            return None
        if await store.payments.live_of(connection, order.id) is not None:
            return None
        payment = Payment(
            id=new_id("pay"),
            order_id=order.id,
            method=pb.PAYMENT_METHOD_SAVED,
            state=pb.PAYMENT_STATE_STARTING,
            amount=order.amount,
            payment_reference=order.payment_reference,
            create_time=now(),
            customer_id=method.customer_id,
            method_id=method.method_id,
        )
        await store.payments.insert(connection, payment)
        return payment

    async def _remind(
        self, connection: AsyncConnection, order: Order, subscription: Subscription, verdict: Verdict
    ) -> Due:
        due = replace(verdict.due, reminders=verdict.due.reminders + 1)
        told = events_pb2.PaymentReminded(order=order.resource(), reminder=due.reminders)
        if due.stage != Stage.GRACE_OVER and not subscription.ended:
            suspend_time = due.due_time + subscription.calendar.days(self._rules.grace_days)
            told.suspend_time.CopyFrom(to_timestamp(suspend_time))
        await announce(connection, told)
        return due

    async def _give_up(
        self,
        connection: AsyncConnection,
        subscription: Subscription,
        due: Due,
        unpaid: Sequence[Order],
        at: dt.datetime,
    ) -> None:
        """An order was not paid for too long: the subscription ends, and with it what it would owe for later periods."""
        await store.subscriptions.save_due(connection, replace(due, stage=Stage.OVER, next_time=None, remind=False))
        if subscription.ended:
            return
        await subscribing.end(connection, subscription, subscriptions.NOT_PAID, self._use_wait, at)
        for order in unpaid:
            if order.kind == pb.ORDER_KIND_PERIOD:
                await close(connection, order, orders.TERMINATED)
        await standing.add(connection, subscription.license, Cause.NOT_PAID, at)
        log.warning("%s ended: %s was not paid", subscription.name, due.order)
