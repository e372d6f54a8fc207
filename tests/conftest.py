"""The real servers every test may use, one of each per test process; what one service needs is beside its tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    """A running PostgreSQL; make a database of your own: `await postgres.ensure_database(name, owner, password)`."""
    server = Postgres(tmp_path_factory.mktemp("postgres"), durable=False)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    """A running nats-server with JetStream; connect to `nats_server.url()`."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), durable=False)
    await server.start()
    yield server
    await server.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest module first: started last, it would keep one of two workers waiting for minutes."""
    items.sort(key=lambda item: "test_killed" not in item.nodeid)
