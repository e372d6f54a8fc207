"""Price plans as people write and read them; every amount is exact."""

from typing import Any

import pytest

from rochdale.client.plans import due, interval, metered_price, plan
from rochdale.type.v1 import money_pb2
from rochdale.type.v1 import pricing_pb2 as pb

MONTH, YEAR = pb.BILLING_INTERVAL_MONTH, pb.BILLING_INTERVAL_YEAR


@pytest.mark.parametrize(
    ("text", "currency", "fields"),
    [
        ("gigabyte=0.025", "EUR", {"meter": pb.METER_GIGABYTE, "unit_price": "2.5"}),
        ("query=100", "EUR", {"meter": pb.METER_QUERY, "unit_price": "10000"}),
        ("query=0.0125", "JPY", {"meter": pb.METER_QUERY, "unit_price": "0.0125"}),
        ("epsilon=1.2345", "KWD", {"meter": pb.METER_EPSILON, "unit_price": "1234.5"}),
        (
            " GigaByte = 0.10 , cap=1000.50, included=0.10".replace(" = ", "="),
            "EUR",
            {"meter": pb.METER_GIGABYTE, "unit_price": "10", "included": "0.1", "cap": "1000.5"},
        ),
        ("query=0", "EUR", {"meter": pb.METER_QUERY, "unit_price": "0"}),
    ],
)
def test_an_amount_for_each_unit_becomes_minor_units(text: str, currency: str, fields: dict[str, Any]) -> None:
    assert metered_price(text, currency) == pb.MeteredPrice(**fields)


@pytest.mark.parametrize(
    "text",
    [
        *("", "gigabyte", "gigabyte=", "gigabyte=-1", "gigabyte=1e3", "gigabyte=0.1.2", "gigabyte=.5", "parsec=1"),
        *("gigabyte=1,cap", "gigabyte=1,cap=1,cap=2", "gigabyte=1,most=3", "gigabyte=99999999999999"),
        *("gigabyte=999999999999", "gigabyte=1,included=x", "gigabyte=0.0000000000001"),
    ],
)
def test_what_is_no_price_by_use(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        metered_price(text, "EUR")


def test_use_is_billed_at_an_interval() -> None:
    assert plan(None, [], "EUR") is None
    assert plan(interval("Year"), [], "EUR") == pb.PricePlan(interval=YEAR)
    with pytest.raises(ValueError, match="--every"):
        plan(None, ["query=1"], "EUR")


@pytest.mark.parametrize(
    ("minor", "currency", "said", "words"),
    [
        (10_000, "EUR", None, "100.00 EUR"),
        (0, "EUR", None, "free (EUR)"),
        (10_000, "EUR", plan(YEAR, [], "EUR"), "100.00 EUR each year"),
        (
            10_000,
            "EUR",
            plan(MONTH, ["gigabyte=0.25,included=10,cap=1000", "query=0.0125,cap=1"], "EUR"),
            "100.00 EUR each month, plus 0.25 EUR for each GB beyond 10, at most 1,000 GB a month and 0.0125 EUR for each "
            "query, at most 1 query a month",
        ),
        (500, "JPY", plan(MONTH, ["epsilon=3"], "JPY"), "500 JPY each month, plus 3 JPY for each unit of privacy loss"),
    ],
)
def test_what_is_due_in_words(minor: int, currency: str, said: pb.PricePlan | None, words: str) -> None:
    assert due(money_pb2.Money(amount_minor=minor, currency=currency), said or pb.PricePlan()) == words
