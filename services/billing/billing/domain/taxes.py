"""Taxes on an order, computed exactly. Which tax is due, if any, is never decided here: an adapter says it (tax.py)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import round_half_up


@dataclass(frozen=True)
class TaxFacts:
    """What an adapter may go by. seller and buyer are bare ids; where they are seated, billing does not know."""

    seller: str
    buyer: str
    category: scope_pb2.BuyerCategory.ValueType
    kind: pb.OrderKind.ValueType
    net: Money


def tax_line(label: str, rate: str, note: str, base: Money) -> pb.TaxLine:
    """One tax: `rate` in percent, such as "21"; empty for none. Rounded once, half up."""
    amount = round_half_up(Decimal(base.amount_minor) * Decimal(rate or "0") / 100)
    return pb.TaxLine(
        label=label, rate=rate, base=base, amount=Money(amount_minor=amount, currency=base.currency), note=note
    )
