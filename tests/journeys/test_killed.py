"""Kill -9 of anything at any point of a purchase: afterwards there is one license, one order, one charge, one grant."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
import pytest_asyncio
from walk import MarketPeople, Purchase

from rochdale.type.v1 import scope_pb2 as scope
from rochdale_local.market import OwnProcesses

SERVICES = ["identity", "governance", "catalog", "licensing", "billing", "access_broker", "gateway-weavers"]
VICTIMS = [*SERVICES, "nats", "postgres"]
POINTS = [
    "before the request",
    "during the request",
    "after the agreement",
    "before the payment starts",
    "during the start of the payment",
    "before the card is charged",
    "while the card is charged",
    "after the charge",
    "before the token",
    "before the data",
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MarketPeople]:
    """Every service a process of its own."""
    people = MarketPeople(tmp_path_factory.mktemp("market"), own_processes=True)
    await people.start()
    yield people
    await people.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def offering(market: MarketPeople) -> str:
    steward = await market.found("weavers")
    version = await market.add_dataset(
        steward, "cloth", b"id,yards\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(50))
    )
    return (await market.offer(steward, version, {scope.BUYER_CATEGORY_COMPANY: 5000})).name


def kill(market: MarketPeople, victim: str) -> None:
    runner = market.market.runner
    assert isinstance(runner, OwnProcesses)
    if victim == "nats":
        pid = market.market.nats.pid
    elif victim == "postgres":
        pid = market.market.postgres.pid
    else:
        pid = runner.children[victim].pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


async def counted(market: MarketPeople, purchase: Purchase) -> dict[str, int]:
    """How many of each thing there are for one buyer, counted in the databases."""
    plan, postgres = market.market.plan, market.market.postgres

    async def count(database: str, query: str, *values: str) -> int:
        dsn = postgres.dsn(database, database, plan.password(database)).replace("+asyncpg", "")
        connection = await asyncpg.connect(dsn, ssl=False)
        try:
            return int(await connection.fetchval(query, *values))
        finally:
            await connection.close()

    buyer = purchase.person.organization
    return {
        "licenses": await count("licensing", "SELECT count(*) FROM license WHERE licensee = $1", buyer),
        "orders": await count("billing", 'SELECT count(*) FROM "order" WHERE buyer = $1', buyer),
        "grants": await count("access_broker", "SELECT count(*) FROM access_grant WHERE holder = $1", buyer),
    }


@pytest.mark.parametrize("victim", VICTIMS)
async def test_a_purchase_survives(market: MarketPeople, offering: str, victim: str) -> None:
    """Ten purchases, each losing the same part at another point."""
    for point in range(len(POINTS)):
        await survive(market, offering, victim, point)


async def survive(market: MarketPeople, offering: str, victim: str, point: int) -> None:
    buyer = await market.licensee(f"{victim.replace('_', '-')}-{point}", scope.BUYER_CATEGORY_COMPANY)
    purchase, charged = Purchase(buyer, offering), market.charged()

    async def at(here: int, step: Callable[[], Awaitable[object]] | None = None) -> None:
        """Kills when the story is here: before the step, or at some moment inside it."""
        if here != point:
            if step:
                await step()
            return
        if step is None:
            kill(market, victim)
            return
        running = asyncio.ensure_future(step())
        # Some way into the call; where exactly differs from run to run, and must not matter.
        await asyncio.sleep(0.004)
        kill(market, victim)
        await running

    await at(0)
    await at(1, lambda: market.agree(purchase))
    await at(2)
    await market.order(purchase)
    await at(3)
    await at(4, lambda: market.start_payment(purchase))
    await at(5)
    await at(6, lambda: market.pay(purchase))
    await at(7)
    await market.active(purchase)
    await at(8)
    token = await market.token(purchase)
    await at(9)
    await market.files(purchase, token)
    assert await counted(market, purchase) == {"licenses": 1, "orders": 1, "grants": 1}, (victim, POINTS[point])
    assert market.charged() - charged == 1, (victim, POINTS[point])
