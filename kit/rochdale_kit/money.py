"""Money: which currencies exist, how an amount is read, added and rounded. Holds no rates and converts nothing.

Amounts are the contract's Money: whole minor units of one currency. A float never gets near one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.refusals import Kind, Refusal


@dataclass(frozen=True, slots=True)
class Currency:
    """What we know of one currency.

    exponent: how many decimals its minor unit stands for in ISO 4217 (2 for EUR, 0 for JPY, 3 for KWD).
    stripe_exponent: the same in amounts sent to and received from Stripe, which is not always ISO's.
    stripe_charge_multiple: amounts of a charge, as sent to Stripe, must divide by this.
    stripe_payout_multiple: amounts of a payout, as sent to Stripe, must divide by this.
    stripe_min_charge: the least amount of a charge, as sent to Stripe; 0 where Stripe names none.
    """

    code: str
    exponent: int
    stripe_exponent: int
    stripe_charge_multiple: int
    stripe_payout_multiple: int
    stripe_min_charge: int


# ISO 4217 as of 2026, money in circulation only: no fund codes, metals, test codes or withdrawn currencies.
_EXPONENT_0 = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_EXPONENT_2 = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK
DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD
KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP
PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH
USD UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
"""
_EXPONENT_3 = "BHD IQD JOD KWD LYD OMR TND"

# Where Stripe counts differently. It takes ISK and UGX, which have no decimals, as if they had two that are always 00;
# it takes MGA, which has two on paper, without any.
_STRIPE_EXPONENT = {"ISK": 2, "UGX": 2, "MGA": 0}
_STRIPE_CHARGE_MULTIPLE = {"ISK": 100, "UGX": 100} | dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 10)
_STRIPE_PAYOUT_MULTIPLE = _STRIPE_CHARGE_MULTIPLE | {"HUF": 100, "TWD": 100}
# What Stripe's page on currencies names. Elsewhere the least amount is that of the currency in which it settles.
_STRIPE_MIN_CHARGE = dict.fromkeys(("AUD", "BRL", "CAD", "CHF", "EUR", "INR", "JPY", "NZD", "SGD", "USD"), 50) | {
    "AED": 200,
    "CZK": 1_500,
    "DKK": 250,
    "GBP": 30,
    "HKD": 400,
    "HUF": 17_500,
    "MXN": 1_000,
    "MYR": 200,
    "NOK": 300,
    "PLN": 200,
    "RON": 200,
    "SEK": 300,
    "THB": 1_000,
}


def _table() -> Mapping[str, Currency]:
    exponents = {
        code: exponent
        for exponent, codes in ((0, _EXPONENT_0), (2, _EXPONENT_2), (3, _EXPONENT_3))
        for code in codes.split()
    }
    return {
        code: Currency(
            code,
            exponent,
            _STRIPE_EXPONENT.get(code, exponent),
            _STRIPE_CHARGE_MULTIPLE.get(code, 1),
            _STRIPE_PAYOUT_MULTIPLE.get(code, 1),
            _STRIPE_MIN_CHARGE.get(code, 0),
        )
        for code, exponent in exponents.items()
    }


CURRENCIES: Mapping[str, Currency] = _table()


def require_currency(code: str) -> Currency:
    """The currency of an ISO 4217 code in capitals. Refuses with CURRENCY_UNKNOWN."""
    currency = CURRENCIES.get(code)
    if currency is None:
        raise Refusal("CURRENCY_UNKNOWN", f"'{code}' is not a currency of ISO 4217, such as EUR.", currency=code)
    return currency


def format_money(money: Money) -> str:
    """An amount for people, the code first: "EUR 1,200.00", "JPY 500". Never fails; an unknown code is said as such."""
    currency = CURRENCIES.get(money.currency)
    if currency is None:
        return f"{money.amount_minor:,} minor units of {money.currency or 'no currency'}"
    # Decimal counts in tens, so moving the point is exact for every int64; a float would lose cents from 2^53 on.
    return f"{currency.code} {Decimal(money.amount_minor).scaleb(-currency.exponent):,.{currency.exponent}f}"


def total(currency: str, amounts: Iterable[Money]) -> Money:
    """The sum of amounts of one currency; zero when there are none.

    Refuses with CURRENCY_UNKNOWN, and with CURRENCY_MISMATCH when one of them is in another currency.
    """
    require_currency(currency)
    amount_minor = 0
    for money in amounts:
        if money.currency != currency:
            raise Refusal(
                "CURRENCY_MISMATCH",
                f"{format_money(money)} cannot be added to an amount in {currency}.",
                currency=money.currency,
                expected_currency=currency,
            )
        amount_minor += money.amount_minor
    return Money(amount_minor=amount_minor, currency=currency)


def add(first: Money, second: Money) -> Money:
    """Two amounts of one currency as one. Refuses as `total` does."""
    return total(first.currency, (first, second))


def round_half_up(amount_minor: Decimal) -> int:
    """An exact amount of minor units as whole ones; a half goes away from zero. The only rounding in the product.

    Called once for each line of an invoice, never on a sum of rounded lines. TypeError for anything but a Decimal,
    ValueError for infinity and NaN: both are our own faults, not somebody's request.
    """
    if not isinstance(amount_minor, Decimal):
        raise TypeError(f"An amount is a Decimal, not {type(amount_minor).__name__}.")
    if not amount_minor.is_finite():
        raise ValueError(f"{amount_minor} is not an amount.")
    return int(amount_minor.to_integral_value(rounding=ROUND_HALF_UP))


def to_stripe_amount(money: Money) -> int:
    """The amount of a charge as Stripe counts it.

    Refuses with CURRENCY_UNKNOWN, and with AMOUNT_NOT_CHARGEABLE when Stripe cannot charge exactly this amount: fils of
    a Kuwaiti dinar end in 0, an ariary has no decimals. Rounding here would charge what nobody agreed to.
    """
    currency = require_currency(money.currency)
    amount, rest = _shifted(money.amount_minor, currency.stripe_exponent - currency.exponent)
    if rest or amount % currency.stripe_charge_multiple:
        raise Refusal(
            "AMOUNT_NOT_CHARGEABLE",
            f"{format_money(money)} cannot be charged by card; the last digit must be 0.",
            Kind.INVALID,
            amount_minor=money.amount_minor,
            currency=money.currency,
        )
    return amount


def from_stripe_amount(amount: int, stripe_currency: str) -> Money:
    """What Stripe reports, such as (1200, "eur"), as Money.

    Refuses with CURRENCY_UNKNOWN. ValueError when the amount is a fraction of a minor unit, which Stripe promises never
    to send.
    """
    currency = require_currency(stripe_currency.upper())
    amount_minor, rest = _shifted(amount, currency.exponent - currency.stripe_exponent)
    if rest:
        raise ValueError(f"{amount} {stripe_currency} is a fraction of a minor unit.")
    return Money(amount_minor=amount_minor, currency=currency.code)


def _shifted(amount: int, places: int) -> tuple[int, int]:
    """The amount with its decimal point moved, and what did not fit into whole units."""
    factor: int = 10 ** abs(places)
    return (amount * factor, 0) if places >= 0 else divmod(amount, factor)
