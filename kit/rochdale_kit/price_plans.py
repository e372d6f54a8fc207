"""Price plans: when one makes sense, and how it reads. What is owed under one is billing's."""

from __future__ import annotations

from decimal import Decimal

from rochdale.type.v1 import pricing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import CURRENCIES, format_money

_DAY = 86_400
# The shortest there are: nobody licenses for less time than the first period they pay for.
_SHORTEST_SECONDS = {pb.BILLING_INTERVAL_MONTH: 28 * _DAY, pb.BILLING_INTERVAL_YEAR: 365 * _DAY}
_INTERVALS = {pb.BILLING_INTERVAL_MONTH: "month", pb.BILLING_INTERVAL_YEAR: "year"}
_UNITS = {
    pb.METER_GIGABYTE: ("GB", "GB"),
    pb.METER_QUERY: ("query", "queries"),
    pb.METER_EPSILON: ("unit of privacy loss", "units of privacy loss"),
}


def flaw_of_plan(plan: pb.PricePlan) -> str:
    """Why a plan makes no sense, as the rest of a sentence about it; empty when it does.

    Asked of a plan that is there: one that says nothing is left out, so that one meaning has one hash.
    """
    if plan.interval not in _INTERVALS:
        if plan.interval:
            return "names an interval that is none"
        return "bills by use, but no interval" if plan.metered else "says nothing; leave it out"
    counted: set[int] = set()
    for price in plan.metered:
        if price.meter not in _UNITS:
            return "counts something that is no meter"
        name = pb.Meter.Name(price.meter)
        if price.meter in counted:
            return f"counts {name} twice"
        counted.add(price.meter)
        if not Decimal(price.unit_price) and not price.cap:
            return f"counts {name} for nothing: at a price of 0, and with no cap"
        if price.cap and Decimal(price.cap) <= Decimal(price.included or 0):
            return f"caps {name} at {price.cap}, which is not above what is included"
    return ""


def shortest_period_seconds(plan: pb.PricePlan) -> int:
    """How long a license under a plan lasts at least: the shortest period that its price is for. 0 without an interval."""
    return _SHORTEST_SECONDS.get(plan.interval, 0)


def price_words(price: Money, plan: pb.PricePlan) -> str:
    """A price with its plan for people: "EUR 100.00 each month, plus EUR 0.25 for each GB beyond 10, at most 1,000 GB a
    month". A plan that is absent adds nothing, and what this version has no words for is passed over."""
    interval = _INTERVALS.get(plan.interval)
    if interval is None:
        return format_money(price)
    parts = [f"{format_money(price)} each {interval}"]
    for one in plan.metered:
        if one.meter not in _UNITS:
            continue
        unit, units = _UNITS[one.meter]
        beyond = f" beyond {_number(one.included)}" if one.included and Decimal(one.included) else ""
        most = f", at most {_number(one.cap)} {unit if one.cap == '1' else units} a {interval}" if one.cap else ""
        parts.append(f"{unit_price_words(one.unit_price, price.currency)} for each {unit}{beyond}{most}")
    return ", plus ".join([*parts[:1], " and ".join(parts[1:])] if parts[1:] else parts)


def unit_price_words(unit_price: str, currency: str) -> str:
    """A decimal of minor units as an amount with as many decimals as it has: "EUR 0.025" of 2.5 cents."""
    known = CURRENCIES.get(currency)
    if known is None:
        return f"{unit_price} minor units of {currency or 'no currency'}"
    amount = Decimal(unit_price).scaleb(-known.exponent).normalize()
    exponent = amount.as_tuple().exponent
    decimals = max(known.exponent, -exponent if isinstance(exponent, int) else 0)
    return f"{known.code} {amount:,.{decimals}f}"


def _number(decimal: str) -> str:
    """ "1000" as "1,000", "0.50" as "0.5"."""
    whole, _, fraction = decimal.partition(".")
    fraction = fraction.rstrip("0")
    return f"{int(whole):,}" + (f".{fraction}" if fraction else "")
