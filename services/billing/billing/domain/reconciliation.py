"""What reconciliation compares, and which differences are breaks. Asks nobody and corrects nothing."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from billing.domain.ledger import PLATFORM
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp
from rochdale_kit.money import format_money

GONE = "GONE"
# Looked at again each time: a movement booked late in a slow night is compared twice rather than never.
OVERLAP = dt.timedelta(hours=48)
# Stripe's own history of events.
EVENTS_KEPT = dt.timedelta(days=30)

WITHOUT_JOURNAL = "BALANCE_TRANSACTION_WITHOUT_JOURNAL"
WITHOUT_TRANSACTION = "JOURNAL_WITHOUT_BALANCE_TRANSACTION"
AMOUNT_DIFFERS = "AMOUNT_DIFFERS"
BALANCE_DIFFERS = "BALANCE_DIFFERS"
TRANSFER_DIFFERS = "TRANSFER_DIFFERS"
ATTEMPT_UNANSWERED = "ATTEMPT_UNANSWERED"
LEDGER_FLAW = "LEDGER_FLAW"
AT_RAIL = (WITHOUT_JOURNAL, WITHOUT_TRANSACTION, AMOUNT_DIFFERS, BALANCE_DIFFERS, TRANSFER_DIFFERS)
AT_HOME = (ATTEMPT_UNANSWERED, LEDGER_FLAW)

# What Stripe does with the market's balance unasked: no difference, but facts that nobody else books.
TO_BANK = ("payout", "payout_cancel", "payout_failure", "topup", "topup_reversal")
FEES = ("stripe_fee", "stripe_fx_fee", "network_cost")


@dataclass(frozen=True)
class Moved:
    """One balance transaction: `net_minor` is what it did to the market's balance at Stripe."""

    id: str
    type: str
    source: str
    net_minor: int
    currency: str
    create_time: dt.datetime


@dataclass(frozen=True)
class Booked:
    """A journal with a balance transaction's id: `net_minor` is what it did to what the books have at Stripe."""

    transaction: str
    key: str
    net_minor: int
    currency: str


@dataclass(frozen=True)
class Finding:
    """A difference. The same check, book and subject found again is the same one."""

    check: str
    book: str
    subject: str
    detail: str


@dataclass(frozen=True)
class Break:
    """A difference as it is kept."""

    id: str
    finding: Finding
    create_time: dt.datetime
    close_time: dt.datetime | None = None
    resolution: str = ""

    def resource(self) -> pb.Break:
        return pb.Break(
            name=f"breaks/{self.id}",
            check=self.finding.check,
            book=self.finding.book,
            detail=self.finding.detail,
            create_time=to_timestamp(self.create_time),
            close_time=to_timestamp(self.close_time),
            resolution=self.resolution,
        )


def unbooked(transactions: Iterable[Moved], booked: Mapping[str, Sequence[Booked]]) -> list[Moved]:
    """Movements of no journal."""
    return [moved for moved in transactions if not booked.get(moved.id)]


def compare(
    transactions: Iterable[Moved], booked: Mapping[str, Sequence[Booked]], settled_before: dt.datetime
) -> list[Finding]:
    """Each balance transaction against exactly one journal. One that is younger may still be on its way into the books."""
    found = []
    for moved in transactions:
        journals = booked.get(moved.id, ())
        if not journals:
            if moved.create_time < settled_before:
                detail = f"{moved.id} ({moved.type} of {moved.source}) moved {_money(moved)}, and no journal has it."
                found.append(Finding(WITHOUT_JOURNAL, PLATFORM, moved.id, detail))
        elif len(journals) > 1:
            keys = ", ".join(sorted(journal.key for journal in journals))
            found.append(Finding(AMOUNT_DIFFERS, PLATFORM, moved.id, f"{moved.id} is in several journals: {keys}."))
        elif (journals[0].net_minor, journals[0].currency) != (moved.net_minor, moved.currency):
            detail = f"{moved.id} moved {_money(moved)}, and {journals[0].key} says {_money(journals[0])}."
            found.append(Finding(AMOUNT_DIFFERS, PLATFORM, moved.id, detail))
    return found


def compare_balances(
    at_rail: Mapping[str, int], in_books: Mapping[str, int], missing: Iterable[Moved]
) -> list[Finding]:
    """What Stripe says is the market's against the clearing accounts; `missing` is told by itself, or on its way."""
    expected = dict(in_books)
    for moved in missing:
        expected[moved.currency] = expected.get(moved.currency, 0) + moved.net_minor
    found = []
    for currency in sorted({*at_rail, *expected}):
        rail, books = at_rail.get(currency, 0), expected.get(currency, 0)
        if rail != books:
            detail = f"Stripe has {_amount(rail, currency)}, and the books {_amount(books, currency)}."
            found.append(Finding(BALANCE_DIFFERS, PLATFORM, currency, detail))
    return found


def flaw(sentence: str) -> Finding:
    """A flaw of the ledger, in the book it names."""
    of = re.search(r"\bof (platform|coop:[a-z0-9-]+)\b", sentence)
    mirror = re.match(r"due_\w+ of ([a-z0-9-]+) is", sentence)
    book = of[1] if of else f"coop:{mirror[1]}" if mirror else PLATFORM
    return Finding(LEDGER_FLAW, book, sentence, sentence)


def _money(one: Moved | Booked) -> str:
    return _amount(one.net_minor, one.currency)


def _amount(amount_minor: int, currency: str) -> str:
    return format_money(Money(amount_minor=amount_minor, currency=currency))
