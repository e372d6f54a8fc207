"""Reconciliations, the breaks they found and closed months as rows, and what of the ledger they look at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.ledger import PLATFORM
from billing.domain.months import ClosedMonth
from billing.domain.payments import UNANSWERED
from billing.domain.payouts import Asked
from billing.domain.reconciliation import GONE, LEDGER_FLAW, Booked, Break, Finding
from billing.store.ledger_tables import account_table, entry_table, journal_table
from billing.store.tables import payment_table
from billing.store.treasury_tables import (
    break_table,
    closed_month_table,
    payout_table,
    reconciliation_table,
    reversal_table,
    transfer_table,
)
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit.clock import new_id

_table = break_table
# Stripe's ids of balance transactions; a bank's references are external ones too.
_TRANSACTION = "txn\\_%"
_CLEARING = ("stripe:pending", "stripe:available")


def _break(row: Any) -> Break:
    finding = Finding(row.check, row.book, row.subject, row.detail)
    return Break(row.id, finding, row.create_time, row.close_time, row.resolution)


async def record(
    connection: AsyncConnection, findings: Sequence[Finding], checks: Collection[str], at: dt.datetime
) -> int:
    """Keeps what was found and closes what these checks no longer find; how many are open then.

    What a person settled is not found again, unless it is another difference by now.
    """
    # One at a time; the number is arbitrary.
    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(1848)"))
    rows = await connection.execute(sa.select(_table).where(_table.c.close_time.is_(None)))
    known = {(row.check, row.book, row.subject): row for row in rows}
    now_found = {(one.check, one.book, one.subject): one for one in findings}
    for key, one in now_found.items():
        row = known.get(key)
        if row is None:
            if not await _settled(connection, one):
                await connection.execute(
                    _table.insert().values(
                        id=new_id("brk"),
                        check=one.check,
                        book=one.book,
                        subject=one.subject,
                        detail=one.detail,
                        create_time=at,
                        resolution="",
                        closed_by="",
                    )
                )
        elif row.detail != one.detail:
            await connection.execute(_table.update().where(_table.c.id == row.id).values(detail=one.detail))
    gone = [row.id for key, row in known.items() if key not in now_found and row.check in checks]
    await connection.execute(_table.update().where(_table.c.id.in_(gone)).values(close_time=at, resolution=GONE))
    return await open_count(connection, None)


async def _settled(connection: AsyncConnection, one: Finding) -> bool:
    statement = sa.select(_table.c.id).where(
        _table.c.check == one.check,
        _table.c.book == one.book,
        _table.c.subject == one.subject,
        _table.c.detail == one.detail,
        _table.c.close_time.is_not(None),
        _table.c.resolution != GONE,
    )
    return (await connection.execute(statement)).first() is not None


async def open_subjects(connection: AsyncConnection, check: str) -> list[str]:
    """What open breaks of a check are about."""
    statement = sa.select(_table.c.subject).where(_table.c.check == check, _table.c.close_time.is_(None))
    return list((await connection.execute(statement)).scalars())


async def open_count(connection: AsyncConnection, book: str | None) -> int:
    """Open breaks of a book, with the ledger's own flaws, which concern everybody; None for all."""
    statement = sa.select(sa.func.count()).where(_table.c.close_time.is_(None))
    if book is not None:
        statement = statement.where(sa.or_(_table.c.book == book, _table.c.check == LEDGER_FLAW))
    return int((await connection.execute(statement)).scalar_one())


async def page(
    connection: AsyncConnection, book: str | None, after: str | None, limit: int, *, closed: bool
) -> list[Break]:
    """Oldest first: ids sort by time."""
    statement = sa.select(_table).order_by(_table.c.id).limit(limit)
    if book is not None:
        statement = statement.where(_table.c.book == book)
    if after is not None:
        statement = statement.where(_table.c.id > after)
    if not closed:
        statement = statement.where(_table.c.close_time.is_(None))
    return [_break(row) for row in await connection.execute(statement)]


async def lock(connection: AsyncConnection, id: str) -> Break | None:
    row = (await connection.execute(sa.select(_table).where(_table.c.id == id).with_for_update())).first()
    return _break(row) if row is not None else None


async def settle(connection: AsyncConnection, one: Break, by: str) -> None:
    await connection.execute(
        _table.update()
        .where(_table.c.id == one.id)
        .values(close_time=one.close_time, resolution=one.resolution, closed_by=by)
    )


# Reconciliations


async def last_run(connection: AsyncConnection) -> dt.datetime | None:
    statement = sa.select(sa.func.max(reconciliation_table.c.run_time))
    found: dt.datetime | None = (await connection.execute(statement)).scalar_one()
    return found


