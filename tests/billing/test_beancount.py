"""A book's export to Beancount, audited by bean-check: a program that shares no code with us and runs by itself."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import pytest
from ledger_world import COOP, NOW, Books, audit, charge, journal

from billing.domain.beancount import beancount
from billing.domain.ledger import PLATFORM
from billing.store import journals, ledger


async def exported(books: Books, book: str, tomorrow: dt.datetime = NOW + dt.timedelta(days=40)) -> str:
    async with books.database.read() as connection:
        told = [posted.journal async for posted in journals.in_period(connection, book, tomorrow)]
        kept = await ledger.balances(connection, book)
    return beancount(book, told, [(each.code, each.currency, each.balance_minor) for each in kept])


async def test_both_books_pass_an_auditor_who_shares_no_code_with_us(books: Books, tmp_path: Path) -> None:
    later = [
        dataclasses.replace(
            charge(f"charge:ch_{number}", 10_000 + number, f"txn_{number}"), occur_time=NOW - number * DAY
        )
        for number in range(60)
    ]
    await books.post(
        *later,
        journal("charge:yen", ("stripe:pending", 900), ("coop:valley:pending", -900), currency="JPY"),
        journal("charge:dinar", ("stripe:pending", 1_230), ("coop:valley:pending", -1_230), currency="KWD"),
        journal("payable:1", ("surplus", 12), ("member:mem_1:payable", -5), ("member:mem-1:payable", -7), book=COOP),
    )
    text = await exported(books, PLATFORM)
    assert audit(tmp_path, text) == ""
    assert audit(tmp_path, await exported(books, COOP)) == ""
    # One yen has no cents, one dinar a thousand fils.
    assert "  Assets:Stripe:Pending  900 JPY\n" in text
    assert "  Liabilities:Coop:Valley:Pending  -1.230 KWD\n" in text
    assert (
        '  external_ref: "txn_59"\n' in text
        and f"{NOW.date() + DAY} balance Income:Fee-revenue  -300.00 ~ 0 EUR\n" in text
    )


DAY = dt.timedelta(days=1)
GOOD = [charge(), charge("charge:ch_2", 5_000)]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("95.00 EUR", "95.01 EUR", "does not balance"),
        ("balance Income:Fee-revenue  -10.00", "balance Income:Fee-revenue  -10.01", "Balance failed"),
        ("Expenses:Processing-fees  0.30 EUR\n", "Expenses:Processing  0.30 EUR\n", "unknown account"),
    ],
)
def test_the_auditor_would_say_so(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = beancount(PLATFORM, GOOD, [("fee_revenue", "EUR", 1_000)])
    assert audit(tmp_path, text) == ""
    assert old in text
    assert words in audit(tmp_path, text.replace(old, new, 1))


def test_names_that_would_be_one_stay_two_and_nothing_breaks_out_of_a_string(tmp_path: Path) -> None:
    odd = journal(
        'payable:"\\',
        ("surplus", 9),
        ("member:a_b:payable", -2),
        ("member:a-b:payable", -3),
        ("member:_é:payable", -4),
        book=COOP,
    )
    text = beancount(COOP, [odd])
    assert audit(tmp_path, text) == ""
    assert text.count(" open Liabilities:Member:A-b:Payable-") == 2 and 'code: "member:a_b:payable"' in text
    assert audit(tmp_path, beancount(COOP, [])) == ""


def test_what_is_not_of_this_book_is_refused() -> None:
    with pytest.raises(ValueError, match="not in coop:valley"):
        beancount(COOP, GOOD)
    with pytest.raises(ValueError, match="has a balance and no line"):
        beancount(PLATFORM, GOOD, [("bank", "EUR", 1)])
