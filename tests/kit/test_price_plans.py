"""Price plans: which make sense, and how people read them."""

import pytest

from rochdale.type.v1 import pricing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.price_plans import flaw_of_plan, price_words, shortest_period_seconds

MONTH, YEAR = pb.BILLING_INTERVAL_MONTH, pb.BILLING_INTERVAL_YEAR
GIGABYTE, QUERY, EPSILON = pb.METER_GIGABYTE, pb.METER_QUERY, pb.METER_EPSILON
DAY = 86_400


def by(meter: pb.Meter.ValueType, unit_price: str, included: str = "", cap: str = "") -> pb.MeteredPrice:
    return pb.MeteredPrice(meter=meter, unit_price=unit_price, included=included, cap=cap)


@pytest.mark.parametrize(
    ("interval", "metered"),
    [
        (MONTH, []),
        (YEAR, [by(GIGABYTE, "2.5", "10", "1000"), by(QUERY, "0.01"), by(EPSILON, "100", cap="0.5")]),
        # Nothing for what is used, but an end of it.
        (MONTH, [by(QUERY, "0", cap="100")]),
    ],
)
def test_what_makes_sense(interval: pb.BillingInterval.ValueType, metered: list[pb.MeteredPrice]) -> None:
    assert flaw_of_plan(pb.PricePlan(interval=interval, metered=metered)) == ""


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (pb.PricePlan(), "says nothing; leave it out"),
        (pb.PricePlan(metered=[by(QUERY, "1")]), "bills by use, but no interval"),
        (pb.PricePlan(interval=7), "names an interval that is none"),  # type: ignore[arg-type]  # of a later contract
        (pb.PricePlan(interval=MONTH, metered=[by(QUERY, "1"), by(QUERY, "2")]), "counts METER_QUERY twice"),
        (pb.PricePlan(interval=MONTH, metered=[by(QUERY, "0.00")]), "counts METER_QUERY for nothing"),
        (pb.PricePlan(interval=MONTH, metered=[by(9, "1")]), "counts something that is no meter"),  # type: ignore[arg-type]
        (pb.PricePlan(interval=MONTH, metered=[by(QUERY, "1", "10", "10.0")]), "caps METER_QUERY at 10.0"),
        (pb.PricePlan(interval=MONTH, metered=[by(QUERY, "1", cap="0")]), "caps METER_QUERY at 0"),
    ],
)
def test_what_makes_none(plan: pb.PricePlan, says: str) -> None:
    assert flaw_of_plan(plan).startswith(says)


@pytest.mark.parametrize(
    ("price", "plan", "words"),
    [
        (Money(amount_minor=10_000, currency="EUR"), pb.PricePlan(), "EUR 100.00"),
        (Money(amount_minor=10_000, currency="EUR"), pb.PricePlan(interval=YEAR), "EUR 100.00 each year"),
        (
            Money(amount_minor=10_000, currency="EUR"),
            pb.PricePlan(interval=MONTH, metered=[by(GIGABYTE, "25", "10", "1000")]),
            "EUR 100.00 each month, plus EUR 0.25 for each GB beyond 10, at most 1,000 GB a month",
        ),
        (
            Money(amount_minor=0, currency="EUR"),
            pb.PricePlan(interval=MONTH, metered=[by(QUERY, "2.5", "0"), by(EPSILON, "1000", "0.50", "1")]),
            "EUR 0.00 each month, plus EUR 0.025 for each query and EUR 10.00 for each unit of privacy loss beyond 0.5, "
            "at most 1 unit of privacy loss a month",
        ),
        (
            Money(amount_minor=500, currency="JPY"),
            pb.PricePlan(interval=MONTH, metered=[by(GIGABYTE, "0.0125")]),
            "JPY 500 each month, plus JPY 0.0125 for each GB",
        ),
        (
            Money(amount_minor=5, currency="KWD"),
            pb.PricePlan(interval=YEAR, metered=[by(GIGABYTE, "123456789012.123456789012")]),
            "KWD 0.005 each year, plus KWD 123,456,789.012123456789012 for each GB",
        ),
    ],
)
def test_how_it_reads(price: Money, plan: pb.PricePlan, words: str) -> None:
    assert price_words(price, plan) == words


def test_the_shortest_period_is_a_february() -> None:
    assert shortest_period_seconds(pb.PricePlan(interval=MONTH)) == 28 * DAY
    assert shortest_period_seconds(pb.PricePlan(interval=YEAR)) == 365 * DAY
    assert shortest_period_seconds(pb.PricePlan()) == 0
