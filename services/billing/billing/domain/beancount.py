"""A book as text for Beancount, which any accountant's tools can read and bean-check audits. Reads nothing, writes no file."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

from billing.domain.ledger import AccountKind, Journal, account_of
from rochdale_kit.money import require_currency

# Its five roots; debits are positive there too.
_ROOTS = {
    AccountKind.ASSET: "Assets",
    AccountKind.LIABILITY: "Liabilities",
    AccountKind.EQUITY: "Equity",
    AccountKind.REVENUE: "Income",
    AccountKind.EXPENSE: "Expenses",
}


def beancount(book: str, journals: Iterable[Journal], balances: Iterable[tuple[str, str, int]] = ()) -> str:
    """The journals of one book, in the given order, with an opening for each account.

    balances: (code, currency, minor units on the normal side) as the ledger keeps them after all these journals. Each
    becomes an assertion on the day after the last of them, which Beancount then holds against the sum of the postings.
    Dates are UTC. Refuses with CURRENCY_UNKNOWN; ValueError for a journal of another book.
    """
    told = list(journals)
    opened: dict[str, tuple[dt.date, set[str]]] = {}
    for journal in told:
        if journal.book != book:
            raise ValueError(f"{journal.key} is in {journal.book}, not in {book}.")
        for line in journal.lines:
            since, currencies = opened.get(line.code, (_date(journal), set()))
            opened[line.code] = min(since, _date(journal)), currencies | {journal.currency}
    text = openings(book, opened) + transactions(book, opened, told)
    if not told:
        return text
    return text + assertions(book, opened, balances, max(_date(journal) for journal in told))


# A book too long for one text is told in parts: the openings, transactions in any order, the assertions.


def openings(book: str, opened: Mapping[str, tuple[dt.date, Collection[str]]]) -> str:
    """The head of a book. opened: each code it uses, with the day of its first journal and its currencies."""
    names = _names(book, opened)
    currencies = sorted({currency for _, used in opened.values() for currency in used})
    text = [f'option "title" {_quoted(book)}']
    text += [f'option "operating_currency" "{each}"' for each in currencies]
    for code, (since, used) in sorted(opened.items()):
        text += ["", f"{since} open {names[code]} {','.join(sorted(used))}", f"  code: {_quoted(code)}"]
    return "\n".join(text) + "\n"


def transactions(book: str, codes: Iterable[str], journals: Iterable[Journal]) -> str:
    """Journals. codes: all that the whole book uses, since what an account is called depends on the others."""
    names, text = _names(book, codes), []
    for journal in journals:
        text += ["", f"{_date(journal)} * {_quoted(journal.kind)} {_quoted(journal.key)}"]
        text.append(f"  key: {_quoted(journal.key)}")
        if journal.external_ref:
            text.append(f"  external_ref: {_quoted(journal.external_ref)}")
        text.append(f"  time: {_quoted(journal.occur_time.astimezone(dt.UTC).isoformat())}")
        for line in journal.lines:
            text.append(f"  {names[line.code]}  {_amount(line.amount_minor, journal.currency)}")
    return "\n".join(text) + "\n" if text else ""


def assertions(book: str, codes: Iterable[str], balances: Iterable[tuple[str, str, int]], last: dt.date) -> str:
    """Balances after everything until `last`; see beancount()."""
    names, text = _names(book, codes), [""]
    for code, currency, minor in balances:
        by_debit = account_of(book, code).kind.by_debit
        if code in names:
            # Without "~ 0" it would let a cent pass.
            amount = _amount(minor if by_debit else -minor, currency, " ~ 0")
            text.append(f"{last + dt.timedelta(days=1)} balance {names[code]}  {amount}")
        elif minor:
            raise ValueError(f"{code} of {book} has a balance and no line.")
    return "\n".join(text) + "\n"


def _names(book: str, codes: Iterable[str]) -> dict[str, str]:
    """Beancount's name of each account. Two codes that would be one name get a mark of their own."""
    names: dict[str, str] = {}
    for code in codes:
        parts = [_ROOTS[account_of(book, code).kind], *(_component(part) for part in code.split(":"))]
        names[code] = ":".join(parts)
    seen: dict[str, int] = {}
    for name in names.values():
        seen[name] = seen.get(name, 0) + 1
    return {
        code: name if seen[name] == 1 else f"{name}-{hashlib.sha256(code.encode()).hexdigest()[:12]}"
        for code, name in names.items()
    }


def _component(part: str) -> str:
    """Letters, digits and hyphens, the first of them a capital or a digit."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", part)
    return f"X{plain}" if plain[:1] in ("", "-") else plain[0].upper() + plain[1:]


def _date(journal: Journal) -> dt.date:
    return journal.occur_time.astimezone(dt.UTC).date()


def _amount(minor: int, currency: str, tolerance: str = "") -> str:
    # Exact for every int64: it only moves the point.
    return f"{Decimal(minor).scaleb(-require_currency(currency).exponent):f}{tolerance} {currency}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
