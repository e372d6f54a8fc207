"""One world for all of licensing's tests in a process; every test makes cooperatives and buyers of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from house import House
from licensing_world import World
from register_office import Office

from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="session")
async def world(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    # A nats-server of our own: the events of another test's House would be heard here too.
    server = NatsServer(tmp_path_factory.mktemp("licensing-nats"), durable=False)
    await server.start()
    world = World(House(postgres, server, tmp_path_factory.mktemp("licensing")))
    world.office = Office()
    await world.office.start()
    await world.start(**world.office.settings())
    yield world
    await world.stop()
    await world.office.stop()
    await server.stop()
