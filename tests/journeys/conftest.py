"""One market for the journeys of a test process, and a shelf to buy from."""

import csv
import importlib.resources
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from walk import ACADEMIC, COMPANY, MarketPeople, Shelf


@pytest_asyncio.fixture(scope="session")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MarketPeople]:
    """A whole market in this process."""
    # A withdrawal's new version comes after three days in life; nothing but the wait differs here.
    people = MarketPeople(tmp_path_factory.mktemp("market"), withdrawal_version_seconds=2)
    await people.start()
    yield people
    await people.stop()


@pytest_asyncio.fixture(scope="session")
async def shelf(market: MarketPeople) -> Shelf:
    source = Path(str(importlib.resources.files("statsmodels") / "datasets" / "randhie" / "src" / "randhie.csv"))
    with source.open(newline="") as file:
        members = sorted({row["zper"] for row in csv.DictReader(file)})
    steward = await market.found("valley-health", members)
    version = await market.add_dataset(steward, "randhie", source.read_bytes(), "zper", "RAND Health Insurance")
    await market.consent(steward, version.name.partition("/versions/")[0], members)
    offering = await market.offer(steward, version, {ACADEMIC: 0, COMPANY: 120_000})
    return Shelf(steward, source, version, offering)
