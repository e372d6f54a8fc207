"""A book as far as one moment, for its export in parts; and what a cooperative spent, with why."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.store.breaks import hold_book
from billing.store.ledger_tables import account_table, entry_table, journal_table
from billing.store.treasury_tables import cost_table

_journal, _entry, _account = journal_table.c, entry_table.c, account_table.c


@dataclass(frozen=True)
class Used:
    """An account of a book as it was used until then: since when, and what its debits less its credits come to."""

    code: str
    currency: str
    since: dt.datetime
    debits_minor: int


async def end(connection: AsyncConnection, book: str) -> int:
    """The id of the last journal; 0 for none. What was being posted before is waited for, since ids become visible out
    of order."""
    await hold_book(connection, book)
    statement = sa.select(sa.func.coalesce(sa.func.max(_journal.id), 0)).where(_journal.book == book)
    return int((await connection.execute(statement)).scalar_one())


async def used(connection: AsyncConnection, book: str, until: int) -> list[Used]:
    """The accounts of a book by code, as they were after the journal `until`."""
    statement = (
        sa.select(
            _account.code,
            _account.currency,
            sa.func.min(_journal.occur_time).label("since"),
            sa.cast(sa.func.sum(_entry.amount_minor), sa.BigInteger).label("minor"),
        )
        .select_from(
            journal_table.join(entry_table, _entry.journal_id == _journal.id).join(
                account_table, _account.id == _entry.account_id
            )
        )
        .where(_journal.book == book, _journal.id <= until)
        .group_by(_account.code, _account.currency)
        .order_by(_account.code, _account.currency)
    )
    return [Used(row.code, row.currency, row.since, row.minor) for row in await connection.execute(statement)]


async def last_day(connection: AsyncConnection, book: str, until: int) -> dt.date:
    """The day of the latest journal."""
    statement = sa.select(sa.func.max(_journal.occur_time)).where(_journal.book == book, _journal.id <= until)
    moment: dt.datetime = (await connection.execute(statement)).scalar_one()
    return moment.astimezone(dt.UTC).date()


async def add_cost(
    connection: AsyncConnection,
    id: str,
    cooperative: str,
    amount_minor: int,
    currency: str,
    description: str,
    by: str,
    at: dt.datetime,
) -> None:
    await connection.execute(
        cost_table.insert().values(
            id=id,
            cooperative=cooperative,
            amount_minor=amount_minor,
            currency=currency,
            description=description,
            recorded_by=by,
            create_time=at,
        )
    )
