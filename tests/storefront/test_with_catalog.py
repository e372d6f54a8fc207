"""The pages over the real catalog: what a cooperative publishes is found, shown, proven and closed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from catalog_world import Shop, open_shop
from hall import Hall

from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def shop(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with open_shop(postgres, tmp_path_factory.mktemp("shop"), Shop) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module")
async def browser(shop: Shop, hall: Hall) -> AsyncIterator[httpx.AsyncClient]:
    services = shop.house.services
    storefront = await shop.house.start(
        "storefront",
        catalog_address=services["catalog"].grpc_address,
        governance_address=hall.address,
    )
    async with httpx.AsyncClient(base_url=f"http://{storefront.http_address}", timeout=30) as client:
        yield client


async def test_an_offering_is_found_shown_proven_and_closed(shop: Shop, hall: Hall, browser: httpx.AsyncClient) -> None:
    assert "Nothing is on offer yet." in (await browser.get("/")).text
    steward = await shop.steward("mill")
    await shop.dataset(steward)
    rule = await shop.rule(steward)
    hall.cooperatives["cooperatives/mill"], hall.rules[rule.name] = shop.documents["mill"], rule
    rule.rationale = "Research helps us all."
    offering = await shop.publish(steward, rule)
    await shop.found(1, query="visits")

    # The words of each facet's link are those the search itself understands.
    listed = (await browser.get("/?q=visits")).text
    assert "1 offering" in listed and "EUR 90.00" in listed and "The Mill Cooperative" in listed
    for filters in (
        "modality=tabular&mode=download&language=en&cooperative=mill&free=1&category=academic",
        "term=duty:no-reidentification&term=action:analyze&max=90&currency=EUR&category=sme&order=price",
    ):
        narrowed = (await browser.get(f"/?q=visits&{filters}")).text
        assert "1 offering" in narrowed and "your price" in narrowed
    assert "0 offerings" in (await browser.get("/?mode=stream")).text
    for address in ("/?page=x", "/?max=1&currency=ZZZ", "/?q=" + "x" * 10_001):
        assert (await browser.get(address)).status_code == 400
    assert (await browser.get("/?q=" + "x" * 10_000)).status_code == 200

    shown = (await browser.get(f"/{offering.name}")).text
    assert shown.count("Its hash was computed again for this page and is the one the offering names.") == 2
    assert "rules was computed again for this page and is the same" in shown
    assert "Research helps us all." in shown and "20,190 rows" in shown

    await shop.narrow(steward, rule)
    await shop.closed(offering.name)
    closed = (await browser.get(f"/{offering.name}")).text
    assert "It can no longer be licensed" in closed and "How to license it" not in closed
    assert "closed" in (await browser.get("/cooperatives/mill")).text
    await shop.found(0)
    assert "Nothing is on offer yet." in (await browser.get("/")).text
