"""Posting to the ledger, and balances. What an event posts is in domain/postings, journals are read in journals.py.

Locks are taken in one order by everyone: keys of journals, then new accounts by (book, code, currency), then balances
by account id. Journals that two transactions post in opposite order therefore wait for each other and never deadlock;
that holds within one call, so all journals of an event go together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.ledger import AccountKind, Journal, account_of
from billing.store.ledger_tables import account_table, entry_table

# (book, code, currency): what an account is known by.
Place = tuple[str, str, str]


class LedgerConflict(Exception):
    """The same key or external reference with another content, or an account of another kind than the chart's."""


class Overdraw(Exception):
    """A balance would go below its account's floor. `balance_minor` is what it would come to, on the normal side."""

    def __init__(self, book: str, code: str, currency: str, balance_minor: int) -> None:
        super().__init__(f"{code} of {book} would come to {balance_minor} {currency}.")
        self.book = book
        self.code = code
        self.currency = currency
        self.balance_minor = balance_minor


@dataclass(frozen=True, slots=True)
class AccountBalance:
    """An account and its balance on the normal side."""

    book: str
    code: str
    currency: str
    kind: AccountKind
    balance_minor: int


@dataclass(slots=True)
class _Open:
    """An account that may be posted to; with a floor it is locked, and its balance (debits less credits) is known."""

    id: int
    kind: AccountKind
    floor: int | None
    balance_minor: int
    version: int

    @property
    def normal(self) -> int:
        return self.balance_minor if self.kind.by_debit else -self.balance_minor


# The functions are in migration 0002, with a plan that stays good when the tables grow. Without types of ours, because
# theirs are known and a look at each of a thousand values by SQLAlchemy is not free.
_CLAIM = sa.text("""
    SELECT * FROM claim_journals(:books, :kinds, :keys, :currencies, :fingerprints, :external_refs, :occur_times)
""")
_HOLD = sa.text("SELECT * FROM hold_accounts(:books, :codes, :currencies)")
_CREATE = sa.text("""
    INSERT INTO account (book, code, currency, kind, floor, balance_minor, version)
    SELECT book, code, currency, kind, floor,
           CASE WHEN floor IS NOT NULL THEN 0 END, CASE WHEN floor IS NOT NULL THEN 0 END
    FROM unnest(CAST(:books AS text[]), CAST(:codes AS text[]), CAST(:currencies AS text[]), CAST(:kinds AS smallint[]),
                CAST(:floors AS bigint[])) AS new (book, code, currency, kind, floor)
    ON CONFLICT (book, code, currency) DO NOTHING
""")
_WRITE = sa.text("""
    SELECT write_entries(:ids, :balances, :versions,
                         :journal_ids, :seqs, :account_ids, :amounts, :balances_after, :account_versions)
""")


async def post(connection: AsyncConnection, journals: Sequence[Journal]) -> list[bool]:
    """Posts the journals in the given order, in the caller's transaction. For each: whether it is new.

    One that was posted before with the same content is passed over. Raises LedgerConflict and Overdraw; after either
    the transaction can only be rolled back.
    """
    ids = await _claim(connection, journals)
    new = [journal for journal in _once(journals) if (journal.book, journal.key) in ids]
    if new:
        places = {(journal.book, line.code, journal.currency) for journal in new for line in journal.lines}
        await _write(connection, new, ids, await _open(connection, places))
    # The first of two equal ones in this call is the new one.
    return [ids.pop((journal.book, journal.key), None) is not None for journal in journals]


async def hold(connection: AsyncConnection, book: str, codes: Collection[str], currency: str) -> dict[str, int]:
    """Locks accounts with a floor until the transaction ends, making those that are missing; balances by code.

    For decisions that depend on a balance. Ask for all codes at once, before posting. Raises ValueError for a code
    without a floor, whose balance nobody can hold.
    """
    opened = await _open(connection, {(book, code, currency) for code in codes})
    for (_, code, _), account in opened.items():
        if account.floor is None:
            raise ValueError(f"{code} has no floor.")
    return {code: account.normal for (_, code, _), account in opened.items()}


