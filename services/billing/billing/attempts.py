"""Attempts at the rail: asked for under their own key until there is an answer, and given up before another begins.

No transaction is open while the rail is asked; what it answers is applied by settlement.py.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from billing import store, subscribing
from billing.domain.payments import (
    CANCELED,
    KEY_LIFE,
    RAIL_SILENT,
    UNANSWERED,
    Payment,
    Seen,
    Standing,
    failed,
)
from billing.rail import MISSING, Rail, RailRefused, RailUnavailable
from billing.settlement import Also, Settlement
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale_kit.clock import now
from rochdale_kit.database import Database

log = logging.getLogger(__name__)


class Attempts:
    """Starts and gives up attempts. rail is None where no Stripe key is set."""

    def __init__(self, database: Database, rail: Rail | None, settlement: Settlement) -> None:
        self._database = database
        self._rail = rail
        self._settlement = settlement

    @property
    def rail(self) -> Rail:
        """Raises RailUnavailable where there is none."""
        if self._rail is None:
            raise RailUnavailable("No Stripe key is set.")
        return self._rail

    async def advance(self, payment: Payment) -> Payment:
        """Asks the rail for an attempt that it has not answered yet. Raises RailUnavailable, having noted it."""
        if payment.state not in UNANSWERED or not payment.by_card:
            return payment
        async with self._database.read() as connection:
            order = await store.orders.get(connection, payment.order_id)
        assert order is not None, "a payment belongs to an order"
        saved = payment.method == pb.PAYMENT_METHOD_SAVED
        try:
            if saved and now() - payment.create_time > KEY_LIFE:
                found = await self.rail.find_saved(payment)
                if found is None:
                    return await self._note(payment, pb.PAYMENT_STATE_FAILED, RAIL_SILENT)
                seen = found
            else:
                seen = await self.rail.start(order, payment)
        except RailUnavailable:
            await self._note(payment, pb.PAYMENT_STATE_UNKNOWN)
            raise
        except RailRefused as refused:
            log.warning("%s is refused by Stripe: %s", payment.name, refused)
            return await self._note(payment, pb.PAYMENT_STATE_FAILED, refused.code)
        answered = await self.hear(payment, seen)
        if answered.state == pb.PAYMENT_STATE_FAILED and seen.standing is Standing.OPEN:
            await self._tidy(answered)
        return answered

    async def look(self, payment: Payment) -> Payment:
        """Looks at a started attempt and applies what is seen. Raises RailUnavailable, RailRefused."""
        return await self.hear(payment, await self.rail.look(payment))

    async def hear(self, payment: Payment, seen: Seen, also: Also | None = None) -> Payment:
        """Applies what the rail says of an attempt, with `also` in the same transaction. Raises RailUnavailable."""
        by_page = payment.method == pb.PAYMENT_METHOD_CHECKOUT
        if seen.standing is Standing.DECLINED and not by_page and payment.live:
            # FAILED is final, so the intent is ended first: a second card on it could pay twice.
            code = seen.failure_code
            seen = await self.rail.cancel(replace(payment, intent_id=seen.intent_id))
            if seen.standing is Standing.CANCELED:
                seen = replace(seen, failure_code=code)
        return await self._settlement.apply(payment.id, seen, also=also)

    async def give_up(self, payment: Payment, code: str = CANCELED) -> bool:
        """Ends a live attempt for good, so that another may begin. False when the rail says it is too late.

        An attempt the rail has not answered is ended by us alone: nobody was given the secret or the page to pay it
        with. So a rail that is down never keeps a buyer from paying in another way. A saved method needs no handing
        out: it is charged as soon as the rail hears of it, so there the rail is asked until it answers. Raises
        RailUnavailable.
        """
        if payment.method == pb.PAYMENT_METHOD_SAVED and payment.state in UNANSWERED:
            payment = await self.advance(payment)
            if not payment.live:
                return payment.state == pb.PAYMENT_STATE_FAILED
        if not payment.can_be_paid_elsewhere:
            # It may have become PENDING since it was read: then it is alive still, and the caller comes again.
            now_is = await self._note(payment, pb.PAYMENT_STATE_FAILED, code)
            return not now_is.live or now_is.can_be_paid_elsewhere
        try:
            seen = await self.rail.look(payment)
            if seen.standing in (Standing.OPEN, Standing.DECLINED):
                seen = await self.rail.cancel(payment)
        except RailRefused as refused:
            # What this account does not have cannot be paid to it.
            log.error("%s is not to be found at Stripe: %s", payment.name, refused)
            if refused.code != MISSING:
                raise RailUnavailable(refused.code) from None
            seen = Seen(Standing.CANCELED, failure_code=MISSING)
        ended = await self._settlement.apply(payment.id, seen)
        return not ended.live

    async def _note(self, payment: Payment, state: pb.PaymentState.ValueType, code: str = "") -> Payment:
        """Moves a payment that nobody can have paid. Whoever moved it first is right."""
        async with self._database.begin() as connection:
            await store.orders.lock(connection, payment.order_id)
            current = await store.payments.get(connection, payment.id)
            assert current is not None, "payments are never deleted"
            if not current.live or current.can_be_paid_elsewhere:
                return current
            at = now()
            changed = failed(current, code, at) if state == pb.PAYMENT_STATE_FAILED else replace(current, state=state)
            await store.payments.save(connection, changed)
            await subscribing.stuck(connection, current, changed, at)
            return changed

    async def _tidy(self, payment: Payment) -> None:
        # Given up while the rail was being asked. Nobody can pay it; it only must not lie about there.
        try:
            await self.rail.cancel(payment)
        except (RailUnavailable, RailRefused) as error:
            log.info("%s stays open at Stripe until it expires: %s", payment.name, error)
