"""Identity and governance over a PostgreSQL and a nats-server of their own, for one test file."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from house import House

from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def house(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    # A nats-server of its own: what is counted on its streams is this module's.
    server = NatsServer(tmp_path_factory.mktemp("nats"), durable=False)
    await server.start()
    house = House(postgres, server, tmp_path_factory.mktemp("house"))
    await house.start("identity")
    await house.start("governance", mail_directory=house.folder / "mail")
    yield house
    await house.stop()
    await server.stop()
