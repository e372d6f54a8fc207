"""What was used, what of it is paid for, when the buyer is warned and when it stops. Any meter; what feeds them is told in
events.py."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.domain.pricing import (
    WARN_AT,
    ZERO,
    MeteredPrice,
    Period,
    Plan,
    decimal_of,
    lower,
    meter_name,
    meter_words,
    text_of,
)
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1 import pricing_pb2 as pricing
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp
from rochdale_kit.refusals import Kind, Refusal

# Why a use is not paid for.
CUT_OFF = "CUT_OFF"
CAPPED = "CAPPED"


@dataclass(frozen=True)
class Tally:
    """One meter of one period. used: all that was told. billable: what of it is to be paid, or included. billed: units
    beyond those included that stand on an order already; none is taken off it again."""

    license: str
    meter: pricing.Meter.ValueType
    period_start: dt.datetime
    period_end: dt.datetime
    used: Decimal = ZERO
    billable: Decimal = ZERO
    billed: Decimal = ZERO
    warn_time: dt.datetime | None = None
    reach_time: dt.datetime | None = None


@dataclass(frozen=True)
class Counted:
    """A tally after a use, how much of that use is billable, and why not all of it."""

    tally: Tally
    billable: Decimal
    reason: str = ""
    warned: bool = False
    reached: bool = False


def count(tally: Tally, quantity: Decimal, cap: Decimal | None, cut_off: bool, now: dt.datetime) -> Counted:
    """Counts one use. What goes beyond the cap, or came after access was cut off, is recorded and never billed.

    `warned` and `reached` are said once each a period; whether they still matter is for the caller, who knows whether
    the period is over.
    """
    used = tally.used + quantity
    billable, reason = quantity, ""
    if cut_off:
        billable, reason = ZERO, CUT_OFF
    elif cap is not None and tally.billable + quantity > cap:
        billable, reason = max(cap - tally.billable, ZERO), CAPPED
    after = replace(tally, used=used, billable=tally.billable + billable)
    warned = cap is not None and tally.warn_time is None and used >= cap * WARN_AT
    reached = cap is not None and tally.reach_time is None and used >= cap
    if warned:
        after = replace(after, warn_time=now)
    if reached:
        after = replace(after, reach_time=now)
    return Counted(after, billable, reason, warned, reached)


@dataclass(frozen=True)
class UseLine:
    """A line of an order for use. `late`: of an earlier period than the order's, told after that was billed."""

    tally: Tally
    price: MeteredPrice
    units: Decimal
    late: bool

    @property
    def amount_minor(self) -> int:
        return self.price.amount_minor(self.units)

    def line(self, currency: str) -> pb.OrderLine:
        """As the order shows it. Rounded here, once."""
        period = f"{self.tally.period_start:%Y-%m-%d} to {self.tally.period_end:%Y-%m-%d}"
        beyond = f" beyond {text_of(self.price.included)} included" if self.price.included else ""
        late = ", billed later than its period" if self.late else ""
        return pb.OrderLine(
            description=f"{meter_words(self.tally.meter).capitalize()}, {period}{beyond}{late}",
            quantity=text_of(self.units),
            unit_price=text_of(self.price.unit_price),
            amount=Money(amount_minor=self.amount_minor, currency=currency),
        )


def lines(plan: Plan, tallies: Iterable[Tally], period: Period) -> list[UseLine]:
    """What a period's order for use says: its own use, and that of earlier periods which no order has said yet."""
    found = []
    for tally in sorted(tallies, key=lambda one: (one.period_start, one.meter)):
        price = plan.price_of(tally.meter)
        if price is None or tally.period_start > period.start:
            continue
        units = price.beyond_included(tally.billable) - tally.billed
        if units > 0:
            found.append(UseLine(tally, price, units, tally.period_start < period.start))
    return found


def check_budget(license: str, plan: Plan, meter: pricing.Meter.ValueType, cap: str) -> Decimal | None:
    """The buyer's own cap; None to have none. Refuses with METER_UNKNOWN and BUDGET_INVALID."""
    price = plan.price_of(meter)
    if price is None:
        raise Refusal(
            "METER_UNKNOWN",
            f"{license} has no price by {meter_name(meter)}.",
            Kind.INVALID,
            license=license,
            meter=meter_name(meter),
        )
    if not cap:
        return None
    number = decimal_of(cap)
    if not number or (price.cap is not None and number > price.cap):
        contract = f", at most {text_of(price.cap)}, the contract's" if price.cap is not None else ""
        raise Refusal(
            "BUDGET_INVALID",
            f"A budget is more than 0{contract}; {cap} is not.",
            Kind.INVALID,
            cap=cap,
            contract_cap=text_of(price.cap) if price.cap is not None else "",
        )
    return number


def resource(price: MeteredPrice, tally: Tally | None, budget: Decimal | None, currency: str) -> pb.MeterUsage:
    """One meter of the current period, as the contract shows it."""
    used, billable = (tally.used, tally.billable) if tally is not None else (ZERO, ZERO)
    cap = lower(price.cap, budget)
    amount_minor = price.amount_minor(price.beyond_included(billable))
    return pb.MeterUsage(
        meter=price.meter,
        used=text_of(used),
        included=text_of(price.included) if price.included else "",
        cap=text_of(cap) if cap is not None else "",
        amount=Money(amount_minor=amount_minor, currency=currency),
        warn_time=to_timestamp(tally.warn_time) if tally is not None else None,
        reach_time=to_timestamp(tally.reach_time) if tally is not None else None,
    )