async def balance(connection: AsyncConnection, book: str, code: str, currency: str) -> int:
    """On the normal side, in minor units; zero for an account nothing was posted to. KeyError for an unknown code."""
    account_of(book, code)
    found = (await connection.execute(_balances(book, currency).where(account_table.c.code == code))).first()
    return _balance(found).balance_minor if found is not None else 0


async def balances(
    connection: AsyncConnection, book: str, currency: str | None = None, prefix: str = "", besides: str = ""
) -> list[AccountBalance]:
    """Every account of a book whose code starts with `prefix` and not with `besides`, by code and currency."""
    statement = _balances(book, currency).where(account_table.c.code.startswith(prefix, autoescape=True))
    if besides:
        statement = statement.where(~account_table.c.code.startswith(besides, autoescape=True))
    return [_balance(row) for row in await connection.execute(statement)]


async def page_of_balances(
    connection: AsyncConnection, book: str, prefix: str, after: tuple[str, str] | None, limit: int
) -> list[AccountBalance]:
    """Accounts whose code starts with `prefix`, in the order of code points; after: code and currency of the last one."""
    place = (account_table.c.code.collate("C"), account_table.c.currency.collate("C"))
    statement = _balances(book, None).where(account_table.c.code.startswith(prefix, autoescape=True))
    if after is not None:
        statement = statement.where(sa.tuple_(*place) > sa.tuple_(*after))
    statement = statement.order_by(None).order_by(*place).limit(limit)
    return [_balance(row) for row in await connection.execute(statement)]


async def members_payable(connection: AsyncConnection, book: str) -> dict[str, int]:
    """What a cooperative owes its members together, by currency. There are as many accounts as members."""
    account = account_table.c
    statement = (
        sa.select(account.currency, sa.cast(-sa.func.sum(account.balance_minor), sa.BigInteger).label("total"))
        .where(account.book == book, account.code.startswith("member:"), account.code.endswith(":payable"))
        .group_by(account.currency)
    )
    return {row.currency: row.total for row in await connection.execute(statement)}


def _once(journals: Iterable[Journal]) -> list[Journal]:
    """Without the repetitions of one call. Raises LedgerConflict for one key with two contents."""
    found: dict[tuple[str, str], Journal] = {}
    for journal in journals:
        first = found.setdefault((journal.book, journal.key), journal)
        if first is not journal and first.fingerprint != journal.fingerprint:
            raise LedgerConflict(f"{journal.key} of {journal.book} is posted twice at once, with two contents.")
    return list(found.values())


async def _claim(connection: AsyncConnection, journals: Sequence[Journal]) -> dict[tuple[str, str], int]:
    """The ids of the journals that are new, by book and key. Waits for a transaction that posts the same key."""
    ordered = sorted(_once(journals), key=lambda journal: (journal.book, journal.key))
    if not ordered:
        return {}
    try:
        rows = await connection.execute(
            _CLAIM,
            {
                "books": [journal.book for journal in ordered],
                "kinds": [journal.kind for journal in ordered],
                "keys": [journal.key for journal in ordered],
                "currencies": [journal.currency for journal in ordered],
                "fingerprints": [journal.fingerprint for journal in ordered],
                "external_refs": [journal.external_ref for journal in ordered],
                "occur_times": [journal.occur_time for journal in ordered],
            },
        )
    except IntegrityError as error:
        if "journal_external_ref" not in str(error.orig):
            raise
        raise LedgerConflict(f"An external reference of {ordered[0].key} is posted under another key.") from error
    ids: dict[tuple[str, str], int] = {}
    known = {(journal.book, journal.key): journal.fingerprint for journal in ordered}
    for row in rows:
        if row.id is not None:
            ids[row.book, row.key] = row.id
        elif row.fingerprint != known[row.book, row.key]:
            raise LedgerConflict(f"{row.key} of {row.book} was posted with another content.")
    return ids


