"""Payments: one attempt to pay an order, and what it means when a rail says how it stands. Talks to no rail."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from billing.domain.orders import TERMINATED, Order
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp
from rochdale_kit.money import format_money, to_stripe_amount
from rochdale_kit.refusals import Kind, Refusal

# The rail may not know of it yet, and nobody holds a secret or a page with which it could be paid.
UNANSWERED = (pb.PAYMENT_STATE_STARTING, pb.PAYMENT_STATE_UNKNOWN)
LIVE = (*UNANSWERED, pb.PAYMENT_STATE_PENDING)
_CARDS = (pb.PAYMENT_METHOD_PAYMENT_INTENT, pb.PAYMENT_METHOD_CHECKOUT, pb.PAYMENT_METHOD_SAVED)
# The rail forgets an idempotency key after 24 hours; by then the same question could make a second attempt.
KEY_LIFE = dt.timedelta(hours=23)

# By us, by the rail, by the clock: whoever heard of it first, it is one word.
CANCELED = "canceled"
BELOW_MINIMUM = "amount_too_small"
RAIL_SILENT = "rail_unavailable"
# Reasons of ours that are not a rail's: why money that was taken did not pay the order.
NOT_OPEN = "order_not_open"
MISMATCH = "amount_mismatch"
REFUNDED = "refunded"


class Standing(enum.Enum):
    """How an attempt stands at the rail, as far as it matters here."""

    OPEN = "open"
    PROCESSING = "processing"
    DECLINED = "declined"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Taken:
    """Money as the rail's own books have it: what came in, in the currency it is kept in, and what the rail kept of it.

    available_time: from when on the rail lets us use it.
    """

    charge_id: str
    transaction_id: str
    amount: Money
    processing_minor: int
    available_time: dt.datetime

    @property
    def net_minor(self) -> int:
        return self.amount.amount_minor - self.processing_minor


@dataclass(frozen=True)
class Seen:
    """What the rail itself says of an attempt. `amount` and `currency` are what it received, as it counts.

    SUCCEEDED comes with what was taken: before the rail's books have it, it is PROCESSING.
    """

    standing: Standing
    amount: int = 0
    currency: str = ""
    terms_hash: str = ""
    quote_hash: str = ""
    taken: Taken | None = None
    failure_code: str = ""
    intent_id: str = ""
    client_secret: str = ""
    session_id: str = ""
    checkout_url: str = ""
    action_required: bool = False


@dataclass(frozen=True)
class Payment:
    """One attempt. `refund_due` means that its money does not pay the order and must go back. `taken` is money that the
    books have; absent for a transfer, and for a charge older than the books."""

    id: str
    order_id: str
    method: pb.PaymentMethod.ValueType
    state: pb.PaymentState.ValueType
    amount: Money
    payment_reference: str
    create_time: dt.datetime
    success_url: str = ""
    cancel_url: str = ""
    intent_id: str = ""
    client_secret: str = ""
    session_id: str = ""
    checkout_url: str = ""
    failure_code: str = ""
    refund_due: bool = False
    refund_id: str = ""
    settle_time: dt.datetime | None = None
    taken: Taken | None = None
    # Of SAVED: what is charged, as the rail names it, and whether the bank asks for the buyer after all.
    customer_id: str = ""
    method_id: str = ""
    action_required: bool = False

    @property
    def name(self) -> str:
        return f"orders/{self.order_id}/payments/{self.id}"

    @property
    def idempotency_key(self) -> str:
        """Under which the rail is asked for this attempt, however often."""
        return f"payment:{self.id}"

    @property
    def by_card(self) -> bool:
        return self.method in _CARDS

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def can_be_paid_elsewhere(self) -> bool:
        """Whether only the rail can tell if it is still unpaid. Until it answered, nobody could pay; a transfer is
        found in the bank's books."""
        return self.by_card and self.state == pb.PAYMENT_STATE_PENDING

    def resource(self, for_buyer: bool) -> pb.Payment:
        """As the contract shows it; the secret, with which anybody could confirm it, to the buyer and while it lives."""
        asked = self.method == pb.PAYMENT_METHOD_SAVED and self.action_required and self.live
        intent = self.method == pb.PAYMENT_METHOD_PAYMENT_INTENT or asked
        return pb.Payment(
            name=self.name,
            method=self.method,
            state=self.state,
            amount=self.amount,
            payment_intent=self.intent_id if intent else "",
            client_secret=self.client_secret if intent and for_buyer and self.live else "",
            checkout_url=self.checkout_url if self.live else "",
            payment_reference=self.payment_reference if self.method == pb.PAYMENT_METHOD_BANK_TRANSFER else "",
            failure_code=self.failure_code,
            create_time=to_timestamp(self.create_time),
            settle_time=to_timestamp(self.settle_time),
            action_required=asked,
        )


