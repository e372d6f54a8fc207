"""The small service of kit_world.py: its own nats-server for each test, because tests kill it and empty its store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from kit_world import World, world_on

from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture
async def world(postgres: Postgres, tmp_path: Path) -> AsyncIterator[World]:
    server = NatsServer(tmp_path / "nats", durable=False)
    await server.start()
    try:
        async with world_on(postgres, server) as world:
            yield world
    finally:
        await server.stop()
