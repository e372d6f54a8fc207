"""Money between people and contracts: one parser, one formatter. Whether a currency exists is for the market to say."""

from __future__ import annotations

import re

# ISO 4217 currencies whose minor unit is not a hundredth; every other has two decimals.
_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
_DECIMALS = dict.fromkeys(_NO_DECIMALS.split(" "), 0) | dict.fromkeys(_THREE_DECIMALS.split(" "), 3)
_SHAPE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,4}))? ?([A-Za-z]{3})")


def decimals_of(currency: str) -> int:
    """How many decimals an amount of a currency has; two where nothing else is known."""
    return _DECIMALS.get(currency, 2)


def parse_money(text: str) -> tuple[int, str]:
    """Minor units and currency of text such as "1200.00 EUR" or "0 EUR". Raises ValueError with a sentence."""
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an amount; write it like 1200.00 EUR.")
    whole, fraction, currency = match[1], match[2] or "", match[3].upper()
    decimals = decimals_of(currency)
    if len(fraction) > decimals:
        raise ValueError(f"{text!r} has {len(fraction)} decimals; {currency} has {decimals}.")
    return int(whole + fraction.ljust(decimals, "0")), currency


def format_money(amount_minor: int, currency: str) -> str:
    """Text such as "1200.00 EUR", which parse_money reads back."""
    decimals = decimals_of(currency)
    digits = str(abs(amount_minor)).rjust(decimals + 1, "0")
    number = f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits
    return f"{'-' if amount_minor < 0 else ''}{number} {currency}"
