"""One shop for each module of these tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from catalog_world import Shop, open_shop

from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def shop(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with open_shop(postgres, tmp_path_factory.mktemp("shop"), Shop) as opened:
        yield opened
