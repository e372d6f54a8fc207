"""Orders: what a license makes its buyer owe, until when, and what settles it. Payments are in payments.py."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp
from rochdale_kit.money import format_money, require_currency
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import canonical_hash

# Why an order is being closed. It is closed once no payment of it can succeed any more.
OVERDUE = "overdue"
TERMINATED = "license_terminated"

# No I, L, O, U, and no 0: thirty-one signs that survive a telephone. A prime number of them, so that the check sign
# finds every single wrong sign and every two that changed places.
_SIGNS = "123456789ABCDEFGHJKMNPQRSTVWXYZ"
_REFERENCE_LENGTH = 8
REFERENCES = len(_SIGNS) ** _REFERENCE_LENGTH


@dataclass(frozen=True)
class Order:
    """An order. Organizations are bare ids; `closing` says why it is being closed, empty when it is not."""

    id: str
    license: str
    buyer: str
    seller: str
    amount: Money
    terms_hash: str
    payment_reference: str
    create_time: dt.datetime
    due_time: dt.datetime
    traceparent: str | None
    state: pb.OrderState.ValueType
    closing: str = ""
    pay_time: dt.datetime | None = None

    @property
    def name(self) -> str:
        return f"orders/{self.id}"

    def resource(self) -> pb.Order:
        return pb.Order(
            name=self.name,
            license=self.license,
            buyer=f"organizations/{self.buyer}",
            seller=f"cooperatives/{self.seller}",
            amount=self.amount,
            terms_hash=self.terms_hash,
            state=self.state,
            create_time=to_timestamp(self.create_time),
            pay_time=to_timestamp(self.pay_time),
            due_time=to_timestamp(self.due_time),
            payment_reference=self.payment_reference,
        )


def payment_reference(number: int) -> str:
    """A number below REFERENCES as people write it on a transfer, such as RD-7K3M-9Q2P-5."""
    signs = []
    for _ in range(_REFERENCE_LENGTH):
        number, index = divmod(number, len(_SIGNS))
        signs.append(index)
    check = -sum(place * index for place, index in enumerate(signs, start=2)) % len(_SIGNS)
    text = "".join(_SIGNS[index] for index in signs)
    return f"RD-{text[:4]}-{text[4:]}-{_SIGNS[check]}"


def order_for(
    license: licensing.License,
    id: str,
    reference: str,
    now: dt.datetime,
    ttl_seconds: int,
    traceparent: str | None,
) -> Order:
    """What an agreed license makes its buyer owe; a price of zero is paid at once.

    Refuses with CURRENCY_UNKNOWN, and with TERMS_INVALID when the hash is not that of the terms or they have no price:
    an absent price must not read as free.
    """
    terms = license.terms
    if not terms.HasField("price") or canonical_hash(terms) != license.terms_hash:
        raise Refusal(
            "TERMS_INVALID", f"The terms of {license.name} have no price or another hash.", license=license.name
        )
    require_currency(terms.price.currency)
    free = terms.price.amount_minor == 0
    return Order(
        id=id,
        license=license.name,
        buyer=terms.licensee.rsplit("/", 1)[-1],
        seller=terms.licensor.rsplit("/", 1)[-1],
        amount=terms.price,
        terms_hash=license.terms_hash,
        payment_reference=reference,
        create_time=now,
        due_time=now + dt.timedelta(seconds=ttl_seconds),
        traceparent=traceparent,
        state=pb.ORDER_STATE_PAID if free else pb.ORDER_STATE_OPEN,
        pay_time=now if free else None,
    )


def is_open(order: Order) -> bool:
    return order.state == pb.ORDER_STATE_OPEN and not order.closing


def check_payable(order: Order, now: dt.datetime) -> None:
    """Refuses to start a payment with ORDER_NOT_OPEN."""
    check_open(order)
    if order.due_time <= now:
        raise Refusal(
            "ORDER_NOT_OPEN",
            f"{order.name} could be paid until {order.due_time.isoformat(timespec='seconds')}.",
            Kind.STATE,
            order=order.name,
            due_time=order.due_time.isoformat(timespec="seconds"),
        )


def check_open(order: Order) -> None:
    """Refuses with ORDER_NOT_OPEN."""
    if not is_open(order):
        state = "CLOSING" if order.closing and order.state == pb.ORDER_STATE_OPEN else _state_name(order)
        raise Refusal("ORDER_NOT_OPEN", f"{order.name} is {state.lower()}.", Kind.STATE, order=order.name, state=state)


def check_transfer(order: Order, amount: Money) -> None:
    """Refuses what arrived at the bank with CURRENCY_MISMATCH or AMOUNT_MISMATCH; it must be the whole amount."""
    if amount.currency != order.amount.currency:
        raise Refusal(
            "CURRENCY_MISMATCH",
            f"{order.name} is in {order.amount.currency}, not in {amount.currency}.",
            Kind.STATE,
            order=order.name,
            currency=amount.currency,
            expected_currency=order.amount.currency,
        )
    if amount.amount_minor != order.amount.amount_minor:
        raise Refusal(
            "AMOUNT_MISMATCH",
            f"{order.name} is over {format_money(order.amount)}, not {format_money(amount)}.",
            Kind.STATE,
            order=order.name,
            amount=format_money(amount),
            expected_amount=format_money(order.amount),
        )


def bank_reference_used(reference: str) -> Refusal:
    return Refusal(
        "BANK_REFERENCE_USED",
        f"The transfer {reference} has confirmed an order already.",
        Kind.STATE,
        bank_reference=reference,
    )


def _state_name(order: Order) -> str:
    return pb.OrderState.Name(order.state).removeprefix("ORDER_STATE_")
