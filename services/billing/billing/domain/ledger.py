"""The ledger's words: books, the chart of accounts, journals and their lines. Postings of business events are elsewhere.

An amount is whole minor units, positive for a debit, negative for a credit. A journal's lines sum to zero.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
from dataclasses import dataclass

PLATFORM = "platform"


class AccountKind(enum.IntEnum):
    """On which side an account grows: assets and expenses by debits, the others by credits."""

    ASSET = 1
    LIABILITY = 2
    EQUITY = 3
    REVENUE = 4
    EXPENSE = 5

    @property
    def by_debit(self) -> bool:
        return self in (AccountKind.ASSET, AccountKind.EXPENSE)


@dataclass(frozen=True, slots=True)
class Account:
    """What the chart says of an account. With a floor, its balance on the normal side never goes below it."""

    kind: AccountKind
    floor: int | None = None


_PLATFORM_CHART = {
    "stripe:pending": Account(AccountKind.ASSET),
    "stripe:available": Account(AccountKind.ASSET),
    "bank": Account(AccountKind.ASSET),
    "coop:*:pending": Account(AccountKind.LIABILITY, 0),
    "coop:*:frozen": Account(AccountKind.LIABILITY, 0),
    "coop:*:available": Account(AccountKind.LIABILITY, 0),
    "coop:*:reserve": Account(AccountKind.LIABILITY, 0),
    "coop:*:in_transit": Account(AccountKind.LIABILITY, 0),
    "coop:*:receivable": Account(AccountKind.ASSET, 0),
    "buyer:*:credit": Account(AccountKind.LIABILITY, 0),
    "dispute:held": Account(AccountKind.ASSET),
    "tax:payable": Account(AccountKind.LIABILITY),
    "suspense": Account(AccountKind.LIABILITY),
    "fee_revenue": Account(AccountKind.REVENUE),
    "processing_fees": Account(AccountKind.EXPENSE),
    "dispute_losses": Account(AccountKind.EXPENSE),
    "fx": Account(AccountKind.EXPENSE),
    "rounding": Account(AccountKind.EXPENSE),
}
_COOPERATIVE_CHART = {
    "due_from_platform": Account(AccountKind.ASSET),
    "stripe_connect": Account(AccountKind.ASSET),
    "bank": Account(AccountKind.ASSET),
    "due_to_platform": Account(AccountKind.LIABILITY, 0),
    # Below zero it is a loss, which lessens the next pool.
    "surplus": Account(AccountKind.EQUITY),
    "reserve": Account(AccountKind.EQUITY, 0),
    "commons": Account(AccountKind.EQUITY, 0),
    "solidarity": Account(AccountKind.EQUITY, 0),
    "dividend_pool": Account(AccountKind.LIABILITY, 0),
    "member:*:payable": Account(AccountKind.LIABILITY, 0),
    "member:*:in_transit": Account(AccountKind.LIABILITY, 0),
    "withholding:payable": Account(AccountKind.LIABILITY),
    "unclaimed": Account(AccountKind.LIABILITY, 0),
}


def book_of(cooperative: str) -> str:
    return f"coop:{cooperative}"


def accounts_of_shares(cooperative: str) -> list[str]:
    """Where a cooperative's shares lie in the market's book. Who decides by one of them holds all, in one go, before
    posting: two who held one each and then needed the other's would wait for ever."""
    parts = ("pending", "frozen", "available", "reserve", "receivable")
    return [f"coop:{cooperative}:{part}" for part in parts]


def account_of(book: str, code: str) -> Account:
    """What the chart says of a code in a book. KeyError for a code that is not in it: our own fault."""
    parts = code.split(":")
    pattern = ":".join((parts[0], "*", parts[2])) if len(parts) == 3 else code
    return (_PLATFORM_CHART if book == PLATFORM else _COOPERATIVE_CHART)[pattern]


@dataclass(frozen=True, slots=True)
class Line:
    """One account's part of a journal, never zero."""

    code: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Journal:
    """One business event in one book. `key` names the event's object, such as "charge:ch_…"; it posts once.

    external_ref: the rail's own id of the money that moved, such as a balance transaction; empty for none.
    """

    book: str
    kind: str
    key: str
    currency: str
    lines: tuple[Line, ...]
    occur_time: dt.datetime
    external_ref: str = ""

    def __post_init__(self) -> None:
        if len(self.lines) < 2 or any(line.amount_minor == 0 for line in self.lines):
            raise ValueError(f"{self.key} has fewer than two lines, or an empty one.")
        if sum(line.amount_minor for line in self.lines) != 0:
            raise ValueError(f"{self.key} does not sum to zero.")
        for line in self.lines:
            account_of(self.book, line.code)

    @property
    def fingerprint(self) -> bytes:
        """Same content, same fingerprint; when it was told is no part of it."""
        parts = [self.book, self.kind, self.key, self.currency, self.external_ref]
        parts += [f"{line.code}={line.amount_minor}" for line in sorted(self.lines, key=lambda line: line.code)]
        return hashlib.sha256("\0".join(parts).encode()).digest()


def lines(*parts: tuple[str, int]) -> tuple[Line, ...]:
    """Lines of a journal: amounts on one code are added, and what comes to zero is left out."""
    sums: dict[str, int] = {}
    for code, amount in parts:
        sums[code] = sums.get(code, 0) + amount
    return tuple(Line(code, amount) for code, amount in sums.items() if amount)
