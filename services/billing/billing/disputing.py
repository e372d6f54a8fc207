"""Disputes as they go: opened, answered, decided. What moved at the rail is booked as it moved there."""

from __future__ import annotations

import logging
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import evidence, invoicing, standing, store
from billing.domain import disputes, postings
from billing.domain.disputes import Dispute, SeenDispute
from billing.domain.orders import Order
from billing.domain.shares import Share
from billing.domain.standing import Cause
from billing.refunding import Refunding, end_if_whole, given_back, take_back
from billing.settlement import Also
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import Database
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)


class Disputing:
    """Moves disputes forward; the order's row lock makes one of several first."""

    def __init__(self, database: Database, refunding: Refunding) -> None:
        self._database = database
        self._refunding = refunding

    async def look(self, rail_id: str, also: Also | None = None) -> Dispute | None:
        """Reads a dispute at the rail and applies it. None when its payment is not ours. Raises RailUnavailable,
        RailRefused."""
        found = await self._refunding.returns.look_at_dispute(rail_id)
        if found is None:
            return None
        return await self.apply(*found, also=also)

    async def apply(self, payment_id: str, seen: SeenDispute, also: Also | None = None) -> Dispute | None:
        """Applies what the rail says of a dispute about one of our payments."""
        async with self._database.read() as connection:
            payment = await store.payments.get(connection, payment_id)
        if payment is None:
            return None
        async with self._database.begin() as connection:
            order = await store.orders.lock(connection, payment.order_id)
            share = await store.shares.lock(connection, payment.order_id)
            paying = await store.payments.succeeded(connection, payment.order_id)
            if order is None or share is None or paying is None or paying.id != payment.id:
                # Money that pays no order goes back by itself; the bank was faster. Reconciliation lists it. The order
                # may be paid all the same, by other money that nobody disputes.
                log.error("%s is disputed as %s, but paid no order", payment.name, seen.rail_id)
                return None
            before = await store.disputes.at_rail(connection, seen.rail_id)
            if before is None:
                before, order, share = await self._open(connection, order, share, seen)
            after = disputes.judge(before, seen, now())
            after = await _move_money(connection, after, seen)
            if before.is_open and not after.is_open:
                after = await self._close(connection, order, share, after)
            elif after.state == pb.DISPUTE_STATE_LOST and after.held is not None:
                # What the bank took is seen only after its decision was: it is borne all the same.
                order, _ = await _lose(connection, order, share, after, after.held)
                after = replace(after, held=None)
                await end_if_whole(connection, order)
            await store.disputes.save(connection, after)
            if also is not None:
                await also(connection)
        return after

    async def _open(
        self, connection: AsyncConnection, order: Order, share: Share, seen: SeenDispute
    ) -> tuple[Dispute, Order, Share]:
        at = now()
        dispute = Dispute(new_id("dis"), order.id, seen.rail_id, seen.amount, seen.reason, at)
        if not share.released and not share.frozen and share.amount_minor:
            dispute = replace(dispute, frozen_minor=share.amount_minor)
            await store.ledger.post(
                connection,
                postings.frozen(dispute.id, share.cooperative, order.amount.currency, share.amount_minor, at),
            )
        share = replace(share, frozen=True)
        await store.shares.save(connection, share)
        order = replace(order, disputed=True)
        await store.orders.save(connection, order)
        await store.disputes.insert(connection, dispute)
        await standing.add(connection, order.license, Cause.DISPUTED)
        await announce(connection, events_pb2.DisputeOpened(order=order.resource(), dispute=dispute.resource()))
        log.warning("%s: the buyer's bank takes the money back: %s", dispute.name, seen.reason)
        return dispute, order, share

    async def _close(self, connection: AsyncConnection, order: Order, share: Share, dispute: Dispute) -> Dispute:
        at = now()
        if dispute.state == pb.DISPUTE_STATE_LOST and dispute.held is not None:
            order, share = await _lose(connection, order, share, dispute, dispute.held)
            dispute = replace(dispute, held=None)
        if not await store.disputes.any_open(connection, order.id, besides=dispute.id):
            if share.frozen and not share.released and share.amount_minor:
                await store.ledger.post(
                    connection,
                    postings.thawed(dispute.id, share.cooperative, order.amount.currency, share.amount_minor, at),
                )
            await store.shares.save(connection, replace(share, frozen=False))
            order = replace(order, disputed=False)
            await store.orders.save(connection, order)
            await standing.remove(connection, order.license, Cause.DISPUTED)
        await end_if_whole(connection, order)
        await announce(connection, events_pb2.DisputeClosed(order=order.resource(), dispute=dispute.resource()))
        return dispute

    async def answer(self, dispute: Dispute, statement: str = "") -> Dispute:
        """Gives the assembled evidence, with what the cooperative adds. Raises RailUnavailable, RailRefused."""
        async with self._database.read() as connection:
            pack = await evidence.assemble(connection, dispute)
        text = evidence.text_of(pack, statement)
        await self._refunding.returns.answer_dispute(dispute.rail_id, text)
        return await self.look(dispute.rail_id) or dispute


async def _move_money(connection: AsyncConnection, dispute: Dispute, seen: SeenDispute) -> Dispute:
    """Books each movement once. What is held is what went and did not come back."""
    at = now()
    gone = next((moved for moved in seen.moved if not moved.back), None)
    back = next((moved for moved in seen.moved if moved.back), None)
    if gone is not None:
        journals = postings.dispute_opened(
            dispute.id, gone.currency, gone.amount_minor, gone.fee_minor, gone.transaction, at
        )
        if (await store.ledger.post(connection, journals))[0]:
            dispute = replace(dispute, held=Money(amount_minor=gone.amount_minor, currency=gone.currency))
    if gone is not None and back is not None:
        journals = postings.dispute_won(
            dispute.id, back.currency, gone.amount_minor, back.amount_minor, back.fee_minor, back.transaction, at
        )
        if (await store.ledger.post(connection, journals))[0]:
            dispute = replace(dispute, held=None)
    return dispute


async def _lose(
    connection: AsyncConnection, order: Order, share: Share, dispute: Dispute, held: Money
) -> tuple[Order, Share]:
    """The buyer keeps the money: borne as a refund is, up to what the order has left."""
    at = now()
    amount_minor = order.amount.amount_minor - order.refunded_minor
    if dispute.amount.currency == order.amount.currency:
        amount_minor = min(amount_minor, dispute.amount.amount_minor)
    if amount_minor:
        taken, parts = await take_back(connection, order, share, amount_minor)
    else:
        taken, parts = postings.Sources(), postings.Parts(0, 0, 0)
    await store.ledger.post(connection, postings.dispute_lost(dispute.id, share.sale(), held, parts, taken, at))
    order, share = await given_back(connection, order, share, parts, taken)
    if amount_minor:
        await invoicing.credit(connection, order, dispute.id, amount_minor, parts.tax_minor, "dispute lost", at)
    return order, share
