"""RPCs of refunds."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from billing import store
from billing.domain import orders, postings, refunds
from billing.domain.refunds import Refund
from billing.rail import RailUnavailable
from billing.refunding import decide
from billing.service.base import READERS, Context, Parts, last, organization, require_still_member, trimmed, visible
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.clock import now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller, roles
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import not_found

ACCESS = {
    "RefundOrder": roles(identity_pb2.ROLE_STEWARD, identity_pb2.ROLE_OPERATOR),
    "ConfirmRefund": roles(identity_pb2.ROLE_OPERATOR),
    "ListRefunds": READERS,
}


class Refunds(Parts):
    """Money that goes back to buyers."""

    async def RefundOrder(self, request: pb.RefundOrderRequest, context: Context) -> pb.Refund:
        refund = await self._decide(request)
        # Decided is decided: what the rail cannot do just now is done by the keeper.
        with contextlib.suppress(RailUnavailable):
            refund = await self._refunding.advance(refund)
        return refund.resource()

    async def _decide(self, request: pb.RefundOrderRequest) -> Refund:
        async with self._database.begin() as connection:
            await require_still_member(connection, request.order)
            if earlier := await first_answer(connection, caller().organization, request, pb.Refund):
                refund = await store.refunds.get(connection, last(earlier.name))
                assert refund is not None, "what was answered is never deleted"
                return refund
            order = await store.orders.lock(connection, last(request.order))
            if order is None or organization() not in (None, order.seller):
                raise not_found(request.order)
            amount_minor = refunds.amount_of(order, request.amount if request.HasField("amount") else None)
            refund = await decide(connection, order, amount_minor, request.reason, caller().key)
            await remember(connection, caller().organization, request, pb.Refund(name=refund.name))
            return refund

    async def ConfirmRefund(self, request: pb.ConfirmRefundRequest, context: Context) -> pb.Refund:
        at = now()
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Refund):
                return earlier
            known = await store.refunds.get(connection, last(request.name))
            if known is None or known.name != request.name:
                raise not_found(request.name)
            order = await store.orders.lock(connection, known.order_id)
            before = await store.refunds.get(connection, known.id)
            assert order is not None and before is not None, "neither is ever deleted"
            waits = before.rail == postings.BANK and before.state == pb.REFUND_STATE_PENDING
            if not waits and before.state != pb.REFUND_STATE_FAILED:
                raise refunds.settled(before)
            after = replace(before, state=pb.REFUND_STATE_SUCCEEDED, settle_time=at, rail=postings.BANK)
            reference = trimmed(request.bank_reference)
            if not await store.transfers.claim(connection, reference, order.id, caller().key, at):
                raise orders.bank_reference_used(reference)
            left = postings.Movement(postings.BANK, reference, after.amount)
            paid = postings.refund_paid(after.id, after.buyer, after.amount, left, at)
            await store.ledger.post(connection, paid)
            await store.refunds.save(connection, after)
            await announce(connection, events_pb2.OrderRefunded(order=order.resource(), refund=after.resource()))
            await remember(connection, caller().organization, request, after.resource())
            return after.resource()

    async def ListRefunds(self, request: pb.ListRefundsRequest, context: Context) -> pb.ListRefundsResponse:
        async with self._database.read() as connection:
            order = await visible(connection, request.order, request.order)
            found = await store.refunds.of_order(connection, order.id)
        return pb.ListRefundsResponse(refunds=[refund.resource() for refund in found])