async def add_run(
    connection: AsyncConnection, id: str, at: dt.datetime, transactions: int, breaks: int, replayed: int
) -> None:
    await connection.execute(
        reconciliation_table.insert().values(
            id=id,
            run_time=at,
            transaction_count=transactions,
            open_break_count=breaks,
            replayed_event_count=replayed,
        )
    )


# What it looks at


async def booked(connection: AsyncConnection, transactions: Iterable[str]) -> dict[str, list[Booked]]:
    """The market's journals of balance transactions, by the transaction."""
    journal, entry, account = journal_table.c, entry_table.c, account_table.c
    net = sa.func.coalesce(sa.func.sum(entry.amount_minor).filter(account.code.in_(_CLEARING)), 0)
    statement = (
        sa.select(journal.external_ref, journal.key, journal.currency, sa.cast(net, sa.BigInteger).label("net_minor"))
        .select_from(
            journal_table.join(entry_table, entry.journal_id == journal.id).join(
                account_table, account.id == entry.account_id
            )
        )
        .where(journal.book == PLATFORM, journal.external_ref.in_(list(transactions)))
        .group_by(journal.id)
    )
    found: dict[str, list[Booked]] = {}
    for row in await connection.execute(statement):
        one = Booked(row.external_ref, row.key, row.net_minor, row.currency)
        found.setdefault(row.external_ref, []).append(one)
    return found


async def booked_since(connection: AsyncConnection, since: dt.datetime | None) -> list[str]:
    """Balance transactions that the market's journals name."""
    journal = journal_table.c
    statement = sa.select(journal.external_ref).where(journal.book == PLATFORM, journal.external_ref.like(_TRANSACTION))
    if since is not None:
        statement = statement.where(journal.record_time >= since)
    return list((await connection.execute(statement)).scalars())


async def clearing(connection: AsyncConnection) -> dict[str, int]:
    """What the books have at Stripe, by currency."""
    entry, account = entry_table.c, account_table.c
    statement = (
        sa.select(account.currency, sa.cast(sa.func.sum(entry.amount_minor), sa.BigInteger).label("minor"))
        .select_from(entry_table.join(account_table, account.id == entry.account_id))
        .where(account.book == PLATFORM, account.code.in_(_CLEARING))
        .group_by(account.currency)
    )
    return {row.currency: row.minor for row in await connection.execute(statement)}


async def posted(connection: AsyncConnection, book: str, key: str) -> bool:
    """Whether a journal of this key is in the book."""
    statement = sa.select(journal_table.c.id).where(journal_table.c.book == book, journal_table.c.key == key)
    return (await connection.execute(statement)).first() is not None


async def unanswered(connection: AsyncConnection, before: dt.datetime) -> list[tuple[str, dt.datetime]]:
    """Attempts that the rail was asked for before a time and has not answered: what, and since when."""
    payment, transfer, reversal = payment_table.c, transfer_table.c, reversal_table.c
    payments = sa.select(payment.id, payment.create_time).where(
        payment.state.in_(UNANSWERED), payment.create_time < before
    )
    # One of a payout to a bank waits for its file, not for an answer.
    transfers = (
        sa.select(transfer.id, transfer.create_time)
        .join(payout_table, payout_table.c.id == transfer.payout_id)
        .where(payout_table.c.rail == pb.PAYOUT_RAIL_STRIPE)
        .where(transfer.state == Asked.PENDING, transfer.create_time < before)
    )
    reversals = sa.select(reversal.id, reversal.create_time).where(
        reversal.state == Asked.PENDING, reversal.create_time < before
    )
    rows = await connection.execute(sa.union_all(payments, transfers, reversals))
    return [(row.id, row.create_time) for row in rows]


# Months


async def closed_month(connection: AsyncConnection, book: str) -> ClosedMonth | None:
    """The last one that was closed."""
    statement = (
        sa.select(closed_month_table)
        .where(closed_month_table.c.book == book)
        .order_by(closed_month_table.c.month.desc())
        .limit(1)
    )
    row = (await connection.execute(statement)).first()
    if row is None:
        return None
    return ClosedMonth(row.book, row.month, row.end_time, row.seal, row.close_time, row.closed_by)


async def hold_book(connection: AsyncConnection, book: str) -> None:
    """Until the transaction ends nothing is posted to the book: what is on its way is waited for first."""
    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(1847, hashtext(:book))"), {"book": book})


async def first_journal(connection: AsyncConnection, book: str) -> dt.datetime | None:
    statement = sa.select(sa.func.min(journal_table.c.occur_time)).where(journal_table.c.book == book)
    found: dt.datetime | None = (await connection.execute(statement)).scalar_one()
    return found


async def close_month(connection: AsyncConnection, month: ClosedMonth) -> None:
    await connection.execute(
        closed_month_table.insert().values(
            book=month.book,
            month=month.month,
            end_time=month.end_time,
            seal=month.seal,
            close_time=month.close_time,
            closed_by=month.closed_by,
        )
    )
