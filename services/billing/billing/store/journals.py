"""Journals as they stand in the ledger, read a page at a time, and the seal over those of a period. Posts nothing."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.ledger import Journal, Line, account_of
from billing.store.ledger_tables import account_table, entry_table, journal_table

_journal, _entry, _account = journal_table.c, entry_table.c, account_table.c
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Posted:
    """A journal with the id and time the ledger gave it. Ids are unique, and become visible out of order."""

    id: int
    journal: Journal
    record_time: dt.datetime


async def page_of_journals(
    connection: AsyncConnection,
    book: str,
    before: int | None,
    limit: int,
    *,
    code: str = "",
    kind: str = "",
    currency: str = "",
) -> list[Posted]:
    """Journals with their lines, newest first; the id of the last one is the next page's `before`.

    `code` leaves only those with a line on that account. KeyError for a code that is not in the chart.
    """
    chosen = sa.select(journal_table).where(_journal.book == book).order_by(_journal.id.desc()).limit(limit)
    if before is not None:
        chosen = chosen.where(_journal.id < before)
    if kind:
        chosen = chosen.where(_journal.kind == kind)
    if currency:
        chosen = chosen.where(_journal.currency == currency)
    if code:
        # From the index of the account's lines, newest first. Which of the two it is in, the chart knows.
        accounts = sa.select(_account.id).where(_account.book == book, _account.code == code)
        if currency:
            accounts = accounts.where(_account.currency == currency)
        ids = (await connection.execute(accounts)).scalars().all()
        hot = account_of(book, code).floor is None
        in_index = _entry.account_version.is_(None) if hot else _entry.account_version.is_not(None)
        lines = sa.select(_entry.journal_id).distinct().where(_entry.account_id.in_(ids), in_index)
        if before is not None:
            lines = lines.where(_entry.journal_id < before)
        if not kind:
            lines = lines.order_by(_entry.journal_id.desc()).limit(limit)
        chosen = chosen.where(_journal.id.in_(lines))
    page = chosen.subquery()
    statement = _with_lines(page).order_by(page.c.id.desc())
    return [_posted(row) for row in await connection.execute(statement)]


async def in_period(
    connection: AsyncConnection, book: str, until: dt.datetime, since: dt.datetime | None = None
) -> AsyncIterator[Posted]:
    """Every journal of a book that occurred from `since` and before `until`, by time and key, read as they are used."""
    within = [_journal.book == book, _journal.occur_time < until]
    if since is not None:
        within.append(_journal.occur_time >= since)
    chosen = sa.select(journal_table).where(*within).subquery()
    statement = _with_lines(chosen).order_by(chosen.c.occur_time, chosen.c.key.collate("C"))
    async with connection.stream(statement) as rows:
        async for row in rows:
            yield _posted(row)


async def seal_of(connection: AsyncConnection, book: str, until: dt.datetime) -> bytes:
    """SHA-256 over every journal of a book that occurred before `until`, by time and key; 32 bytes.

    Whoever has the journals can compute it again: no id of the database is part of it. While it stays the same, nothing
    was added to the period and nothing changed in it.
    """
    seal = hashlib.sha256(book.encode())
    async for posted in in_period(connection, book, until):
        # Computed from the lines, not read from the row. Whole microseconds are what PostgreSQL keeps of a time.
        micros = (posted.journal.occur_time - _EPOCH) // dt.timedelta(microseconds=1)
        seal.update(posted.journal.fingerprint + micros.to_bytes(8, "big", signed=True))
    return seal.digest()


async def altered(connection: AsyncConnection, most: int) -> list[str]:
    """A sentence for each journal whose lines no longer give the fingerprint it was posted with."""
    chosen = sa.select(journal_table).subquery()
    found: list[str] = []
    async with connection.stream(_with_lines(chosen).order_by(chosen.c.id)) as rows:
        async for row in rows:
            try:
                same = _posted(row).journal.fingerprint == row.fingerprint
            # Lines that cannot be a journal at all: too few, a sum that is not zero, a code out of the chart.
            except (ValueError, KeyError, TypeError):
                same = False
            if not same:
                found.append(f"journal {row.key} of {row.book} is not what was posted")
            if len(found) == most:
                break
    return found


def _with_lines(chosen: sa.Subquery) -> sa.Select[Any]:
    lines = (
        sa.select(
            sa.func.array_agg(aggregate_order_by(_account.code, _entry.seq)).label("codes"),
            sa.func.array_agg(aggregate_order_by(_entry.amount_minor, _entry.seq)).label("amounts"),
        )
        .select_from(entry_table.join(account_table, _account.id == _entry.account_id))
        .where(_entry.journal_id == chosen.c.id)
        .lateral("lines")
    )
    return sa.select(chosen, lines.c.codes, lines.c.amounts).join_from(chosen, lines, sa.true())


def _posted(row: Any) -> Posted:
    lines = tuple(Line(code, amount) for code, amount in zip(row.codes, row.amounts, strict=True))
    journal = Journal(row.book, row.kind, row.key, row.currency, lines, row.occur_time, row.external_ref)
    return Posted(row.id, journal, row.record_time)
