"""Prices beyond the first one: what a plan says, when its periods begin, and what a use of it comes to.

Everything is exact: decimals as they were agreed, and one rounding for each line of an invoice.
"""

from __future__ import annotations

import calendar
import datetime as dt
import decimal
import re
from dataclasses import dataclass
from decimal import Decimal

from rochdale.type.v1 import pricing_pb2 as pricing
from rochdale_kit.money import CURRENCIES, from_stripe_amount, round_half_up
from rochdale_kit.refusals import Refusal

ZERO = Decimal(0)
DAY_SECONDS = 86_400.0
# At 80 % of a cap the buyer is warned.
WARN_AT = Decimal("0.8")
# Twelve digits before the point and twelve after it, as the contract has it.
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?")
# Wide enough for any product of two such numbers; what would not be exact is a fault of ours and raises.
_EXACT = decimal.Context(prec=100, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow])
_MONTHS = {pricing.BILLING_INTERVAL_MONTH: 1, pricing.BILLING_INTERVAL_YEAR: 12}


@dataclass(frozen=True)
class MeteredPrice:
    """A price by use: minor units for one unit, the units of a period that cost nothing more, and where it stops."""

    meter: pricing.Meter.ValueType
    unit_price: Decimal
    included: Decimal = ZERO
    cap: Decimal | None = None

    def beyond_included(self, used: Decimal) -> Decimal:
        """The units that are paid for, of those used in one period."""
        return max(_EXACT.subtract(used, self.included), ZERO)

    def amount_minor(self, units: Decimal) -> int:
        """What units come to, rounded once, half up."""
        return round_half_up(_EXACT.multiply(self.unit_price, units))


@dataclass(frozen=True)
class Plan:
    """How the price of a license is due again, and what its use costs. Each meter is there at most once."""

    interval: pricing.BillingInterval.ValueType
    metered: tuple[MeteredPrice, ...] = ()

    def price_of(self, meter: pricing.Meter.ValueType) -> MeteredPrice | None:
        return next((price for price in self.metered if price.meter == meter), None)


def plan_of(plan: pricing.PricePlan) -> Plan | None:
    """What a plan says; None for a price that is due once. Refuses with TERMS_INVALID what says nothing clear."""
    if plan.interval == pricing.BILLING_INTERVAL_UNSPECIFIED:
        if plan.metered:
            raise _invalid("What is metered is billed each period, and the plan has no interval.")
        return None
    if plan.interval not in _MONTHS:
        raise _invalid(f"{plan.interval} is no interval.")
    found: dict[int, MeteredPrice] = {}
    for price in plan.metered:
        if price.meter in found or price.meter not in METER_NAMES:
            raise _invalid(f"Meter {price.meter} is unknown or twice in the plan.")
        cap = decimal_of(price.cap) if price.cap else None
        if cap == ZERO:
            raise _invalid("A cap of zero would let nobody in.")
        included = decimal_of(price.included) if price.included else ZERO
        found[price.meter] = MeteredPrice(price.meter, decimal_of(price.unit_price), included, cap)
    return Plan(plan.interval, tuple(found.values()))


METER_NAMES = {
    pricing.METER_GIGABYTE: ("GIGABYTE", "GB sent"),
    pricing.METER_QUERY: ("QUERY", "queries answered"),
    pricing.METER_EPSILON: ("EPSILON", "privacy loss spent"),
}


def meter_name(meter: int) -> str:
    """As the contract names it, without its prefix."""
    return METER_NAMES[pricing.Meter.ValueType(meter)][0]


def meter_words(meter: int) -> str:
    """As an invoice says it."""
    return METER_NAMES[pricing.Meter.ValueType(meter)][1]


def decimal_of(text: str) -> Decimal:
    """A decimal as the contract writes it. Refuses with TERMS_INVALID anything else, floats' words among them."""
    if not _DECIMAL.fullmatch(text):
        raise _invalid(f"'{text}' is not a decimal such as 0.025.")
    return Decimal(text)


def text_of(number: Decimal) -> str:
    """A decimal for people and contracts: no exponent, no needless zeros."""
    text = f"{number:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def gigabytes(sent_bytes: int) -> Decimal:
    """1,000,000,000 bytes are one; nothing is lost."""
    return Decimal(sent_bytes).scaleb(-9, _EXACT)


def least_charge_minor(currency: str) -> int:
    """The least a card is charged, as far as the rail says; 0 where it does not."""
    return from_stripe_amount(CURRENCIES[currency].stripe_min_charge, currency.lower()).amount_minor


def lower(*caps: Decimal | None) -> Decimal | None:
    """The lowest of the caps there are."""
    return min((cap for cap in caps if cap is not None), default=None)


@dataclass(frozen=True)
class Period:
    """From its start on, up to its end and not including it. The first has index 0."""

    index: int
    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True)
class Calendar:
    """Days and periods. A `day_seconds` that is not a day's is for trying things out: then a month has 30 of them."""

    day_seconds: float = DAY_SECONDS

    def days(self, count: float) -> dt.timedelta:
        return dt.timedelta(seconds=count * self.day_seconds)

    def start(self, anchor: dt.datetime, interval: int, index: int) -> dt.datetime:
        """When the period with this index begins. Counted from the anchor each time, which keeps a 31st a 31st."""
        months = index * _MONTHS[pricing.BillingInterval.ValueType(interval)]
        if self.day_seconds != DAY_SECONDS:
            return anchor + self.days(months // 12 * 365 + months % 12 * 30)
        years, month = divmod(anchor.month - 1 + months, 12)
        year = anchor.year + years
        day = min(anchor.day, calendar.monthrange(year, month + 1)[1])
        return anchor.replace(year=year, month=month + 1, day=day)

    def period(self, anchor: dt.datetime, interval: int, index: int, until: dt.datetime | None = None) -> Period:
        """The period with this index; none goes on after `until`, when the license ends."""
        start, end = (self.start(anchor, interval, number) for number in (index, index + 1))
        return Period(index, start, end if until is None else min(end, until))

    def containing(self, anchor: dt.datetime, interval: int, moment: dt.datetime, until: dt.datetime) -> Period:
        """The period a moment falls into; the first for what is earlier, the last for what is later."""
        moment = max(anchor, min(moment, until - dt.timedelta(microseconds=1)))
        # Guessed from below by the longest a month can be, then walked: a step or two.
        longest = self.days(31) * _MONTHS[pricing.BillingInterval.ValueType(interval)]
        index = max(0, int((moment - anchor) / longest) - 1)
        while self.start(anchor, interval, index + 1) <= moment:
            index += 1
        return self.period(anchor, interval, index, until)


def _invalid(message: str) -> Refusal:
    return Refusal("TERMS_INVALID", message)
