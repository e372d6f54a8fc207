"""What the auditor of the simulation of money sees: rows by its own SQL, Stripe by its HTTP interface, and a plain log of
what was said and done; and its own arithmetic of money. Imports nothing of what is audited, and decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import httpx

# The auditor's own words for the numbers in the tables.
PAID, HELD, RELEASED, RETURNED = 2, 1, 2, 5
LOST_DISPUTE, OPEN_DISPUTES = 4, (1, 2)
FEE_BPS, RESERVE_CARD_BPS = 500, 1000
DEBIT_KINDS = (1, 5)
# Whose money may never be below zero.
NEVER_BELOW = ("pending", "frozen", "available", "reserve", "in_transit", "receivable", "credit", "payable")
Money = Counter[str]


class Wrong(AssertionError):
    """Something that must be true is not."""


def require(truth: object, sentence: str) -> None:
    if not truth:
        raise Wrong(sentence)


def same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Wrong(f"{what}: found {found}, expected {expected}")


def half_up(number: Decimal) -> int:
    return int(number.quantize(Decimal(1), ROUND_HALF_UP))


def borne(gross: int, tax: int, fee: int, back: int) -> tuple[int, int, int]:
    """Of `back` that went back in all: the part of the tax, of the fee, and of the cooperative."""
    of_tax = tax * back // gross
    of_fee = fee * (back - of_tax) // (gross - tax) if gross > tax else 0
    return of_tax, of_fee, back - of_tax - of_fee


class Said:
    """The plain log of a history: what people and banks did, as they meant it."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def add(self, what: str, **facts: Any) -> dict[str, Any]:
        self.lines.append({"what": what, **facts})
        return self.lines[-1]

    def unsay(self, line: dict[str, Any]) -> None:
        """It was meant, and did not happen."""
        self.lines.remove(line)

    def all(self, what: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["what"] == what]


class Snapshot:
    """Every row the audit needs, read at one moment."""

    def __init__(self) -> None:
        self.accounts: list[Any] = []
        self.journals: list[Any] = []
        self.orders: dict[str, Any] = {}
        self.shares: list[Any] = []
        self.refunds: list[Any] = []
        self.disputes: list[Any] = []
        self.payments: list[Any] = []
        self.payouts: list[Any] = []
        self.transfers: list[Any] = []
        self.reversals: list[Any] = []
        self.credits: list[Any] = []
        self.runs: list[Any] = []
        self.lines: list[Any] = []
        self.tallies: list[Any] = []
        self.costs: list[Any] = []
        self.invoices: list[Any] = []
        self.unclaimed: list[Any] = []
        self.told: list[Any] = []


_ACCOUNTS = """
    SELECT account.id, book, code, currency, kind, floor, balance_minor, version,
           coalesce(sum(entry.amount_minor), 0)::bigint AS total, count(entry.account_version) AS chained,
           coalesce(max(entry.account_version), 0) AS last_version
    FROM account LEFT JOIN entry ON entry.account_id = account.id GROUP BY account.id ORDER BY account.id
"""
# Journals that are not whole: unbalanced, of one line, or with a line in another book or currency.
_BROKEN = """
    SELECT journal.key FROM journal LEFT JOIN entry ON entry.journal_id = journal.id
    LEFT JOIN account ON account.id = entry.account_id
    GROUP BY journal.id HAVING coalesce(sum(amount_minor), 1) <> 0 OR count(*) < 2
        OR bool_or(account.book <> journal.book OR account.currency <> journal.currency)
"""
_UNCHAINED = """
    SELECT account_id FROM (
        SELECT account_id, balance_after_minor,
               sum(amount_minor) OVER (PARTITION BY account_id ORDER BY account_version) AS running
        FROM entry WHERE account_version IS NOT NULL) AS chain WHERE balance_after_minor <> running
"""
_JOURNALS = """
    SELECT journal.id, journal.book, journal.kind, journal.key, journal.currency, external_ref,
           coalesce(sum(amount_minor) FILTER (WHERE account.code IN ('stripe:pending', 'stripe:available')), 0)::bigint
               AS stripe_minor,
           coalesce(sum(amount_minor) FILTER (WHERE account.code = 'bank'), 0)::bigint AS bank_minor,
           coalesce(sum(amount_minor) FILTER (WHERE account.code = 'suspense'), 0)::bigint AS suspense_minor,
           coalesce(sum(amount_minor) FILTER (WHERE account.code LIKE 'buyer:%'), 0)::bigint AS credit_minor
    FROM journal JOIN entry ON entry.journal_id = journal.id JOIN account ON account.id = entry.account_id
    WHERE journal.id > $1 GROUP BY journal.id ORDER BY journal.id
"""


