"""What an account has: the sum of its balance transactions, available or still pending. Leaves out how they arise."""

from collections import Counter

from . import objects
from .errors import Json, StripeError, invalid
from .unit import Unit


def totals(unit: Unit) -> tuple[Counter[str], Counter[str]]:
    """Available and pending minor units by currency, of the account the unit acts for."""
    available, pending = Counter[str](), Counter[str]()
    for row in unit.rows_now("balance_transaction"):
        side = available if row["available_on"] <= unit.now else pending
        side[row["currency"]] += row["net"]
    return available, pending


def available(unit: Unit, currency: str) -> int:
    """What could be spent right now."""
    return totals(unit)[0][currency]


def short(message: str) -> StripeError:
    """Too little money where it was to come from."""
    return invalid(message, code="balance_insufficient")


def move(unit: Unit, type_: str, source: str, amount_minor: int, currency: str, available_on: int) -> Json:
    """Books money that moves without a fee, for the account the unit acts for."""
    moved = objects.balance_transaction(unit, type_, source, amount_minor, 0, currency, available_on)
    return unit.put("balance_transaction", moved)


def show(unit: Unit, default_currency: str) -> Json:
    """The Balance object; a currency in which nothing ever moved is not in it, but the account's own always is."""
    free, waiting = totals(unit)
    currencies = sorted({default_currency, *free, *waiting})

    def side(amounts: Counter[str]) -> list[Json]:
        return [
            {"amount": amounts[code], "currency": code, "source_types": {"card": amounts[code]}} for code in currencies
        ]

    shown: Json = {"object": "balance", "available": side(free), "livemode": False, "pending": side(waiting)}
    if unit.account is None:
        shown["connect_reserved"] = side(Counter())
    return shown
