"""One market for all attacks of a test process; what is in it is in tests/hostile_world.py."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hostile_world import Stage, set_stage
from walk import MarketPeople


@pytest_asyncio.fixture(scope="session")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MarketPeople]:
    """A whole market in this process."""
    people = MarketPeople(tmp_path_factory.mktemp("hostile"))
    await people.start()
    yield people
    await people.stop()


@pytest_asyncio.fixture(scope="session")
async def stage(market: MarketPeople) -> Stage:
    return await set_stage(market)
