"""Plans, exact prices by use, and periods that keep the day they began on."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.pricing import (
    ZERO,
    Calendar,
    MeteredPrice,
    decimal_of,
    gigabytes,
    lower,
    plan_of,
    text_of,
)
from rochdale.type.v1 import pricing_pb2 as pb
from rochdale_kit.refusals import Refusal

MONTH, YEAR = pb.BILLING_INTERVAL_MONTH, pb.BILLING_INTERVAL_YEAR
GIGABYTE, QUERY = pb.METER_GIGABYTE, pb.METER_QUERY
ANCHORS = st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2060, 12, 31), timezones=st.just(dt.UTC))
INTERVALS = st.sampled_from([MONTH, YEAR])
UNITS = st.decimals(0, 10**12 - 1, allow_nan=False, allow_infinity=False, places=12)
FOREVER = dt.datetime(2200, 1, 1, tzinfo=dt.UTC)
# One calendar, and one in which a day is a second.
CALENDARS = st.sampled_from([Calendar(), Calendar(1.0)])


def day(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def metered(unit_price: str = "2.5", included: str = "", cap: str = "", meter: int = GIGABYTE) -> pb.MeteredPrice:
    return pb.MeteredPrice(meter=meter, unit_price=unit_price, included=included, cap=cap)  # type: ignore[arg-type]


def test_a_plan_is_read_as_it_was_agreed() -> None:
    plan = plan_of(pb.PricePlan(interval=MONTH, metered=[metered("0.025", "10", "100.5"), metered("3", meter=QUERY)]))
    assert plan is not None and plan.interval == MONTH
    assert plan.price_of(GIGABYTE) == MeteredPrice(GIGABYTE, Decimal("0.025"), Decimal(10), Decimal("100.5"))
    assert plan.price_of(QUERY) == MeteredPrice(QUERY, Decimal(3))
    assert plan.price_of(pb.METER_EPSILON) is None
    assert plan_of(pb.PricePlan()) is None


@pytest.mark.parametrize(
    "plan",
    [
        pb.PricePlan(metered=[metered()]),
        pb.PricePlan(interval=7),  # type: ignore[arg-type]
        pb.PricePlan(interval=MONTH, metered=[metered(), metered("3")]),
        pb.PricePlan(interval=MONTH, metered=[metered(meter=0)]),
        pb.PricePlan(interval=MONTH, metered=[metered(cap="0")]),
        *(
            pb.PricePlan(interval=MONTH, metered=[metered(text)])
            for text in ("", "1e3", "-1", "NaN", "1.", ".5", "01", "1,5", "1" * 13, "0." + "1" * 13, "٣", " 1")
        ),
    ],
)
def test_a_plan_that_says_nothing_clear_is_refused(plan: pb.PricePlan) -> None:
    with pytest.raises(Refusal) as refused:
        plan_of(plan)
    assert refused.value.reason == "TERMS_INVALID"


@given(UNITS, UNITS, UNITS)
def test_a_line_is_exact_and_rounded_once(unit_price: Decimal, used: Decimal, included: Decimal) -> None:
    price = MeteredPrice(GIGABYTE, unit_price, included)
    beyond = price.beyond_included(used)
    assert Fraction(beyond) == max(Fraction(used) - Fraction(included), 0)
    exact = Fraction(unit_price) * Fraction(beyond)
    amount_minor = price.amount_minor(beyond)
    assert exact - Fraction(1, 2) < amount_minor <= exact + Fraction(1, 2)


def test_half_a_cent_is_paid_and_less_is_not() -> None:
    price = MeteredPrice(GIGABYTE, Decimal("0.5"))
    assert [price.amount_minor(Decimal(units)) for units in ("1", "0.999999999999", "3")] == [1, 0, 2]


@given(st.integers(0, 2**63 - 1))
def test_no_byte_is_lost(sent_bytes: int) -> None:
    assert Fraction(gigabytes(sent_bytes)) == Fraction(sent_bytes, 10**9)


@given(UNITS)
def test_a_decimal_reads_as_it_was_written(number: Decimal) -> None:
    assert decimal_of(text_of(number)) == number
    assert "E" not in text_of(number)


def test_the_lowest_cap_counts() -> None:
    assert lower(None, Decimal(3), Decimal(2)) == 2
    assert lower(None, None) is None
    assert lower(ZERO, Decimal(1)) == 0


def test_the_31st_is_kept_through_shorter_months() -> None:
    starts = [Calendar().start(day("2027-01-31T09:30"), MONTH, index) for index in range(5)]
    assert [f"{start:%m-%d %H:%M}" for start in starts] == [
        "01-31 09:30",
        "02-28 09:30",
        "03-31 09:30",
        "04-30 09:30",
        "05-31 09:30",
    ]
    assert Calendar().start(day("2028-01-31"), MONTH, 1) == day("2028-02-29")
    leap = [Calendar().start(day("2028-02-29"), YEAR, index) for index in range(5)]
    assert leap == [day(text) for text in ("2028-02-29", "2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29")]
    assert Calendar().start(day("2026-11-30"), MONTH, 3) == day("2027-02-28")


@given(CALENDARS, ANCHORS, INTERVALS, st.integers(0, 60))
def test_periods_follow_one_another_without_gap(
    calendar: Calendar, anchor: dt.datetime, interval: int, index: int
) -> None:
    one, next = (calendar.period(anchor, interval, number) for number in (index, index + 1))
    assert one.start < one.end == next.start
    assert calendar.start(anchor, interval, 0) == anchor
    if calendar == Calendar():
        days = (one.end - one.start).days
        assert 28 <= days <= 31 if interval == MONTH else 365 <= days <= 366
        assert one.start.time() == anchor.time() and one.start.day <= anchor.day


@given(CALENDARS, ANCHORS, INTERVALS, st.integers(0, 60), st.floats(0, 1, exclude_max=True))
def test_a_moment_falls_into_one_period(
    calendar: Calendar, anchor: dt.datetime, interval: int, index: int, part: float
) -> None:
    period = calendar.period(anchor, interval, index)
    moment = period.start + (period.end - period.start) * part
    if moment < period.end:
        assert calendar.containing(anchor, interval, moment, FOREVER) == period
    assert calendar.containing(anchor, interval, anchor - dt.timedelta(days=9), FOREVER).index == 0


def test_no_period_outlives_its_license() -> None:
    anchor, until = day("2026-11-30"), day("2027-01-10")
    assert Calendar().period(anchor, MONTH, 1, until).end == until
    assert Calendar().containing(anchor, MONTH, day("2027-05-01"), until).index == 1
