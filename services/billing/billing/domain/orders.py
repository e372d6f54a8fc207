"""Orders: what a license makes its buyer owe, until when, and what settles it. Payments are in payments.py."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from billing.domain.taxes import TaxFacts
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp
from rochdale_kit.money import format_money, require_currency, total
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import canonical_hash

# Why an order is being closed. It is closed once no payment of it can succeed any more.
OVERDUE = "overdue"
TERMINATED = "license_terminated"

# What no later event changes, and every payment of the order names by its hash. The period of a LICENSE is none of it:
# it begins with the activation, after the payment.
_QUOTED = ("license", "buyer", "seller", "kind", "lines", "tax_lines", "net", "amount", "terms_hash")
_PERIOD = ("period_start_time", "period_end_time")


@dataclass(frozen=True)
class Order:
    """An order. Organizations are bare ids; `closing` says why it is being closed, empty when it is not.

    quote_hash is empty for an order made before there was one: its payments carry terms_hash alone.
    """

    id: str
    kind: pb.OrderKind.ValueType
    license: str
    buyer: str
    seller: str
    lines: tuple[pb.OrderLine, ...]
    tax_lines: tuple[pb.TaxLine, ...]
    net: Money
    amount: Money
    terms_hash: str
    quote_hash: str
    payment_reference: str
    create_time: dt.datetime
    due_time: dt.datetime
    traceparent: str | None
    state: pb.OrderState.ValueType
    closing: str = ""
    pay_time: dt.datetime | None = None
    period_start_time: dt.datetime | None = None
    period_end_time: dt.datetime | None = None
    refunded_minor: int = 0
    disputed: bool = False
    invoice_number: str = ""

    @property
    def name(self) -> str:
        return f"orders/{self.id}"

    @property
    def tax_minor(self) -> int:
        return self.amount.amount_minor - self.net.amount_minor

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
            kind=self.kind,
            period_start_time=to_timestamp(self.period_start_time),
            period_end_time=to_timestamp(self.period_end_time),
            lines=self.lines,
            tax_lines=self.tax_lines,
            net=self.net,
            quote_hash=self.quote_hash,
            refunded=Money(amount_minor=self.refunded_minor, currency=self.amount.currency),
            invoice_number=self.invoice_number,
            disputed=self.disputed,
        )


def new_order(
    *,
    id: str,
    kind: pb.OrderKind.ValueType,
    license: str,
    buyer: str,
    seller: str,
    lines: Sequence[pb.OrderLine],
    tax_lines: Sequence[pb.TaxLine],
    terms_hash: str,
    reference: str,
    now: dt.datetime,
    ttl_seconds: float,
    traceparent: str | None,
    period: tuple[dt.datetime, dt.datetime] | None = None,
) -> Order:
    """An order of its lines, at least one, and the taxes on them; one that comes to zero is paid at once.

    PERIOD and USAGE have a period. Refuses with CURRENCY_UNKNOWN and CURRENCY_MISMATCH, as `money.total` does.
    """
    currency = lines[0].amount.currency
    net = total(currency, (line.amount for line in lines))
    amount = total(currency, (net, *(line.amount for line in tax_lines)))
    free = amount.amount_minor == 0
    start, end = period or (None, None)
    order = Order(
        id=id,
        kind=kind,
        license=license,
        buyer=buyer,
        seller=seller,
        lines=tuple(lines),
        tax_lines=tuple(tax_lines),
        net=net,
        amount=amount,
        terms_hash=terms_hash,
        quote_hash="",
        payment_reference=reference,
        create_time=now,
        due_time=now + dt.timedelta(seconds=ttl_seconds),
        traceparent=traceparent,
        state=pb.ORDER_STATE_PAID if free else pb.ORDER_STATE_OPEN,
        pay_time=now if free else None,
        period_start_time=start,
        period_end_time=end,
    )
    return replace(order, quote_hash=quote_hash(order))


def quote_hash(order: Order) -> str:
    """SHA-256 over the canonical JSON of what an order bills."""
    fields = _QUOTED if order.kind == pb.ORDER_KIND_LICENSE else _QUOTED + _PERIOD
    return canonical_hash(order.resource(), *fields)


def tax_facts(license: licensing.License) -> TaxFacts:
    """What the taxes on a license's price depend on.

    Refuses with CURRENCY_UNKNOWN, and with TERMS_INVALID when the hash is not that of the terms or they have no price:
    an absent price must not read as free.
    """
    terms = license.terms
    if not terms.HasField("price") or canonical_hash(terms) != license.terms_hash:
        raise Refusal(
            "TERMS_INVALID", f"The terms of {license.name} have no price or another hash.", license=license.name
        )
    require_currency(terms.price.currency)
    return TaxFacts(
        seller=terms.licensor.rsplit("/", 1)[-1],
        buyer=terms.licensee.rsplit("/", 1)[-1],
        category=terms.category,
        kind=pb.ORDER_KIND_LICENSE,
        net=terms.price,
    )


def order_of_terms(
    license: licensing.License,
    tax_lines: Sequence[pb.TaxLine],
    id: str,
    reference: str,
    now: dt.datetime,
    ttl_seconds: float,
    traceparent: str | None,
) -> Order:
    """What an agreed license makes its buyer owe before access. Refuses as `tax_facts` does."""
    facts = tax_facts(license)
    offering = license.terms.offering
    description = f"License {license.name}" + (f" of {offering}" if offering else "")
    return new_order(
        id=id,
        kind=facts.kind,
        license=license.name,
        buyer=facts.buyer,
        seller=facts.seller,
        lines=[pb.OrderLine(description=description, amount=facts.net)],
        tax_lines=tax_lines,
        terms_hash=license.terms_hash,
        reference=reference,
        now=now,
        ttl_seconds=ttl_seconds,
        traceparent=traceparent,
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
