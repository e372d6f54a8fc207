"""What every benchmark stands on: sizes, a folder, progress, and processes that end when it ends. It measures nothing."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from rochdale_kit.database import migrate
from rochdale_local.market import OwnProcesses, prepare_database
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres
from rochdale_local.rooms import Options, Room, Rooms
from rochdale_local.supervisor import Supervisor

REPETITIONS = 3
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Stage:
    """One run: `quick` shows that it works, in seconds, and says nothing about speed."""

    quick: bool
    folder: Path
    say: Callable[[str], None]

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def home(self, name: str) -> Path:
        home = self.folder / name
        home.mkdir()
        return home


class Process:
    """A program of ours in a process of its own, which prints one line of JSON when it is ready."""

    def __init__(self, process: asyncio.subprocess.Process, ready: dict[str, Any]) -> None:
        self._process = process
        self.ready = ready
        self.pid = process.pid

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """One line of JSON in, one line out."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        return await _line(self._process)


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a process of the benchmark ended with status {await process.wait()}")
    answer: dict[str, Any] = json.loads(line)
    return answer


@contextlib.asynccontextmanager
async def process(*words: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """`python -m …` for as long as the block lasts. It must end when its standard input does, so it outlives nobody."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield Process(started, await _line(started))
    finally:
        assert started.stdin is not None
        started.stdin.close()
        try:
            async with asyncio.timeout(10):
                await started.wait()
        except TimeoutError:
            started.kill()
            await started.wait()


class Servers:
    """A real, durable PostgreSQL and nats-server, and services of the market as processes of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.postgres = Postgres(home / "postgres")
        self.nats = NatsServer(home / "nats")
        self._supervisor = Supervisor(lambda _name, _healthy, _sentence: None)
        self.runner = OwnProcesses(home, self._supervisor)
        self.plan = Rooms(home, Options())

    async def start(self) -> None:
        await self._supervisor.start(self.postgres)
        await self._supervisor.start(self.nats)

    async def stop(self) -> None:
        await self._supervisor.stop()

    def rooms(self) -> dict[str, Room]:
        """Every service with the settings the one-machine edition would give it."""
        return {room.package: room for room in self.plan.rooms(self.postgres, self.nats)}

    async def prepare(self, room: Room) -> None:
        """The service's own database, migrated."""
        if room.database:
            await prepare_database(room, self.plan, self.postgres)

    @staticmethod
    async def migrate(room: Room) -> None:
        migrations = importlib.import_module(f"{room.package}.main").MIGRATIONS
        if migrations is not None:
            await migrate(room.settings["database_url"], migrations)


def free_address() -> str:
    """A loopback address nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        return f"127.0.0.1:{door.getsockname()[1]}"


@contextlib.asynccontextmanager
async def servers(home: Path) -> AsyncIterator[Servers]:
    """Running for as long as the block lasts."""
    made = Servers(home)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


def resident_mib(pid: int) -> float:
    """Resident memory of one process."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def family_mib(pid: int) -> float:
    """Resident memory of a process and everything it started, what several of them share counted once.

    The kernel's own proportional shares would shrink with every stranger that happens to run the same programs.
    """
    private_kib = 0
    shared_kib: dict[tuple[str, str, str], int] = {}
    parent = psutil.Process(pid)
    for member in (parent, *parent.children(recursive=True)):
        # One that ends meanwhile holds nothing.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            mapping = ("", "")
            for line in Path(f"/proc/{member.pid}/smaps").read_text().splitlines():
                head, *rest = line.split()
                if not head.endswith(":"):
                    # "start-end rights offset device inode [path]". Forked processes have the same nameless addresses.
                    path = " ".join(rest[4:])
                    mapping = (path, rest[1]) if path.startswith("/") else (path, head)
                elif head.startswith("Private_"):
                    private_kib += int(rest[0])
                elif head.startswith("Shared_"):
                    shared_kib[*mapping, head] = max(shared_kib.get((*mapping, head), 0), int(rest[0]))
    return (private_kib + sum(shared_kib.values())) / 1024
