"""Row 9 and the time from payment to a token, in one real market: gateway against nginx, webhook to IssueToken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import numpy
import pyarrow
import pyarrow.parquet
from walk import COMPANY, MarketPeople, Purchase

from bench.echo import echo_call
from bench.load import drive_python
from bench.rows import Absent, Line, Reading, Row, Turns, at_least, side
from bench.stage import REPETITIONS, Process, Stage, free_address, process
from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale_kit.refusals import refusal_of
from rochdale_local.market import Market
from rochdale_local.rooms import Options

COOPERATIVE, BUYER = "valley-health", "acme"
COLUMNS = 15
DOWNLOAD = "gateway download / nginx sendfile, plain HTTP"
STREAMS = {1: "one stream", 8: "eight streams"}


async def run(stage: Stage) -> list[Line]:
    people = MarketPeople(stage.home("market"))
    # Every service in a process of its own, and nothing acknowledged before it is on disk.
    people.market = Market(people.market.home, Options(log_level="ERROR"), own_processes=True)
    try:
        stage.say("starting a market")
        await people.start()
        steward = await people.found(COOPERATIVE)
        rows = stage.size(1_000_000, 20_000)
        stage.say("ingesting one file of the size that gateways write")
        version = await people.add_dataset(steward, "readings", _parquet(rows))
        offering = await people.offer(steward, version, {COMPANY: 5_000})
        buyer = await people.licensee(BUYER, COMPANY)
        lines = [await _payment_to_token(stage, people, Purchase(buyer, offering.name))]
        purchase = Purchase(buyer, offering.name)
        stage.say("buying a license")
        token = await people.buy(purchase)
        return lines + await _downloads(stage, people, purchase, token)
    finally:
        await people.stop()


def _parquet(rows: int) -> bytes:
    """A table of noise, which no compression makes smaller."""
    noise = numpy.random.default_rng(1844)
    table = pyarrow.table({f"reading_{number}": noise.random(rows) for number in range(COLUMNS)})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


# ---- From payment to a token


async def _payment_to_token(stage: Stage, people: MarketPeople, like: Purchase) -> Line:
    purchases = stage.size(10, 2)
    async with process("bench.echo", "bare") as echo:

        async def pay() -> Reading:
            return Reading(statistics.median([await _one_payment(people, like) for _ in range(purchases)]) * 1_000)

        async def one_echo() -> Reading:
            return (await drive_python(echo_call(echo.ready), stage.size(500, 50), 1)).p50

        taken = await Turns(REPETITIONS, stage.say).take({"payment to token": pay, "echo": one_echo})
    return Row(
        "–",
        "payment to usable token / echo p50",
        side("pressing pay on the hosted page to the first token", "ms", taken["payment to token"]),
        side("bare grpc.aio echo, one in flight", "ms", taken["echo"]),
        None,
        note=f"medians of {purchases} purchases, by way of billing, licensing and the broker; tried every 2 ms",
    )


async def _one_payment(people: MarketPeople, like: Purchase) -> float:
    purchase = Purchase(like.person, like.offering)
    await people.agree(purchase)
    await people.order(purchase)
    await people.start_payment(purchase)
    started = time.perf_counter()
    paying = asyncio.create_task(people.pay(purchase))
    request = broker.IssueTokenRequest(request_id=purchase.token_request, license=purchase.license)
    while time.perf_counter() - started < 20:
        try:
            await people.stub("access_broker").IssueToken(request, metadata=purchase.metadata)
        except grpc.aio.AioRpcError as error:
            # Until the broker has heard, there is no grant.
            if refusal_of(error).reason != "NOT_FOUND":
                raise
            await asyncio.sleep(0.002)
            continue
        seconds = time.perf_counter() - started
        await paying
        return seconds
    raise TimeoutError("a paid license had no grant within 20 seconds")


# ---- Downloads


@dataclass(frozen=True)
class _Door:
    """Where one side serves the file."""

    name: str
    address: str
    path: str
    headers: tuple[str, ...] = ()


async def _downloads(stage: Stage, people: MarketPeople, purchase: Purchase, token: broker.IssuedToken) -> list[Line]:
    file = (await people.files(purchase, token))["files"][0]
    url = urlsplit(file["url"])
    gateway = _Door("gateway", url.netloc, url.path, (f"Authorization: Bearer {token.token}",))
    stored = [
        path
        for path in (people.market.home / "gateways" / COOPERATIVE).rglob(Path(file["path"]).name)
        if path.stat().st_size == file["size_bytes"]
    ]
    async with httpx.AsyncClient(timeout=60) as client:
        # Opened once as a buyer would, so that what is measured is what was licensed.
        answer = await client.get(file["url"], headers={"Authorization": f"Bearer {token.token}"})
        assert answer.status_code == 200 and answer.content == stored[0].read_bytes(), "the gateway serves other bytes"
    if shutil.which("nginx") is None:
        return [Absent("9", f"{DOWNLOAD}, {streams}", "nginx is not installed") for streams in STREAMS.values()]
    async with _nginx(stage.home("nginx"), stored[0]) as nginx, process("bench.download") as client:
        doors, size_bytes = (gateway, nginx), int(file["size_bytes"])
        return [await _compare(stage, client, doors, streams, size_bytes) for streams in STREAMS]


async def _compare(stage: Stage, client: Process, doors: tuple[_Door, _Door], streams: int, size_bytes: int) -> Line:
    gets = stage.size(16 if streams == 1 else 3, 2)

    def measure(door: _Door) -> Callable[[], Awaitable[Reading]]:
        return lambda: _speed(client, door, streams, gets, size_bytes)

    for door in doors:
        await _speed(client, door, streams, 1, size_bytes)
    turns = Turns(REPETITIONS, lambda text: stage.say(f"{text}, {STREAMS[streams]}"))
    taken = await turns.take({door.name: measure(door) for door in doors})
    return Row(
        "9",
        f"{DOWNLOAD}, {STREAMS[streams]}",
        side("gateway, with token and scope", "MiB/s", taken["gateway"]),
        side("nginx sendfile, without", "MiB/s", taken["nginx"]),
        at_least(1.0),
        note=f"one file of {size_bytes / 2**20:.0f} MiB, {gets} times a stream; Python sockets read",
    )


async def _speed(client: Process, door: _Door, streams: int, gets: int, size_bytes: int) -> Reading:
    asked: dict[str, Any] = {
        "address": door.address,
        "path": door.path,
        "headers": door.headers,
        "streams": streams,
        "gets": gets,
        "size_bytes": size_bytes,
    }
    answer = await client.ask(asked)
    return Reading(answer["bytes"] / answer["seconds"] / 2**20, answer["failed"])


@contextlib.asynccontextmanager
async def _nginx(home: Path, file: Path) -> AsyncIterator[_Door]:
    """nginx as it comes, serving a copy of one file with sendfile."""
    address = free_address()
    shutil.copyfile(file, home / "file")
    config = home / "nginx.conf"
    config.write_text(
        f"""{"user root;" if os.getuid() == 0 else ""}
        daemon off; worker_processes auto; pid {home}/pid; error_log {home}/error.log;
        events {{ worker_connections 256; }}
        http {{
            access_log off; sendfile on; tcp_nopush on;
            client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
            uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
            server {{ listen {address}; root {home}; }}
        }}"""
    )
    started = await asyncio.create_subprocess_exec(
        "nginx", "-p", str(home), "-e", str(home / "error.log"), "-c", str(config)
    )
    try:
        async with httpx.AsyncClient() as client:
            for _ in range(100):
                with contextlib.suppress(httpx.HTTPError):
                    assert (await client.head(f"http://{address}/file")).status_code == 200
                    break
                await asyncio.sleep(0.05)
            else:
                raise RuntimeError("nginx did not start")
        yield _Door("nginx", address, "/file")
    finally:
        started.terminate()
        await started.wait()
