"""What the simulation is asked by its tests, each in a process of its own: its clock and its ids are a whole process's."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from money_auditor import Auditor
from money_reading import Wrong
from money_simulation import Result, Simulation, simulation
from money_story import Story

from rochdale_local.postgres import Postgres

T = TypeVar("T")


def apart(work: Callable[..., Awaitable[T]], *given: Any) -> T:
    """What the work answers in a fresh process: another market may run in ours, with the time of day."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, work, *given).result()


def _run(work: Callable[..., Awaitable[T]], *given: Any) -> T:
    async def done() -> T:
        return await work(*given)

    return asyncio.run(done())


@asynccontextmanager
async def running() -> AsyncIterator[Simulation]:
    with tempfile.TemporaryDirectory() as folder:
        postgres = Postgres(Path(folder) / "postgres", durable=False)
        await postgres.start()
        try:
            async with simulation(postgres, "money", Path(folder)) as made:
                yield made
        finally:
            await postgres.stop()


async def played(seeds: Iterable[int]) -> Result:
    """These histories, one after another."""
    total = Result()
    async with running() as made:
        for seed in seeds:
            total.add(await made.play(seed))
    return total


async def told_twice(seed: int) -> list[list[str]]:
    """The log of one history, played two times."""
    stories: list[list[str]] = []

    async def keep(history: Story) -> None:
        stories.append(history.log)

    async with running() as made:
        for _ in range(2):
            assert not (await made.play(seed, keep)).failures
    return stories


async def tampered_with(seeds: Iterable[int]) -> list[str] | None:
    """Changes the auditor did not notice in the first history that has a row of every kind; None when none has."""
    found: list[list[str]] = []
    async with running() as made:

        async def tamper(history: Story) -> None:
            await made.connection.execute("SET session_replication_role = 'replica'")
            if await everything_there(made):
                found.append(await unnoticed_of(made, history))
            await made.connection.execute("RESET session_replication_role")

        for seed in seeds:
            assert not (await made.play(seed, tamper)).failures
            if found:
                return found[0]
    return None


# One row changed a little, and changed back.
TAMPERED = {
    "an entry": ("UPDATE entry SET amount_minor = amount_minor {} WHERE journal_id = (SELECT min(id) FROM journal)"
                 " AND seq = 1"),
    "a cached balance": "UPDATE account SET balance_minor = balance_minor {} WHERE code LIKE 'coop:%:receivable'",
    "what was refunded": ('UPDATE "order" SET refunded_minor = refunded_minor - (0 {})'
                          " WHERE id = (SELECT order_id FROM refund ORDER BY id LIMIT 1)"),
    "a share": "UPDATE share SET net_minor = net_minor {} WHERE refunded_minor = 0",
    "a fee": "UPDATE share SET fee_minor = fee_minor - (0 {})",
    "a reserve": "UPDATE share SET reserve_minor = reserve_minor {} WHERE state = 2",
    "a refund": "UPDATE refund SET cooperative_minor = cooperative_minor {}",
    "a transfer": "UPDATE transfer SET amount_minor = amount_minor {}",
    "a line of a run": ("UPDATE dividend_line SET amount_minor = amount_minor {}, equal_minor = equal_minor {},"
                      " carried_out_minor = carried_out_minor {} WHERE posted"),
    "a payment to a member": ("UPDATE dividend_line SET paid_minor = paid_minor {}, withheld_minor = withheld_minor - (0 {})"
                             " WHERE withheld_minor > 0"),
    "a run": "UPDATE dividend_run SET reserve_minor = reserve_minor {} WHERE state >= 6",
    "an invoice": "UPDATE invoice SET amount_minor = amount_minor {} WHERE kind = 2",
    "two entries that still balance": (
        "UPDATE entry SET amount_minor = amount_minor + CASE seq WHEN 1 THEN (0 {}) ELSE -(0 {}) END"
        " WHERE seq <= 2 AND journal_id = (SELECT min(id) FROM journal WHERE kind IN ('charge', 'bank_payment'))"),
}  # fmt: skip


async def everything_there(running: Simulation) -> bool:
    """Whether every change finds a row."""
    for statement in TAMPERED.values():
        attempt = running.connection.transaction()
        await attempt.start()
        try:
            changed = await running.connection.execute(statement.replace("{}", "+ 1"))
        except asyncpg.CheckViolationError:
            # The database itself would not have it.
            changed = "UPDATE 0"
        await attempt.rollback()
        if changed.endswith(" 0"):
            return False
    return True


async def unnoticed_of(running: Simulation, history: Story) -> list[str]:
    """The changes that a fresh auditor has nothing to say of."""
    found = []

    def auditor() -> Auditor:
        return Auditor(running.connection, history.bench.world, history.said)

    for what, statement in TAMPERED.items():
        await running.connection.execute(statement.replace("{}", "+ 1"))
        try:
            await auditor().audit()
            found.append(what)
        except Wrong:
            pass
        await running.connection.execute(statement.replace("{}", "- 1"))
    await auditor().audit()
    # And money at Stripe that nobody booked.
    asked = {"amount": 500, "currency": "eur", "confirm": "true", "payment_method": "pm_card_visa"}
    asked |= {"automatic_payment_methods[enabled]": "true", "automatic_payment_methods[allow_redirects]": "never"}
    paid = await history.bench.world.post("/v1/payment_intents", data=asked)
    assert paid.status_code == 200, paid.text
    try:
        await auditor().final()
        found.append("a charge at Stripe")
    except Wrong:
        pass
    return found
