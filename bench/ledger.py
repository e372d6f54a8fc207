"""Journals posted to the double-entry ledger, against bare transactions of two inserts into tables without a constraint."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import time
from collections.abc import Callable, Coroutine, Iterator

import asyncpg

from bench.rows import Line, Reading, Row, Turns, side
from bench.stage import REPETITIONS, Servers, Stage, servers
from billing.domain.ledger import PLATFORM, Journal, book_of, lines
from billing.main import MIGRATIONS
from billing.store import ledger
from billing.store.invariants import flaws
from rochdale_kit.database import Database, migrate

CONNECTIONS = 8
# Each has an account with a floor, which its sales share; every sale is also on one account without.
COOPERATIVES = 64
MEMBERS = 500
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

BARE_JOURNAL = "INSERT INTO journal (key) VALUES ($1) RETURNING id"
BARE_ENTRY = "INSERT INTO entry (journal, account, amount) SELECT $1, * FROM unnest($2::bigint[], $3::bigint[])"


async def run(stage: Stage) -> list[Line]:
    sales, chunks = stage.size(4_000, 40), stage.size(100, 2)
    async with servers(stage.home("ledger")) as running:
        books, bare = await _Books.open(running), await _Bare.open(running)
        try:
            taken = await Turns(REPETITIONS, stage.say).take(
                {
                    "sales": lambda: books.post(sales, _sale),
                    "two lines": lambda: bare.insert(sales, 2),
                    "chunks": lambda: books.post(chunks, _chunk),
                    "many lines": lambda: bare.insert(chunks, MEMBERS + 1),
                }
            )
            await books.check()
        finally:
            await books.close()
            await bare.close()
    note = f"{CONNECTIONS} connections, each journal committed by itself, to disk; both clients in one Python process"
    return [
        Row(
            "–",
            "journals of two lines posted / bare transactions of two inserts",
            side(f"posted, on {COOPERATIVES} accounts with a floor and one without", "/s", taken["sales"]),
            side("one row and two rows without a constraint", "/s", taken["two lines"]),
            None,
            note=note,
        ),
        Row(
            "–",
            f"dividend journals of {MEMBERS} members posted / bare transactions of two inserts",
            side("posted, each member's account with a floor", "/s", taken["chunks"]),
            side(f"one row and {MEMBERS + 1} rows without a constraint", "/s", taken["many lines"]),
            None,
            note=note,
        ),
    ]


def _sale(number: int) -> Journal:
    parts = lines(("stripe:pending", 1_200), (f"coop:c{number % COOPERATIVES}:pending", -1_200))
    return Journal(PLATFORM, "charge", f"charge:{number}", "EUR", parts, NOW, f"txn_{number}")


def _chunk(number: int) -> Journal:
    members = ((f"member:{member}:payable", -3) for member in range(MEMBERS))
    # A cooperative each, as their runs do not wait for one another.
    book = book_of(f"c{number % COOPERATIVES}")
    return Journal(book, "dividend", f"run:{number}", "EUR", lines(("surplus", 3 * MEMBERS), *members), NOW)


class _Books:
    """A ledger as the service has it: over the kit's database, as the role that serves."""

    def __init__(self, database: Database, numbers: Iterator[int]) -> None:
        self._database = database
        self._numbers = numbers

    @classmethod
    async def open(cls, running: Servers) -> _Books:
        postgres = running.postgres
        await postgres.ensure_database("ledger", "ledger", "bench", "ledger_service", "bench")
        await migrate(postgres.dsn("ledger", "ledger", "bench"), MIGRATIONS, "ledger_service")
        return cls(Database(postgres.dsn("ledger", "ledger_service", "bench"), CONNECTIONS), itertools.count())

    async def post(self, count: int, journal: Callable[[int], Journal]) -> Reading:
        waiting = iter(range(count))

        async def post() -> None:
            for _ in waiting:
                async with self._database.begin() as connection:
                    await ledger.post(connection, [journal(next(self._numbers))])

        return await _rate(count, post)

    async def check(self) -> None:
        async with self._database.read() as connection:
            assert not await flaws(connection), "the books have a flaw"

    async def close(self) -> None:
        await self._database.close()


class _Bare:
    """The same rows without anything that makes them a ledger."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, running: Servers) -> _Bare:
        await running.postgres.ensure_database("bare", "bare", "bench")
        dsn = running.postgres.dsn("bare", "bare", "bench").replace("postgresql+asyncpg", "postgresql")
        pool = await asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS)
        await pool.execute("CREATE TABLE journal (id bigint GENERATED ALWAYS AS IDENTITY, key text)")
        await pool.execute("CREATE TABLE entry (journal bigint, account bigint, amount bigint)")
        return cls(pool)

    async def insert(self, count: int, rows: int) -> Reading:
        waiting = iter(range(count))
        accounts, amounts = list(range(rows)), [rows - 1] + [-1] * (rows - 1)

        async def insert() -> None:
            for number in waiting:
                async with self._pool.acquire() as connection, connection.transaction():
                    journal = await connection.fetchval(BARE_JOURNAL, f"charge:{number}")
                    await connection.execute(BARE_ENTRY, journal, accounts, amounts)

        return await _rate(count, insert)

    async def close(self) -> None:
        await self._pool.close()


async def _rate(count: int, work: Callable[[], Coroutine[None, None, None]]) -> Reading:
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work())
    return Reading(count / (time.perf_counter() - started))
