"""Rows 13 and 14: how long services take to start and how much memory they hold, against the least that could serve."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from walk import MarketPeople

from bench import bare
from bench.rows import Line, Reading, Row, Turns, at_most, side
from bench.stage import REPETITIONS, Stage, family_mib, free_address, resident_mib, servers
from rochdale_local.market import is_serving
from rochdale_local.processes import Child, private_folder
from rochdale_local.rooms import Room

COOPERATIVE = "valley-health"
BARE = "bare grpc.aio server"
# After the start a process still tidies up for a moment; memory is read when it has.
SETTLE_SECONDS = 1.0


async def run(stage: Stage) -> list[Line]:
    return [*await _services(stage), await _edition(stage)]


async def _services(stage: Stage) -> list[Line]:
    """Row 13. A second replica of each service is started in a running market, and stopped again."""
    people = MarketPeople(stage.home("size"), own_processes=True)
    try:
        stage.say("starting a market")
        await people.start()
        await people.found(COOPERATIVE)
        while COOPERATIVE not in people.market.gateways:
            await asyncio.sleep(0.1)
        rooms = [*people.market.rooms, *people.market.gateways.values()]
        if stage.quick:
            rooms = rooms[:1]
        folder = stage.home("replicas")

        async def measure(room: Room | None) -> tuple[Reading, Reading]:
            child = _bare(folder) if room is None else _replica(room, folder)
            started = time.perf_counter()
            await child.start()
            seconds = time.perf_counter() - started
            try:
                await asyncio.sleep(SETTLE_SECONDS)
                assert child.pid is not None, f"{child.name} ended"
                return Reading(seconds), Reading(resident_mib(child.pid))
            finally:
                await child.stop()

        for room in (None, *rooms):
            # Unmeasured once, so that every program is compiled and in the page cache.
            await measure(room)
        sides = {room.package: partial(measure, room) for room in rooms}
        taken = await Turns(REPETITIONS, stage.say).take({BARE: partial(measure, None), **sides})
    finally:
        await people.stop()
    lines: list[Line] = []
    for what, unit, index, goal in (("start", "s", 0, at_most(3)), ("memory", "MiB", 1, at_most(2))):
        for package in sides:
            ours, theirs = ([pair[index] for pair in taken[name]] for name in (package, BARE))
            note = "until it says it can do its work" if what == "start" else "resident, idle"
            lines.append(
                Row("13", f"{what} of {package} / bare server", side(package, unit, ours), side(BARE, unit, theirs),
                    goal, note=note)
            )  # fmt: skip
    return lines


def _replica(room: Room, folder: Path) -> Child:
    """Another process of the same service, at addresses and in folders of its own."""
    settings = dict(room.settings)
    for name in ("grpc_address", "http_address"):
        if name in settings:
            settings[name] = free_address()
    for name in ("index_directory", "storage_directory"):
        if name in settings:
            shutil.rmtree(folder / name, ignore_errors=True)
            settings[name] = str(private_folder(folder / name))
    own = replace(
        room,
        settings=settings,
        grpc_address=settings.get("grpc_address", ""),
        http_address=settings.get("http_address", ""),
    )
    # As in its image: nats-py imports aiohttp wherever it finds it, and here a tool of the tests brings it along.
    alone = f"import sys, runpy; sys.modules['aiohttp'] = None; runpy.run_module('{room.package}', run_name='__main__')"
    return Child(
        f"replica-{room.name}", [sys.executable, "-c", alone], folder, env=own.environ(),
        ready=lambda: is_serving(own), ready_seconds=60,
    )  # fmt: skip


def _bare(folder: Path) -> Child:
    address = free_address()

    async def answers() -> bool:
        async with grpc.aio.insecure_channel(address) as channel:
            try:
                say: Any = channel.unary_unary(bare.PATH)
                return bool(await say(b"?", timeout=1) == b"?")
            except grpc.aio.AioRpcError:
                return False

    return Child("bare", [sys.executable, str(Path(bare.__file__)), address], folder, ready=answers)


async def _edition(stage: Stage) -> Line:
    """Row 14."""
    number = 0

    async def ours() -> Reading:
        nonlocal number
        number += 1
        async with _up(stage.home(f"edition-{number}")) as pid:
            await asyncio.sleep(SETTLE_SECONDS * 3)
            return Reading(family_mib(pid))

    async def theirs() -> Reading:
        nonlocal number
        number += 1
        home = stage.home(f"bare-{number}")
        async with servers(home) as running:
            child = _bare(home)
            await child.start()
            try:
                await asyncio.sleep(SETTLE_SECONDS * 3)
                pids = (running.postgres.pid, running.nats.pid, child.pid)
                return Reading(sum(family_mib(pid) for pid in pids if pid))
            finally:
                await child.stop()

    turns = Turns(1 if stage.quick else REPETITIONS, stage.say)
    taken = await turns.take({"one-machine edition": ours, "bare servers": theirs})
    return Row(
        "14",
        "idle one-machine edition / bare servers, memory",
        side("rochdale up, everything it starts", "MiB", taken["one-machine edition"]),
        side("PostgreSQL, nats-server and a bare grpc.aio server", "MiB", taken["bare servers"]),
        at_most(5),
        note="resident, what is shared counted once; no cooperative yet",
    )


@contextlib.asynccontextmanager
async def _up(home: Path) -> AsyncIterator[int]:
    """`rochdale up` for as long as the block lasts."""
    rochdale = str(Path(sys.executable).with_name("rochdale"))
    up = await asyncio.create_subprocess_exec(
        rochdale, "up", "--home", str(home), "--json", stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        assert up.stdout is not None
        json.loads(await up.stdout.readline())
        yield up.pid
    finally:
        up.send_signal(signal.SIGTERM)
        await up.wait()
