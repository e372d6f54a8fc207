"""One market for each file of the broker's tests, on a nats-server of its own: consumers have durable names."""

import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from broker_market import Market, Site
from house import House, Person

from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def market(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Market]:
    server = NatsServer(tmp_path_factory.mktemp("nats"), durable=False)
    await server.start()
    market = await Market.open(House(postgres, server, tmp_path_factory.mktemp("house")))
    yield market
    await market.close()
    await server.stop()


@pytest_asyncio.fixture(scope="module")
async def site(market: Market) -> Site:
    return await market.site("valley")


@pytest_asyncio.fixture(scope="module")
async def buyer(market: Market) -> Person:
    return await market.house.buyer(f"acme-{market.house.tag}")


@pytest_asyncio.fixture
async def own(market: Market) -> Site:
    """A cooperative for one test: what is broken there breaks nobody else's."""
    return await market.site(f"own-{secrets.token_hex(4)}")