@dataclass(frozen=True)
class Verdict:
    """What follows from what the rail says: the payment as it is now, whether it pays its order, and any incident."""

    payment: Payment
    pays: bool = False
    incident: str = ""


def judge(payment: Payment, order: Order, seen: Seen, now: dt.datetime) -> Verdict:
    """The one place where a payment succeeds or fails. States only move forward; terminal ones are final.

    Money that does not pay its order goes back: that of an attempt given up before it arrived, that of another amount
    or currency than the order's, and that of an order nobody is owed any more.
    """
    known = _with_ids(payment, seen)
    if seen.standing is Standing.SUCCEEDED:
        return _judge_money(known, order, seen, now)
    if not payment.live:
        return Verdict(known)
    if seen.standing in (Standing.CANCELED, Standing.DECLINED):
        return Verdict(failed(known, seen.failure_code or CANCELED, now))
    # The buyer's move, once there is something to move with: an intent of a checkout is none without its page.
    reachable = known.session_id if known.method == pb.PAYMENT_METHOD_CHECKOUT else known.intent_id
    pending = replace(known, state=pb.PAYMENT_STATE_PENDING, action_required=seen.action_required)
    return Verdict(pending if reachable else known)


def _judge_money(payment: Payment, order: Order, seen: Seen, now: dt.datetime) -> Verdict:
    if payment.state == pb.PAYMENT_STATE_SUCCEEDED or payment.refund_due or payment.refund_id:
        return Verdict(payment)
    assert seen.taken is not None, "until the rail's books have it, it is PROCESSING"
    received = replace(payment, taken=seen.taken)
    if not payment.live:
        return Verdict(replace(received, refund_due=True))
    expected = (to_stripe_amount(order.amount), order.amount.currency.lower(), order.terms_hash, order.quote_hash)
    got = (seen.amount, seen.currency, seen.terms_hash, seen.quote_hash)
    if got != expected:
        # Never what we asked for, so somebody changed it: a person must look. A payment of an order that is older than
        # quotes has no quote_hash, as the order has none.
        incident = f"received {got}, expected {expected}"
        return Verdict(replace(failed(received, MISMATCH, now), refund_due=True), incident=incident)
    # An overdue order is paid by money that was faster than its closing; a license that ended cannot be.
    if order.state != pb.ORDER_STATE_OPEN or order.closing == TERMINATED:
        return Verdict(replace(failed(received, NOT_OPEN, now), refund_due=True))
    return Verdict(replace(received, state=pb.PAYMENT_STATE_SUCCEEDED, failure_code="", settle_time=now), pays=True)


def failed(payment: Payment, code: str, now: dt.datetime) -> Payment:
    return replace(payment, state=pb.PAYMENT_STATE_FAILED, failure_code=code, settle_time=now)


def _with_ids(payment: Payment, seen: Seen) -> Payment:
    """Ids never change once known; an answer may lack some of them."""
    return replace(
        payment,
        intent_id=payment.intent_id or seen.intent_id,
        client_secret=payment.client_secret or seen.client_secret,
        session_id=payment.session_id or seen.session_id,
        checkout_url=payment.checkout_url or seen.checkout_url,
    )


def pages(return_url: str, public_url: str) -> tuple[str, str]:
    """Where a checkout sends the browser when it was paid and when it was left. Refuses with RETURN_URL_INVALID."""
    if not return_url:
        return f"{public_url}/paid", f"{public_url}/canceled"
    try:
        parts = urlsplit(return_url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        valid = False
    if not valid or not return_url.isprintable() or " " in return_url:
        raise Refusal(
            "RETURN_URL_INVALID",
            f"'{return_url}' is not an address a browser can be sent to, such as https://example.org/paid.",
            Kind.INVALID,
            return_url=return_url,
        )
    return return_url, return_url


def in_progress(payment: Payment) -> Refusal:
    return Refusal(
        "PAYMENT_IN_PROGRESS",
        f"{payment.name} is being paid and can no longer be canceled.",
        Kind.STATE,
        payment=payment.name,
    )


def below_minimum(payment: Payment) -> Refusal:
    return Refusal(
        "AMOUNT_BELOW_MINIMUM",
        f"{format_money(payment.amount)} is less than a card can be charged; pay by bank transfer.",
        Kind.STATE,
        amount=format_money(payment.amount),
    )


def rail_unavailable(order: Order, enabled: bool) -> Refusal:
    why = "Stripe does not answer; try again" if enabled else "Cards are not accepted here"
    return Refusal(
        "RAIL_UNAVAILABLE",
        f"{why}, or pay by bank transfer with the reference {order.payment_reference}.",
        Kind.UNAVAILABLE if enabled else Kind.STATE,
        rail="stripe",
        payment_reference=order.payment_reference,
    )
