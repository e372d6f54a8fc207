"""The parties of a module's purchases, and a desk for each test: billing with webhooks, on a database of its own."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from billing_desk import Desk, Parties
from house import House
from ledger_world import Books, new_books

from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def parties(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parties]:
    # A nats-server of our own: another House's billing would share our durable consumer and take our events.
    server = NatsServer(tmp_path_factory.mktemp("nats"), durable=False)
    await server.start()
    house = House(postgres, server, tmp_path_factory.mktemp("house"))
    await house.start("identity")
    yield Parties(
        house,
        await house.buyer("acme"),
        await house.buyer("rival"),
        await house.steward("valley-health"),
        await house.operator(),
    )
    await house.stop()
    await server.stop()


@pytest.fixture
async def closed_desk(parties: Parties) -> AsyncIterator[Desk]:
    """A desk before billing starts, for tests with settings of their own."""
    async with AsyncExitStack() as stack:
        desk = Desk(parties, stack)
        await desk.open_stripe()
        yield desk


@pytest.fixture
async def desk(closed_desk: Desk) -> Desk:
    await closed_desk.start()
    closed_desk.hear_webhooks()
    return closed_desk


@pytest_asyncio.fixture
async def books(postgres: Postgres) -> AsyncIterator[Books]:
    """A ledger with nothing in it."""
    async with new_books(postgres) as books:
        yield books
