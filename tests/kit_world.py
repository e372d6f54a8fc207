"""A small service without contracts of its own: a database, a publisher and a consumer of identity's events, all real."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from nats.aio.client import Client as NatsClient
from sqlalchemy.ext.asyncio import AsyncConnection

from rochdale.identity.v1 import events_pb2
from rochdale_kit.database import Database, create_kit_tables
from rochdale_kit.inbox import Consumer, on
from rochdale_kit.outbox import Publisher, announce
from rochdale_kit.server import connect_nats
from rochdale_kit.telemetry import Telemetry
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

heard_table = sa.Table(
    "heard", sa.MetaData(), sa.Column("position", sa.Integer, primary_key=True), sa.Column("label", sa.Text)
)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    """Waits for something that other tasks bring about."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def looping(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Loops that run while the block does; one that ended by itself fails the test."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield tasks
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def revoked(label: str) -> events_pb2.KeyRevoked:
    event = events_pb2.KeyRevoked()
    event.api_key.label = label
    return event


@dataclass
class World:
    """One database and one connection to NATS. failures are raised by the handler, one a call, before it has an effect."""

    postgres: Postgres
    server: NatsServer
    url: str
    database: Database
    nats: NatsClient
    telemetry: Telemetry = field(default_factory=lambda: Telemetry("kit"))
    failures: list[BaseException] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def handle(self, connection: AsyncConnection, event: events_pb2.KeyRevoked) -> None:
        self.calls.append(event.api_key.label)
        await connection.execute(heard_table.insert().values(label=event.api_key.label))
        if self.failures:
            raise self.failures.pop(0)

    def publisher(self, database: Database | None = None) -> Publisher:
        return Publisher("identity", database or self.database, self.nats, self.telemetry)

    def consumer(self, name: str | None = None, handle: Any = None) -> Consumer:
        subscriptions = [on(events_pb2.KeyRevoked, handle or self.handle)]
        return Consumer(name or "kit", "identity", subscriptions, self.database, self.nats, self.telemetry)

    async def tell(self, *labels: str) -> None:
        async with self.database.begin() as connection:
            for label in labels:
                await announce(connection, revoked(label))

    async def heard(self) -> list[str]:
        async with self.database.read() as connection:
            rows = await connection.execute(sa.select(heard_table.c.label).order_by(heard_table.c.position))
            return [row.label for row in rows]

    async def query(self, statement: str) -> list[Any]:
        async with self.database.read() as connection:
            return list((await connection.execute(sa.text(statement))).all())

    async def unsent(self) -> int:
        return int((await self.query("SELECT count(*) FROM outbox WHERE publish_time IS NULL"))[0][0])

    async def hears(self, *labels: str) -> None:
        """Waits for exactly these effects, in this order."""

        async def there() -> bool:
            return len(await self.heard()) >= len(labels)

        await until(there)
        assert await self.heard() == list(labels)

    async def stream(self) -> list[Any]:
        """Every message of the stream, read as a stranger would."""
        stream = self.nats.jetstream()
        last = (await stream.stream_info("identity")).state.last_seq
        return [await stream.get_msg("identity", seq) for seq in range(1, last + 1)]


async def kill(server: Postgres | NatsServer) -> None:
    """kill -9, and the wait for its end."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await server.wait()


@contextlib.asynccontextmanager
async def world_on(postgres: Postgres, server: NatsServer) -> AsyncIterator[World]:
    """A world with a database of its own."""
    name = f"kit_{secrets.token_hex(4)}"
    await postgres.ensure_database(name, name, "test")
    url = postgres.dsn(name, name, "test")
    database = Database(url)
    async with database.engine.begin() as connection:
        await connection.run_sync(create_kit_tables)
        await connection.run_sync(heard_table.create)
    nats = await connect_nats(server.url(), "kit")
    try:
        yield World(postgres, server, url, database, nats)
    finally:
        await nats.close()
        await database.close()
