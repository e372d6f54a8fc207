"""Row 5: from a commit to its event in another process's handler, through the kit's outbox, JetStream and inbox."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

import uvloop
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from bench.echo import echo_call
from bench.load import drive_python
from bench.rows import Line, Reading, Row, Turns, at_most, side
from bench.stage import REPETITIONS, Servers, Stage, process, servers
from rochdale.identity.v1 import events_pb2, identity_pb2
from rochdale_kit.database import Database, create_kit_tables
from rochdale_kit.inbox import Consumer, on
from rochdale_kit.outbox import Publisher, announce, ensure_stream
from rochdale_kit.server import connect_nats
from rochdale_kit.telemetry import Telemetry

PUBLISHER, CONSUMER = "identity", "bench"
# Long enough that each event finds everybody asleep, which is when waking them takes longest.
PAUSE_SECONDS = 0.02


async def run(stage: Stage) -> list[Line]:
    count = stage.size(200, 20)
    async with servers(stage.home("events")) as running:
        urls = [await _database(running, name) for name in (PUBLISHER, CONSUMER)]
        async with (
            process("bench.echo", "bare") as echo,
            process("bench.events", "publish", urls[0], running.nats.url()) as publisher,
            process("bench.events", "consume", urls[1], running.nats.url()) as consumer,
        ):

            async def deliver() -> Reading:
                # Both clocks are the machine's monotonic one, which its processes share.
                committed = (await publisher.ask({"count": count}))["committed"]
                heard = (await consumer.ask({"expect": list(committed)}))["heard"]
                seconds = [heard[name] - at for name, at in committed.items() if name in heard]
                return Reading(statistics.median(seconds or [float("inf")]) * 1_000, len(committed) - len(seconds))

            async def one_echo() -> Reading:
                return (await drive_python(echo_call(echo.ready), count, 1)).p50

            await deliver()
            taken = await Turns(REPETITIONS, stage.say).take({"event": deliver, "echo": one_echo})
    return [
        Row(
            "5",
            "commit to consumer p50 / echo p50",
            side("kit outbox to inbox, two processes", "ms", taken["event"]),
            side("bare grpc.aio echo, one in flight", "ms", taken["echo"]),
            at_most(5),
            note="until the handler runs in its transaction; PostgreSQL and JetStream both flush to disk",
        )
    ]


async def _database(running: Servers, name: str) -> str:
    await running.postgres.ensure_database(name, name, "bench")
    url = running.postgres.dsn(name, name, "bench")
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(create_kit_tables)
    await engine.dispose()
    return url


# ---- The processes that only this file starts


async def _publish(database_url: str, nats_url: str) -> None:
    telemetry, database = Telemetry(PUBLISHER), Database(database_url)
    nats = await connect_nats(nats_url, PUBLISHER)
    await ensure_stream(nats, PUBLISHER)
    publisher = asyncio.create_task(Publisher(PUBLISHER, database, nats, telemetry).run())
    number = 0
    async for asked in _questions():
        committed: dict[str, float] = {}
        for _ in range(asked["count"]):
            number += 1
            organization = identity_pb2.Organization(name=f"organizations/{number}")
            async with database.begin() as connection:
                await announce(connection, events_pb2.OrganizationVerified(organization=organization))
            committed[organization.name] = time.monotonic()
            await asyncio.sleep(PAUSE_SECONDS)
        _answer({"committed": committed})
    await _end(publisher, database, nats)


async def _consume(database_url: str, nats_url: str) -> None:
    telemetry, database = Telemetry(CONSUMER), Database(database_url)
    nats = await connect_nats(nats_url, CONSUMER)
    heard: dict[str, float] = {}

    async def handle(_connection: AsyncConnection, event: events_pb2.OrganizationVerified) -> None:
        heard.setdefault(event.organization.name, time.monotonic())

    hear = [on(events_pb2.OrganizationVerified, handle)]
    consumer = asyncio.create_task(Consumer(CONSUMER, PUBLISHER, hear, database, nats, telemetry).run())
    async for asked in _questions():
        deadline = time.monotonic() + 10
        while not heard.keys() >= set(asked["expect"]) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        _answer({"heard": heard})
        heard.clear()
    await _end(consumer, database, nats)


async def _questions() -> Any:
    """One a line, until standard input ends."""
    _answer({})
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        yield json.loads(line)


def _answer(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


async def _end(task: asyncio.Task[None], database: Database, nats: Any) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await nats.close()
    await database.close()


if __name__ == "__main__":
    uvloop.run({"publish": _publish, "consume": _consume}[sys.argv[1]](*sys.argv[2:]))
