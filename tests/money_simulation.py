"""The simulation of money: random histories from seeds, each audited after every step.

python tests/money_simulation.py --seeds 1000          a thousand histories, in two processes
python tests/money_simulation.py --seed 123456         that history again, with its log
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import queue
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
from money_engine import Workshop, empty
from money_story import Story

from billing import dividing, invoicing, reconciling
from billing.main import MIGRATIONS
from billing.store import dividend_lines
from rochdale_kit.database import migrate
from rochdale_local.postgres import SUPERUSER, Postgres

TAXES = {
    "seats": {"acme": "NL", "cedar": "CH"},
    "rules": [
        {"buyer": "NL", "taxes": [{"label": "VAT", "rate": "21"}]},
        {"buyer": "CH", "taxes": [{"label": "VAT", "rate": "8.1"}]},
    ],
}


@dataclass
class Result:
    """How histories went. `failure` is the first that did not: its seed, what was wrong, and its log."""

    histories: int = 0
    steps: int = 0
    audits: int = 0
    met: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, list[str]]] = field(default_factory=list)

    def add(self, other: Result) -> None:
        self.histories += other.histories
        self.steps += other.steps
        self.audits += other.audits
        self.met += other.met
        self.failures += other.failures


class Simulation:
    """One database and one workshop for many histories."""

    def __init__(self, workshop: Workshop, connection: Any) -> None:
        self._workshop = workshop
        self.connection = connection

    async def play(self, seed: int, after: Callable[[Story], Awaitable[None]] | None = None) -> Result:
        """One history; `after` looks at what it left behind."""
        await empty(self._workshop.database)
        history = Story(seed, self._workshop, self.connection)
        result = Result(histories=1)
        billing = logging.getLogger("billing")
        billing.addHandler(history.troubles)
        billing.propagate = False
        try:
            with history.watch.worn(), ExitStack() as stack:
                stack.enter_context(patch.object(reconciling, "PAUSE_SECONDS", 0))
                # Drawing documents would take a tenth of the time, and no money is in how they look.
                stack.enter_context(patch.object(invoicing, "pdf_of", str.encode))
                # A run of seven members is posted in three parts.
                for module in (dividing, dividend_lines):
                    stack.enter_context(patch.object(module, "CHUNK", 3))
                await history.open()
                try:
                    await history.tell_itself()
                    if after is not None:
                        await after(history)
                finally:
                    await history.close()
        except Exception as error:
            result.failures.append((seed, f"{type(error).__name__}: {error}", history.log))
            if not isinstance(error, AssertionError):
                logging.getLogger("simulation").exception("history %d", seed)
        finally:
            billing.removeHandler(history.troubles)
        result.steps, result.met = history.steps, history.met
        result.audits = history.auditor.steps
        for (work, where), count in history.chaos.deaths.items():
            result.met[f"death {where}"] += count
            result.met[f"death in {work}, {where}"] += count
        return result


@asynccontextmanager
async def simulation(postgres: Postgres, name: str, folder: Path) -> AsyncIterator[Simulation]:
    """A simulation on a database of its own."""
    table = folder / "taxes.json"
    table.write_text(json.dumps(TAXES))
    await postgres.ensure_database(name, name, "test")
    await migrate(postgres.dsn(name, name, "test"), MIGRATIONS)
    # As the superuser: between two histories guarded rows are forgotten, which nobody else may do.
    url = postgres.dsn(name, SUPERUSER, postgres._password)
    workshop = Workshop(url, str(table))
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        yield Simulation(workshop, connection)
    finally:
        await connection.close()
        await workshop.close()


async def _play(seeds: Iterable[int], name: str, progress: Any = None) -> Result:
    total = Result()
    with tempfile.TemporaryDirectory() as folder:
        postgres = Postgres(Path(folder) / "postgres", durable=False)
        await postgres.start()
        try:
            async with simulation(postgres, name, Path(folder)) as running:
                for seed in seeds:
                    total.add(await running.play(seed))
                    if progress is not None:
                        progress(total)
        finally:
            await postgres.stop()
    return total


def _worker(seeds: list[int], number: int, results: Any) -> None:
    logging.disable(logging.NOTSET)

    told: set[int] = set()

    def progress(total: Result) -> None:
        # A failure is told at once: whoever stops the run still knows its seed.
        fresh = [(seed, wrong) for seed, wrong, _ in total.failures if seed not in told]
        told.update(seed for seed, _ in fresh)
        if fresh or total.histories % 25 == 0:
            results.put((number, total.histories, fresh))

    results.put(asyncio.run(_play(seeds, f"money_{number}", progress)))


def _many(seeds: list[int]) -> Result:
    """In two processes, each with a server of its own."""
    results: Any = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=_worker, args=(seeds[number::2], number, results)) for number in range(2)]
    for worker in workers:
        worker.start()
    total, done, waiting = Result(), {0: 0, 1: 0}, len(workers)
    while waiting:
        try:
            told = results.get(timeout=60)
        except queue.Empty:
            if not all(worker.is_alive() for worker in workers):
                raise RuntimeError("A process of the simulation ended before it was done.") from None
            continue
        if isinstance(told, Result):
            total.add(told)
            waiting -= 1
            continue
        number, done[number], failures = told
        print(f"{sum(done.values())} of {len(seeds)}", flush=True)
        for seed, wrong in failures:
            print(f"seed {seed}: {wrong}\n  make simulate SEED={seed}", flush=True)
    for worker in workers:
        worker.join()
    return total


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seeds", type=int, default=1000, help="how many histories")
    asked.add_argument("--first", type=int, default=1, help="the first seed")
    asked.add_argument("--seed", type=int, help="play this one history and print its log")
    given = asked.parse_args()
    begin = time.monotonic()
    if given.seed is not None:
        total = asyncio.run(_play([given.seed], "money"))
    else:
        total = _many(list(range(given.first, given.first + given.seeds)))
    seconds = time.monotonic() - begin
    for name, count in sorted(total.met.items()):
        print(f"  {count:6} {name}")
    print(
        f"{total.histories} histories, {total.steps} steps, {total.audits} audits, {seconds:.0f} s;"
        f" {len(total.failures)} failed"
    )
    for seed, wrong, log in total.failures[:5]:
        print(f"\nseed {seed}: {wrong}\n  make simulate SEED={seed}")
        for line in log if given.seed is not None else log[-15:]:
            print(f"    {line}")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