async def _open(connection: AsyncConnection, places: Collection[Place]) -> dict[Place, _Open]:
    """The accounts, made if missing, with those that have a floor locked."""
    ordered = sorted(places)
    opened = await _held(connection, ordered)
    missing = [place for place in ordered if place not in opened]
    if missing:
        # One that only lies behind the missing ones in the order of locks is among them too; making it changes nothing.
        books, codes, currencies = zip(*missing, strict=True)
        charted = [account_of(book, code) for book, code, _ in missing]
        await connection.execute(
            _CREATE,
            {
                "books": list(books),
                "codes": list(codes),
                "currencies": list(currencies),
                "kinds": [int(account.kind) for account in charted],
                "floors": [account.floor for account in charted],
            },
        )
        opened = await _held(connection, ordered)
    for (book, code, _), account in opened.items():
        charted_now = account_of(book, code)
        if (account.kind, account.floor) != (charted_now.kind, charted_now.floor):
            raise LedgerConflict(
                f"{code} of {book} was opened as {account.kind.name} with the floor {account.floor}; the chart now has"
                f" {charted_now.kind.name} with {charted_now.floor}."
            )
    return opened


async def _held(connection: AsyncConnection, places: Sequence[Place]) -> dict[Place, _Open]:
    books, codes, currencies = zip(*places, strict=True) if places else ((), (), ())
    rows = await connection.execute(_HOLD, {"books": list(books), "codes": list(codes), "currencies": list(currencies)})
    return {
        (row.book, row.code, row.currency): _Open(
            row.id, AccountKind(row.kind), row.floor, row.balance_minor, row.version
        )
        for row in rows
    }


async def _write(
    connection: AsyncConnection,
    journals: Sequence[Journal],
    ids: dict[tuple[str, str], int],
    opened: dict[Place, _Open],
) -> None:
    """The lines, with the running balances where there is a floor. Their accounts are locked."""
    lines: list[tuple[int, int, int, int, int | None, int | None]] = []
    moved: dict[int, _Open] = {}
    for journal in journals:
        id = ids[journal.book, journal.key]
        for seq, line in enumerate(journal.lines, start=1):
            account = opened[journal.book, line.code, journal.currency]
            if account.floor is None:
                lines.append((id, seq, account.id, line.amount_minor, None, None))
                continue
            account.balance_minor += line.amount_minor
            account.version += 1
            # After each line, so that no balance was below its floor at any moment of its history. The database holds
            # the same against the last one.
            if account.normal < account.floor:
                raise Overdraw(journal.book, line.code, journal.currency, account.normal)
            moved[account.id] = account
            lines.append((id, seq, account.id, line.amount_minor, account.balance_minor, account.version))
    columns = [list(column) for column in zip(*lines, strict=True)]
    await connection.execute(
        _WRITE,
        {
            "ids": list(moved),
            "balances": [account.balance_minor for account in moved.values()],
            "versions": [account.version for account in moved.values()],
            **dict(
                zip(
                    ("journal_ids", "seqs", "account_ids", "amounts", "balances_after", "account_versions"),
                    columns,
                    strict=True,
                )
            ),
        },
    )


def _balances(book: str, currency: str | None) -> sa.Select[Any]:
    account, entry = account_table.c, entry_table.c
    added = (
        sa.select(sa.cast(sa.func.sum(entry.amount_minor), sa.BigInteger))
        .where(entry.account_id == account.id, entry.account_version.is_(None))
        .scalar_subquery()
    )
    statement = (
        sa.select(
            account.book,
            account.code,
            account.currency,
            account.kind,
            sa.func.coalesce(account.balance_minor, added, 0).label("balance_minor"),
        )
        .where(account.book == book)
        .order_by(account.code, account.currency)
    )
    return statement if currency is None else statement.where(account.currency == currency)


def _balance(row: Any) -> AccountBalance:
    kind = AccountKind(row.kind)
    normal = row.balance_minor if kind.by_debit else -row.balance_minor
    return AccountBalance(row.book, row.code, row.currency, kind, normal)