def worth(share: Any) -> int:
    return int(share["net_minor"] - share["fee_minor"] - share["refunded_minor"])


def gigabytes(uses: Iterable[dict[str, Any]]) -> Decimal:
    return sum((Decimal(one["gigabytes"]) for one in uses), Decimal(0))


def clean(money: Money) -> Money:
    return Money({currency: amount for currency, amount in money.items() if amount})


def summed(parts: Iterable[tuple[str, int]]) -> Money:
    total = Money()
    for currency, amount in parts:
        total[currency] += amount
    return clean(total)


def together(*parts: Money) -> Money:
    return summed((currency, amount) for money in parts for currency, amount in money.items())


def less(money: Money, other: Money) -> Money:
    return together(money, Money({currency: -amount for currency, amount in other.items()}))


class Reader:
    """Reads one history, again and again. `connection` is asyncpg's own, `world` a client of Stripe's interface."""

    def __init__(self, connection: Any, world: httpx.AsyncClient, said: Said) -> None:
        self._connection = connection
        self._world = world
        self._said = said
        self._journals: list[Any] = []
        self._told: list[Any] = []
        self._moved: dict[str, dict[str, Any]] = {}
        self._newest = ""
        # The model of what went back of each order: refunds decided and disputes lost, in the order they were seen.
        self._back: dict[str, int] = {}
        self._known_refunds: set[str] = set()
        self._known_losses: dict[str, int] = {}
        self.steps = 0

    async def _read(self) -> Snapshot:
        ask, rows = self._connection.fetch, Snapshot()
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            rows.accounts = await ask(_ACCOUNTS)
            broken, unchained = await ask(_BROKEN), await ask(_UNCHAINED)
            last = self._journals[-1]["id"] if self._journals else 0
            self._journals += await ask(_JOURNALS, last)
            rows.orders = {row["id"]: row for row in await ask('SELECT * FROM "order"')}
            rows.shares = await ask("SELECT * FROM share")
            rows.refunds = await ask("SELECT * FROM refund ORDER BY create_time, id")
            rows.disputes = await ask("SELECT * FROM dispute ORDER BY create_time, id")
            rows.payments = await ask("SELECT * FROM payment")
            rows.payouts = await ask("SELECT * FROM payout")
            rows.transfers = await ask("SELECT * FROM transfer")
            rows.reversals = await ask("SELECT * FROM reversal")
            rows.credits = await ask("SELECT * FROM bank_transfer")
            rows.runs = await ask("SELECT * FROM dividend_run ORDER BY month")
            rows.lines = await ask("SELECT * FROM dividend_line")
            rows.invoices = await ask("SELECT order_id, kind, amount_minor FROM invoice")
            rows.unclaimed = await ask("SELECT * FROM unclaimed")
            rows.costs = await ask("SELECT * FROM cost")
            rows.tallies = await ask("SELECT * FROM tally")
            seen = self._told[-1]["position"] if self._told else 0
            self._told += await ask(
                "SELECT position, message_type, body FROM outbox WHERE position > $1 ORDER BY position", seen
            )
            count = (await ask("SELECT count(*) AS count FROM journal"))[0]["count"]
        rows.journals, rows.told = self._journals, self._told
        require(not broken, f"journals that are not whole: {[row['key'] for row in broken]}")
        require(not unchained, f"running balances do not chain in accounts {[row['account_id'] for row in unchained]}")
        same("journals never vanish", count, len(self._journals))
        return rows

    async def _get(self, path: str, account: str = "", **query: Any) -> Any:
        headers = {"Stripe-Account": account} if account else {}
        answer = await self._world.get(path, params=query, headers=headers)
        require(answer.status_code == 200, f"Stripe says {answer.status_code} to {path}")
        return answer.json()

    async def _list(self, path: str, account: str = "", **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = await self._get(path, account, limit=100, **query, **after)
            found += page["data"]
            if not page["has_more"]:
                return found
            after = {"starting_after": found[-1]["id"]}

    @staticmethod
    def _balance(rows: Snapshot, book: str, code: str) -> Money:
        """Debits less credits, by currency."""
        found = [one for one in rows.accounts if one["book"] == book and one["code"] == code]
        return Money({one["currency"]: one["total"] for one in found if one["total"]})

    def _owed(self, rows: Snapshot, book: str, code: str) -> Money:
        return Money({currency: -amount for currency, amount in self._balance(rows, book, code).items()})

    @staticmethod
    def _keys(rows: Snapshot, kind: str) -> Counter[str]:
        return Counter(one["key"] for one in rows.journals if one["kind"] == kind)
