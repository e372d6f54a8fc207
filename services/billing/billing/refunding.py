"""Refunds on their way: decided in one transaction with the books, asked of the rail until it answers, told once."""

from __future__ import annotations

import logging
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import invoicing, standing, store
from billing.attempts import Attempts
from billing.domain import postings, refunds
from billing.domain.ledger import PLATFORM, accounts_of_shares
from billing.domain.orders import Order
from billing.domain.refunds import Refund, SeenRefund
from billing.domain.shares import Share
from billing.domain.standing import Cause
from billing.rail import RailRefused, RailUnavailable
from billing.returns import Returns
from billing.settlement import Also
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import Database
from rochdale_kit.money import to_stripe_amount
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)


class Refunding:
    """Moves refunds forward; the order's row lock makes one of several first."""

    def __init__(self, database: Database, attempts: Attempts, returns: Returns | None) -> None:
        self._database = database
        self._attempts = attempts
        self._returns = returns

    @property
    def returns(self) -> Returns:
        """Raises RailUnavailable where there is no rail."""
        if self._returns is None:
            raise RailUnavailable("No Stripe key is set.")
        return self._returns

    async def advance(self, refund: Refund) -> Refund:
        """Asks the rail for a refund it has not answered yet. Raises RailUnavailable."""
        if refund.state != pb.REFUND_STATE_PENDING or refund.rail != postings.STRIPE:
            return refund
        async with self._database.read() as connection:
            payment = await store.payments.succeeded(connection, refund.order_id)
        assert payment is not None, "only what was paid goes back"
        seen = None
        try:
            if refund.rail_id:
                found = await self.returns.look_at_refund(refund.rail_id)
                seen = found[1] if found else None
            elif now() - refund.create_time > refunds.KEY_LIFE:
                seen = await self.returns.find_refund(refund, payment)
            if seen is None:
                seen = await self.returns.refund(refund, payment)
        except RailRefused as refused:
            log.error("%s is refused by Stripe, and its money is the buyer's credit: %s", refund.name, refused)
            seen = SeenRefund("", failed=True)
        return await self.apply(refund.id, seen) or refund

    async def look(self, rail_id: str, also: Also | None = None) -> Refund | None:
        """Reads a refund at the rail and applies it. None when it is not ours, or one that paid no order, which is its
        payment's business. Raises RailUnavailable, RailRefused."""
        found = await self.returns.look_at_refund(rail_id)
        return await self.apply(*found, also=also) if found is not None else None

    async def apply(self, id: str, seen: SeenRefund, also: Also | None = None) -> Refund | None:
        """Applies what the rail says, with `also` in the same transaction. None for a refund that is not ours."""
        async with self._database.read() as connection:
            known = await store.refunds.get(connection, id)
        if known is None:
            return None
        async with self._database.begin() as connection:
            order = await store.orders.lock(connection, known.order_id)
            before = await store.refunds.get(connection, id)
            assert order is not None and before is not None, "neither is ever deleted"
            at = now()
            after = refunds.judge(before, seen, at)
            # Each is posted once, however often it is seen.
            journals = []
            if seen.paid is not None:
                journals += postings.refund_paid(id, after.buyer, after.amount, seen.paid, at)
            if seen.bounced is not None:
                journals += postings.refund_bounced(id, after.buyer, after.amount, seen.bounced, at)
            await store.ledger.post(connection, journals)
            if after != before:
                await store.refunds.save(connection, after)
            if after.state == pb.REFUND_STATE_SUCCEEDED and before.state == pb.REFUND_STATE_PENDING:
                await announce(connection, events_pb2.OrderRefunded(order=order.resource(), refund=after.resource()))
            if after.state == pb.REFUND_STATE_FAILED and before.state != pb.REFUND_STATE_FAILED:
                log.error("%s could not be given back; an operator pays the buyer another way", after.name)
            if also is not None:
                await also(connection)
        return after


async def decide(
    connection: AsyncConnection, order: Order, amount_minor: int, reason: str, requested_by: str
) -> Refund:
    """Writes a refund down: from here the money is the buyer's, wherever it lies. The caller holds the order's lock.

    Refuses with AMOUNT_NOT_CHARGEABLE.
    """
    at = now()
    share = await store.shares.lock(connection, order.id)
    assert share is not None, "what was paid has its share"
    if share.rail == postings.STRIPE:
        # A card gets no fils back, and what is decided is asked of the rail for ever.
        to_stripe_amount(Money(amount_minor=amount_minor, currency=order.amount.currency))
    taken, parts = await take_back(connection, order, share, amount_minor)
    refund = Refund(
        id=new_id("rfd"),
        order_id=order.id,
        buyer=order.buyer,
        currency=order.amount.currency,
        parts=parts,
        receivable_minor=taken.receivable_minor,
        rail=share.rail,
        reason=reason,
        requested_by=requested_by,
        create_time=at,
    )
    await store.ledger.post(connection, postings.refund_owed(refund.id, order.buyer, share.sale(), parts, taken, at))
    await store.refunds.insert(connection, refund)
    after, _ = await given_back(connection, order, share, parts, taken)
    await invoicing.credit(connection, after, refund.id, amount_minor, parts.tax_minor, reason, at)
    await end_if_whole(connection, after)
    return refund


async def take_back(
    connection: AsyncConnection, order: Order, share: Share, amount_minor: int
) -> tuple[postings.Sources, postings.Parts]:
    """Who bears an amount, and where the cooperative's part is, which is held until it is posted."""
    parts = postings.split(share.sale(), order.refunded_minor, amount_minor)
    codes = accounts_of_shares(share.cooperative)
    held = await store.ledger.hold(connection, PLATFORM, codes, order.amount.currency)
    taken = postings.sources(
        parts,
        released=share.released,
        is_frozen=share.frozen,
        reserve_minor=share.reserve_minor,
        available_minor=held[f"coop:{share.cooperative}:available"],
    )
    return taken, parts


async def given_back(
    connection: AsyncConnection, order: Order, share: Share, parts: postings.Parts, taken: postings.Sources
) -> tuple[Order, Share]:
    """Order and share after part of the money went back."""
    order = replace(order, refunded_minor=order.refunded_minor + parts.total_minor)
    share = share.less(parts.cooperative_minor, taken.reserve_minor, taken.receivable_minor)
    await store.orders.save(connection, order)
    await store.shares.save(connection, share)
    return order, share


async def end_if_whole(connection: AsyncConnection, order: Order) -> None:
    """A license whose price went back whole has no standing any more. Last in its transaction: standings are locked
    after the ledger."""
    if order.refunded_minor == order.amount.amount_minor and order.kind != pb.ORDER_KIND_USAGE:
        await standing.add(connection, order.license, Cause.REFUNDED)
