"""A ledger of a test's own, journals to post to it, and a spender for a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg

from billing.domain.ledger import PLATFORM, Journal, book_of, lines
from billing.main import MIGRATIONS
from billing.store import ledger
from billing.store.invariants import flaws
from rochdale_kit.database import Database, migrate
from rochdale_local.postgres import Postgres

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
EUR = "EUR"
COOP = book_of("valley")


class Books:
    """A ledger of its own: `database` is what the service has, `owner` what only migrations have."""

    def __init__(self, url: str, owner_url: str) -> None:
        self.url = url
        self.database = Database(url)
        self.owner_url = owner_url

    async def post(self, *wanted: Journal) -> list[bool]:
        async with self.database.begin() as connection:
            return await ledger.post(connection, wanted)

    async def balance(self, code: str, book: str = PLATFORM, currency: str = EUR) -> int:
        async with self.database.read() as connection:
            return await ledger.balance(connection, book, code, currency)

    async def flaws(self) -> list[str]:
        async with self.database.read() as connection:
            return await flaws(connection)

    async def execute(self, *statements: str, owner: bool = False) -> list[Any]:
        """In one transaction, as somebody with the role's password and no code of ours; the last one's rows."""
        connection = await asyncpg.connect((self.owner_url if owner else self.url).replace("+asyncpg", ""))
        try:
            async with connection.transaction():
                for statement in statements[:-1]:
                    await connection.execute(statement)
                rows: list[Any] = await connection.fetch(statements[-1])
                return rows
        finally:
            await connection.close()


@contextlib.asynccontextmanager
async def new_books(postgres: Postgres) -> AsyncIterator[Books]:
    name = f"ledger_{secrets.token_hex(4)}"
    role = f"{name}_service"
    await postgres.ensure_database(name, name, "test", role, "test")
    owner_url = postgres.dsn(name, name, "test")
    await migrate(owner_url, MIGRATIONS, role)
    books = Books(postgres.dsn(name, role, "test"), owner_url)
    yield books
    await books.database.close()


def journal(key: str, *parts: tuple[str, int], book: str = PLATFORM, currency: str = EUR, ref: str = "") -> Journal:
    return Journal(book, key.split(":", 1)[0], key, currency, lines(*parts), NOW, ref)


def charge(key: str = "charge:ch_1", amount: int = 10_000, ref: str = "", coop: str = "valley") -> Journal:
    return journal(
        key,
        ("stripe:pending", amount - 30),
        ("processing_fees", 30),
        (f"coop:{coop}:pending", 500 - amount),
        ("fee_revenue", -500),
        ref=ref,
    )


def spend(url: str, worker: int, rounds: int) -> tuple[int, int]:
    """In a process of its own: takes from one account while it lasts, and moves between two in either direction."""

    async def work() -> tuple[int, int]:
        database = Database(url, pool_size=1)
        taken = refused = 0
        ends = ["coop:a:frozen", "coop:b:frozen"][:: 1 if worker % 2 else -1]
        try:
            for number in range(rounds):
                key = f"{worker}:{number}"
                try:
                    async with database.begin() as connection:
                        await ledger.post(
                            connection,
                            [
                                journal(f"swap:{key}", (ends[0], 1), (ends[1], -1)),
                                journal(f"take:{key}", ("coop:valley:pending", 100), ("stripe:pending", -100)),
                            ],
                        )
                    taken += 1
                except ledger.Overdraw:
                    refused += 1
        finally:
            await database.close()
        return taken, refused

    return asyncio.run(work())


BEAN_CHECK = Path(sys.executable).parent / "bean-check"


def audit(folder: Path, text: str) -> str:
    """What bean-check has to say against it; nothing when the book is in order."""
    file = folder / "book.beancount"
    file.write_text(text)
    # By itself and never imported: it is under the GPL, and it should share nothing with us anyway.
    done = subprocess.run([BEAN_CHECK, "--no-cache", file], capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert bool(done.returncode) == bool(said), said
    return said
