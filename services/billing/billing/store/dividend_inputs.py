"""What goes into a dividend run, read from the ledger, the shares and what was heard. Works nothing out."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.dividends import Books, Earning
from billing.domain.ledger import book_of
from billing.store import ledger

# What earlier runs took out of the surplus is gone from it, though they were posted after the month's end.
_SURPLUS = sa.text(
    """
    SELECT
        coalesce(sum(-amount_minor) FILTER (WHERE ended OR kind IN ('surplus_divided', 'loss_covered')), 0) AS at_end,
        coalesce(sum(-amount_minor), 0) AS now,
        coalesce(sum(amount_minor) FILTER (WHERE ended AND kind = 'cost' AND occur_time >= :since), 0) AS costs,
        coalesce(sum(amount_minor) FILTER (
            WHERE ended AND kind = 'revenue_taken_back' AND occur_time >= :since), 0) AS taken_back
    FROM (
        SELECT entry.amount_minor, journal.kind, journal.occur_time, journal.occur_time < :end AS ended
        FROM entry
        JOIN account ON account.id = entry.account_id
        JOIN journal ON journal.id = entry.journal_id
        WHERE account.book = :book AND account.code = 'surplus' AND account.currency = :currency
    ) AS line
    """
)
_EARNINGS = sa.text(
    """
    SELECT share.id, share.net_minor - share.fee_minor - share.refunded_minor AS earned_minor,
           coalesce(array_agg(delivery.version ORDER BY delivery.version)
                    FILTER (WHERE delivery.version IS NOT NULL), '{}') AS versions
    FROM share
    JOIN "order" ON "order".id = share.order_id
    LEFT JOIN delivery ON delivery.license = "order".license AND delivery.first_time < :end
        AND delivery.version LIKE 'cooperatives/' || share.cooperative || '/%'
    WHERE share.cooperative = :cooperative AND share.currency = :currency AND share.release_time < :end
        AND NOT EXISTS (SELECT FROM dividend_share WHERE dividend_share.share_id = share.id AND assigned)
    GROUP BY share.id ORDER BY share.id
    """
)


async def books(
    connection: AsyncConnection, cooperative: str, currency: str, since: dt.datetime, end: dt.datetime
) -> Books:
    """The cooperative's book at a month's end and now. since: when the last run's month ended."""
    book = book_of(cooperative)
    values = {"book": book, "currency": currency, "since": since, "end": end}
    row = (await connection.execute(_SURPLUS, values)).one()
    return Books(
        surplus_end_minor=int(row.at_end),
        surplus_now_minor=int(row.now),
        owed_minor=await ledger.balance(connection, book, "due_to_platform", currency),
        reserve_minor=await ledger.balance(connection, book, "reserve", currency),
        costs_minor=max(0, int(row.costs)),
        taken_back_minor=max(0, int(row.taken_back)),
    )


async def earnings(connection: AsyncConnection, cooperative: str, currency: str, end: dt.datetime) -> list[Earning]:
    """Shares that were free by a time and earned in no run yet, less what went back of them."""
    rows = await connection.execute(_EARNINGS, {"cooperative": cooperative, "currency": currency, "end": end})
    return [Earning(row.id, row.earned_minor, tuple(row.versions)) for row in rows]
