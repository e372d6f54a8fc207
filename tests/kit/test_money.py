"""Money: the currencies that exist, reading, adding and rounding amounts, and how Stripe counts them."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import (
    CURRENCIES,
    add,
    format_money,
    from_stripe_amount,
    require_currency,
    round_half_up,
    to_stripe_amount,
    total,
)
from rochdale_kit.refusals import Refusal

AMOUNTS = st.integers(0, 10**15)
CODES = st.sampled_from(sorted(CURRENCIES))


@pytest.mark.parametrize("code", ["zzz", "ZZZ", "eur", "EURO", "", "XXX", "XTS", "XAU", "€", "HRK"])
def test_what_is_no_currency_is_refused(code: str) -> None:
    with pytest.raises(Refusal) as refused:
        require_currency(code)
    assert refused.value.reason == "CURRENCY_UNKNOWN"
    assert refused.value.facts == {"currency": code}


def test_exponents_are_those_of_iso_4217() -> None:
    assert [require_currency(code).exponent for code in ("EUR", "JPY", "KWD", "ISK", "MGA", "HUF")] == [
        2,
        0,
        3,
        0,
        2,
        2,
    ]
    assert len(CURRENCIES) == 156


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (120_000, "EUR", "EUR 1,200.00"),
        (0, "EUR", "EUR 0.00"),
        (5, "USD", "USD 0.05"),
        (1_234_567, "JPY", "JPY 1,234,567"),
        (5_120, "KWD", "KWD 5.120"),
        (9_007_199_254_740_993, "EUR", "EUR 90,071,992,547,409.93"),
        (7, "ZZZ", "7 minor units of ZZZ"),
        (7, "", "7 minor units of no currency"),
    ],
)
def test_an_amount_is_read_with_its_code(amount_minor: int, currency: str, text: str) -> None:
    assert format_money(Money(amount_minor=amount_minor, currency=currency)) == text


@given(AMOUNTS, CODES)
def test_what_is_read_is_what_it_was(amount_minor: int, code: str) -> None:
    shown_code, shown = format_money(Money(amount_minor=amount_minor, currency=code)).split(" ")
    assert shown_code == code
    assert Fraction(shown.replace(",", "")) * 10 ** CURRENCIES[code].exponent == amount_minor


def test_two_currencies_are_never_added() -> None:
    with pytest.raises(Refusal) as refused:
        add(Money(amount_minor=1, currency="EUR"), Money(amount_minor=1, currency="USD"))
    assert refused.value.reason == "CURRENCY_MISMATCH"
    assert refused.value.message == "USD 0.01 cannot be added to an amount in EUR."
    with pytest.raises(Refusal):
        add(Money(amount_minor=1), Money(amount_minor=1))


@given(st.lists(AMOUNTS, max_size=8), CODES)
def test_a_total_is_exact(amounts: list[int], code: str) -> None:
    money = total(code, [Money(amount_minor=amount, currency=code) for amount in amounts])
    assert money == Money(amount_minor=sum(amounts), currency=code)


@pytest.mark.parametrize(
    ("exact", "whole"),
    [
        ("0.5", 1),
        ("1.5", 2),
        ("2.5", 3),
        ("2.4999999999999999999999999999999999999999", 2),
        ("-0.5", -1),
        ("-0.4", 0),
        ("0", 0),
        ("1E+3", 1000),
        ("123456789012345678901234567890123456789.5", 123456789012345678901234567890123456790),
    ],
)
def test_a_half_goes_away_from_zero(exact: str, whole: int) -> None:
    assert round_half_up(Decimal(exact)) == whole


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**18), max_value=10**18, places=12))
def test_rounding_moves_an_amount_by_at_most_a_half(exact: Decimal) -> None:
    moved = Fraction(round_half_up(exact)) - Fraction(exact)
    assert abs(moved) <= Fraction(1, 2)
    if abs(moved) == Fraction(1, 2):
        assert (moved > 0) == (exact > 0)


@pytest.mark.parametrize("wrong", [0.5, 1, "1", True, None])
def test_only_a_decimal_is_rounded(wrong: object) -> None:
    with pytest.raises(TypeError):
        round_half_up(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_not_finite_is_no_amount(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not an amount"):
        round_half_up(Decimal(wrong))


@pytest.mark.parametrize(
    ("amount_minor", "currency", "stripe_amount"),
    [
        (1_200, "EUR", 1_200),
        (500, "JPY", 500),
        (5, "ISK", 500),
        (5, "UGX", 500),
        (300, "MGA", 3),
        (5_120, "KWD", 5_120),
        (1_045, "HUF", 1_045),
    ],
)
def test_stripe_counts_some_currencies_its_own_way(amount_minor: int, currency: str, stripe_amount: int) -> None:
    money = Money(amount_minor=amount_minor, currency=currency)
    assert to_stripe_amount(money) == stripe_amount
    assert from_stripe_amount(stripe_amount, currency.lower()) == money


@pytest.mark.parametrize(("amount_minor", "currency"), [(5_124, "KWD"), (150, "MGA")])
def test_what_stripe_cannot_charge_exactly_is_refused_not_rounded(amount_minor: int, currency: str) -> None:
    with pytest.raises(Refusal) as refused:
        to_stripe_amount(Money(amount_minor=amount_minor, currency=currency))
    assert refused.value.reason == "AMOUNT_NOT_CHARGEABLE"


@given(AMOUNTS, CODES)
def test_an_amount_comes_back_from_stripe_as_it_went(amount_minor: int, code: str) -> None:
    money = Money(amount_minor=amount_minor, currency=code)
    try:
        sent = to_stripe_amount(money)
    except Refusal as refused:
        assert refused.reason == "AMOUNT_NOT_CHARGEABLE"
    else:
        assert sent % CURRENCIES[code].stripe_charge_multiple == 0
        assert from_stripe_amount(sent, code.lower()) == money


def test_payouts_have_their_own_multiples() -> None:
    assert {code for code, one in CURRENCIES.items() if one.stripe_payout_multiple == 100} == {
        "HUF",
        "ISK",
        "TWD",
        "UGX",
    }


def test_the_table_says_where_stripe_differs_from_iso() -> None:
    assert {code: (one.exponent, one.stripe_exponent) for code, one in CURRENCIES.items()
            if one.exponent != one.stripe_exponent} == {"ISK": (0, 2), "UGX": (0, 2), "MGA": (2, 0)}  # fmt: skip
    assert {code: one.stripe_charge_multiple for code, one in CURRENCIES.items() if one.stripe_charge_multiple > 1} == {
        **dict.fromkeys(("ISK", "UGX"), 100),
        **dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 10),
    }
    for one in CURRENCIES.values():
        # What may be paid out may be charged, and the least charge is one that can be made.
        assert one.stripe_payout_multiple % one.stripe_charge_multiple == 0
        assert one.stripe_min_charge % one.stripe_charge_multiple == 0


def test_the_least_charge_is_stripes() -> None:
    least = {code: CURRENCIES[code].stripe_min_charge for code in ("EUR", "GBP", "JPY", "HUF", "KWD")}
    assert least == {"EUR": 50, "GBP": 30, "JPY": 50, "HUF": 17_500, "KWD": 0}


def test_a_fraction_from_stripe_is_our_fault_and_loud() -> None:
    with pytest.raises(ValueError, match="fraction"):
        from_stripe_amount(501, "isk")
