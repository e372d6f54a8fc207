"""Price plans between people and contracts: `--every month --metered gigabyte=0.025,included=10,cap=1000` and back.

People say an amount for one unit in the currency's major unit; the contract wants a decimal of minor units. Exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from rochdale.client.money import decimals_of
from rochdale.client.terms import METERS, price
from rochdale.type.v1 import money_pb2, pricing_pb2

INTERVALS = {"month": pricing_pb2.BILLING_INTERVAL_MONTH, "year": pricing_pb2.BILLING_INTERVAL_YEAR}
_EACH = {number: word for word, number in INTERVALS.items()}
_UNITS = {
    pricing_pb2.METER_GIGABYTE: ("GB", "GB"),
    pricing_pb2.METER_QUERY: ("query", "queries"),
    pricing_pb2.METER_EPSILON: ("unit of privacy loss", "units of privacy loss"),
}
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?")
_PARTS = ("included", "cap")


def interval(text: str) -> pricing_pb2.BillingInterval.ValueType:
    """Of "month" or "year". Raises ValueError with a sentence."""
    found = INTERVALS.get(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no interval; it is one of {', '.join(INTERVALS)}.")
    return found


def metered_price(text: str, currency: str) -> pricing_pb2.MeteredPrice:
    """Of "gigabyte=0.025,included=10,cap=1000", 0.025 being an amount of the currency. Raises ValueError with a sentence."""
    meter, *parts = (part.strip() for part in text.split(","))
    named = dict(part.partition("=")[::2] for part in parts)
    word, equals, amount = meter.partition("=")
    if not equals or len(named) != len(parts) or set(named) - set(_PARTS):
        raise ValueError(f'{text!r} is not a price by use; write it like "gigabyte=0.025,included=10,cap=1000".')
    major = _decimal(amount, text)
    minor = plain(Decimal(major).scaleb(decimals_of(currency)))
    if not _DECIMAL.fullmatch(minor):
        raise ValueError(f"{text!r} is too large an amount for one unit.")
    limits = {name: plain(Decimal(_decimal(value, text))) for name, value in named.items()}
    return pricing_pb2.MeteredPrice(meter=METERS.parse(word), unit_price=minor, **limits)


def plan(
    every: pricing_pb2.BillingInterval.ValueType | None, metered: Iterable[str], currency: str
) -> pricing_pb2.PricePlan | None:
    """What --every and --metered say together; None for once. Raises ValueError with a sentence."""
    prices = [metered_price(text, currency) for text in metered]
    if every is None:
        if prices:
            raise ValueError("What is used is billed each month or year: say which with --every.")
        return None
    return pricing_pb2.PricePlan(interval=every, metered=prices)


def due(amount: money_pb2.Money, plan: pricing_pb2.PricePlan) -> str:
    """ "100.00 EUR each month, plus 0.25 EUR for each GB beyond 10, at most 1,000 GB a month"; without a plan the price."""
    each = _EACH.get(plan.interval)
    if each is None:
        return price(amount)
    used = []
    for one in plan.metered:
        unit, units = _UNITS.get(one.meter, (METERS.format(one.meter),) * 2)
        beyond = f" beyond {_number(one.included)}" if one.included and Decimal(one.included) else ""
        most = f", at most {_number(one.cap)} {unit if one.cap == '1' else units} a {each}" if one.cap else ""
        used.append(f"{_major(one.unit_price, amount.currency)} for each {unit}{beyond}{most}")
    return f"{price(amount)} each {each}" + (f", plus {' and '.join(used)}" if used else "")


def plain(value: Decimal) -> str:
    """A decimal without zeros that say nothing and without an exponent."""
    return f"{value.normalize():f}"


def _decimal(text: str, whole: str) -> str:
    if not _DECIMAL.fullmatch(text.strip()):
        raise ValueError(f"{text.strip()!r} in {whole!r} is not a number; write it like 0.025.")
    return text.strip()


def _major(unit_price: str, currency: str) -> str:
    decimals = decimals_of(currency)
    text = plain(Decimal(unit_price).scaleb(-decimals))
    whole, _, fraction = text.partition(".")
    fraction = fraction.ljust(decimals, "0")
    return f"{whole}.{fraction} {currency}" if fraction else f"{whole} {currency}"


def _number(text: str) -> str:
    whole, _, fraction = plain(Decimal(text)).partition(".")
    return f"{int(whole):,}" + (f".{fraction}" if fraction else "")
