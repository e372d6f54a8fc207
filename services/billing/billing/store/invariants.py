"""What must be true of the whole ledger, checked again from its rows: every sentence is a flaw. It mends nothing.

For the reconciliation of a period and the simulation. The database refuses most of these at once; a restore, a
superuser or a mistake in a migration does not ask it.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.ledger import AccountKind, account_of
from billing.store import journals
from billing.store.ledger_tables import account_table

# Enough to see what is wrong; a broken ledger may have a million.
MOST = 100

# Each gives the sentences of one rule.
_RULES = (
    """
    SELECT format('journal %s of %s sums to %s', journal.key, journal.book, coalesce(sum(entry.amount_minor), 0))
    FROM journal LEFT JOIN entry ON entry.journal_id = journal.id
    GROUP BY journal.id HAVING coalesce(sum(entry.amount_minor), 0) <> 0
    """,
    """
    SELECT format('journal %s of %s has %s lines, numbered to %s', key, book, lines, last)
    FROM (
        SELECT journal.key, journal.book, count(entry.seq) AS lines, coalesce(max(entry.seq), 0) AS last
        FROM journal LEFT JOIN entry ON entry.journal_id = journal.id GROUP BY journal.id
    ) AS counted
    WHERE lines < 2 OR lines <> last
    """,
    """
    SELECT format('line %s of journal %s is in no journal or on no account of its book and currency',
                  entry.seq, coalesce(journal.key, entry.journal_id::text))
    FROM entry
    LEFT JOIN journal ON journal.id = entry.journal_id
    LEFT JOIN account ON account.id = entry.account_id
    WHERE (journal.book = account.book AND journal.currency = account.currency) IS NOT TRUE
    """,
    """
    SELECT format('%s of %s is kept at %s %s and version %s, and its %s lines sum to %s',
                  code, book, balance_minor, currency, version, lines, total)
    FROM (
        SELECT account.*, count(entry.seq) AS lines, coalesce(sum(entry.amount_minor), 0) AS total
        FROM account LEFT JOIN entry ON entry.account_id = account.id
        WHERE account.floor IS NOT NULL GROUP BY account.id
    ) AS kept
    WHERE balance_minor <> total OR version <> lines
    """,
    # Versions 1, 2, 3 … and each balance the one before and its amount. With the rule above none can be missing.
    """
    SELECT format('the chain of %s of %s (%s) breaks at version %s: %s after %s and %s',
                  account.code, account.book, account.currency, account_version, balance_after_minor, before,
                  amount_minor)
    FROM (
        SELECT account_id, account_version, amount_minor, balance_after_minor,
               coalesce(lag(balance_after_minor) OVER line, 0) AS before, row_number() OVER line AS number
        FROM entry WHERE account_version IS NOT NULL
        WINDOW line AS (PARTITION BY account_id ORDER BY account_version)
    ) AS chain JOIN account ON account.id = account_id
    WHERE account_version <> number OR balance_after_minor <> before + amount_minor
    """,
    """
    SELECT format('%s of %s (%s) was at %s after version %s, below its floor of %s',
                  account.code, account.book, account.currency, entry.balance_after_minor, entry.account_version,
                  account.floor)
    FROM entry JOIN account ON account.id = entry.account_id
    WHERE CASE WHEN account.kind IN (1, 5) THEN 1 ELSE -1 END * entry.balance_after_minor < account.floor
    """,
    """
    SELECT format('a line of journal %s on %s of %s has a running balance too many or too few',
                  entry.journal_id, account.code, account.book)
    FROM entry JOIN account ON account.id = entry.account_id
    WHERE (account.floor IS NULL) <> (entry.account_version IS NULL)
    """,
    # The two sides of what the platform and a cooperative owe each other. What is pending or frozen is not the
    # cooperative's yet, so its own book does not know of it.
    """
    WITH balances AS (
        SELECT account.book, account.code, account.currency, sum(entry.amount_minor) AS minor
        FROM entry JOIN account ON account.id = entry.account_id GROUP BY account.id
    ), sides AS (
        SELECT split_part(code, ':', 2) AS cooperative, currency,
               CASE split_part(code, ':', 3) WHEN 'receivable' THEN 'due_to_platform' ELSE 'due_from_platform' END
                   AS what,
               -minor AS platform, 0 AS own
        FROM balances
        WHERE book = 'platform' AND code ~ '^coop:[^:]*:(available|in_transit|reserve|receivable)$'
        UNION ALL
        SELECT substr(book, 6), currency, code, 0, minor
        FROM balances
        WHERE book LIKE 'coop:%' AND code IN ('due_from_platform', 'due_to_platform')
    )
    SELECT format('%s of %s is %s %s in its own book and %s in the platform''s',
                  what, cooperative, abs(sum(own)), currency, abs(sum(platform)))
    FROM sides GROUP BY cooperative, currency, what HAVING sum(own) <> sum(platform) ORDER BY cooperative, what
    """,
)


async def flaws(connection: AsyncConnection) -> list[str]:
    """One sentence for each flaw of the whole ledger, at most MOST; none means the books are in order.

    It reads every line. On a connection with REPEATABLE READ or in a quiet ledger it sees one moment; otherwise journals
    committed between two of its rules may make the mirror look broken.
    """
    found: list[str] = []
    for rule in _RULES:
        found += (await connection.execute(sa.text(f"{rule} LIMIT {MOST}"))).scalars()
    found += await _uncharted(connection)
    found += await journals.altered(connection, MOST)
    return found[:MOST]


async def _uncharted(connection: AsyncConnection) -> list[str]:
    """Accounts that are not as the chart says."""
    found = []
    for row in await connection.execute(sa.select(account_table)):
        try:
            charted = account_of(row.book, row.code)
        except KeyError:
            found.append(f"{row.code} of {row.book} is not in the chart")
            continue
        if (charted.kind, charted.floor) != (row.kind, row.floor):
            found.append(f"{row.code} of {row.book} is {AccountKind(row.kind).name} with the floor {row.floor}")
    return found
