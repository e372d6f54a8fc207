"""Refunds: what may go back to a buyer, and what it means when a rail says how that stands. Who bears it: postings."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from billing.domain.orders import Order
from billing.domain.postings import STRIPE, Movement, Parts
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp
from rochdale_kit.money import format_money
from rochdale_kit.refusals import Kind, Refusal

# Stripe forgets an idempotency key after 24 hours; from then on what was made is looked for first.
KEY_LIFE = dt.timedelta(hours=23)


@dataclass(frozen=True)
class Refund:
    """Money going back. `rail` is postings.STRIPE or postings.BANK; `receivable_minor` is what the cooperative owes of it."""

    id: str
    order_id: str
    buyer: str
    currency: str
    parts: Parts
    receivable_minor: int
    rail: str
    reason: str
    requested_by: str
    create_time: dt.datetime
    state: pb.RefundState.ValueType = pb.REFUND_STATE_PENDING
    rail_id: str = ""
    settle_time: dt.datetime | None = None

    @property
    def name(self) -> str:
        return f"orders/{self.order_id}/refunds/{self.id}"

    @property
    def idempotency_key(self) -> str:
        return f"refund:{self.id}"

    @property
    def amount(self) -> Money:
        return self._money(self.parts.total_minor)

    def _money(self, amount_minor: int) -> Money:
        return Money(amount_minor=amount_minor, currency=self.currency)

    def resource(self) -> pb.Refund:
        return pb.Refund(
            name=self.name,
            amount=self.amount,
            tax=self._money(self.parts.tax_minor),
            fee=self._money(self.parts.fee_minor),
            cooperative_part=self._money(self.parts.cooperative_minor),
            receivable=self._money(self.receivable_minor),
            state=self.state,
            reason=self.reason,
            create_time=to_timestamp(self.create_time),
            settle_time=to_timestamp(self.settle_time),
        )


@dataclass(frozen=True)
class SeenRefund:
    """What the rail itself says of a refund: its state there, and the balance transactions that moved the money."""

    rail_id: str
    succeeded: bool = False
    failed: bool = False
    paid: Movement | None = None
    bounced: Movement | None = None


def amount_of(order: Order, asked: Money | None) -> int:
    """How much goes back: what is asked, or all that is left.

    Refuses with ORDER_NOT_PAID, ORDER_DISPUTED, CURRENCY_MISMATCH, REFUND_TOO_LARGE.
    """
    if order.state != pb.ORDER_STATE_PAID or not order.amount.amount_minor:
        raise Refusal(
            "ORDER_NOT_PAID", f"{order.name} has brought no money that could go back.", Kind.STATE, order=order.name
        )
    if order.disputed:
        raise Refusal(
            "ORDER_DISPUTED",
            f"The buyer's bank has taken the money of {order.name}; until that is decided nothing else goes back.",
            Kind.STATE,
            order=order.name,
        )
    if asked is not None and asked.currency != order.amount.currency:
        raise Refusal(
            "CURRENCY_MISMATCH",
            f"{order.name} is in {order.amount.currency}, not in {asked.currency}.",
            Kind.STATE,
            order=order.name,
            currency=asked.currency,
            expected_currency=order.amount.currency,
        )
    left = order.amount.amount_minor - order.refunded_minor
    amount_minor = left if asked is None else asked.amount_minor
    if not 0 < amount_minor <= left:
        limit = Money(amount_minor=left, currency=order.amount.currency)
        raise Refusal(
            "REFUND_TOO_LARGE",
            f"Of {order.name} {format_money(limit)} can still go back.",
            Kind.STATE,
            order=order.name,
            left=format_money(limit),
        )
    return amount_minor


def judge(refund: Refund, seen: SeenRefund, at: dt.datetime) -> Refund:
    """The refund as it is now. It may succeed and later fail, when the card's bank sends it back; never the other way."""
    known = replace(refund, rail_id=refund.rail_id or seen.rail_id)
    if refund.rail != STRIPE or refund.state == pb.REFUND_STATE_FAILED:
        return known
    if seen.failed:
        return replace(known, state=pb.REFUND_STATE_FAILED, settle_time=at)
    if seen.succeeded and refund.state == pb.REFUND_STATE_PENDING:
        return replace(known, state=pb.REFUND_STATE_SUCCEEDED, settle_time=at)
    return known


def settled(refund: Refund) -> Refusal:
    return Refusal(
        "REFUND_SETTLED",
        f"{refund.name} was given back, or the card still can take it.",
        Kind.STATE,
        refund=refund.name,
        state=pb.RefundState.Name(refund.state).removeprefix("REFUND_STATE_"),
    )
