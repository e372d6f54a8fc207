"""The gateway with the real broker and our own client: what one writes, the other reads; what one ends, the other cuts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pandas
import pytest
import pytest_asyncio
from broker_market import Deal, Market, Site
from gateway_partners import SteeredGovernance
from gateway_world import World
from house import House, Person

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.client.download import fetch
from rochdale.client.market import Session
from rochdale.client.refusals import MarketError
from rochdale.client.renewal import Renewable
from rochdale.client.tokens import AccessToken
from rochdale.client.upload import upload
from rochdale.data_gateway.v1 import data_gateway_pb2 as pb
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

CONTENT = b"age,region,visits\n" + b"".join(b"%d,r%d,%d\n" % (n % 90, n % 6, n % 17) for n in range(20_000))


@pytest_asyncio.fixture(scope="module")
async def market(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Market]:
    server = NatsServer(tmp_path_factory.mktemp("nats"), durable=False)
    await server.start()
    market = await Market.open(House(postgres, server, tmp_path_factory.mktemp("house")))
    yield market
    await market.close()
    await server.stop()


@pytest_asyncio.fixture(scope="module")
async def gateway(market: Market, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    world = World(market.house, f"valley-{market.house.tag}", tmp_path_factory.mktemp("gateway"))
    # What the market's shelf says of a cooperative, and whose consents stand.
    governance = SteeredGovernance(market.nats, world.cooperative)  # type: ignore[abstract] # answers what gateways ask
    governance.licensing = market.shelf.desk.key
    market.shelf.cooperatives[governance.authority.name] = governance.document
    await governance.start()
    world.governance = governance
    await world.prepare(market.house.services["access_broker"].grpc_address, governance.address, governance.address)
    await world.start()
    await world.add(CONTENT, "claims")
    yield world
    await world.http.aclose()
    await governance.stop()


@pytest_asyncio.fixture(scope="module")
async def buyer(market: Market) -> Person:
    return await market.house.buyer(f"acme-{market.house.tag}")


async def license(market: Market, gateway: World, buyer: Person, dataset: str = "claims") -> Deal:
    deal = market.deal(
        Site(gateway.cooperative, gateway.steward, gateway.steward, gateway.governance.authority), buyer, dataset
    )
    grant = await market.activate(deal)
    assert grant.state == broker.GRANT_STATE_OPEN
    return deal


def tokens(issued: broker.IssuedToken) -> Renewable[AccessToken]:
    token = AccessToken(issued.token, issued.expire_time.seconds, issued.gateway_url, ())
    return Renewable(lambda: token)


async def test_from_a_stewards_file_to_a_buyers_and_no_further(
    market: Market, gateway: World, buyer: Person, tmp_path: Path
) -> None:
    source = tmp_path / "visits.csv"
    source.write_bytes(CONTENT)
    ingestion = await gateway.announce(len(CONTENT), dataset=gateway.dataset("visits"))
    session = Session(gateway.steward.metadata[0][1].removeprefix("Bearer "), time.time() + 600, "", ())
    await asyncio.to_thread(upload, ingestion.upload_url, source, Renewable(lambda: session))
    assert (await gateway.settled(ingestion)).state == pb.INGESTION_STATE_AWAITING_APPROVAL
    await gateway.approve(ingestion)

    deal = await license(market, gateway, buyer, "visits")
    issued = await market.issue(buyer, deal)  # at once: the token may be here before the grant
    assert issued.gateway_url == gateway.url
    expected = pandas.read_csv(source)
    pandas.testing.assert_frame_equal(await gateway.load(issued.token, "visits"), expected)

    delivery = await asyncio.to_thread(fetch, tokens(issued), deal.license.name, tmp_path / "all")
    assert (delivery.version, delivery.columns) == (1, ("age", "region", "visits"))
    read = pandas.concat([pandas.read_parquet(path) for _, path in delivery.files])
    pandas.testing.assert_frame_equal(read, expected)
    narrow = await market.issue(buyer, deal, columns=["visits"])
    assert list((await gateway.load(narrow.token, "visits")).columns) == ["visits"]
    some = await asyncio.to_thread(fetch, tokens(narrow), deal.license.name, tmp_path / "some")
    assert some.columns == ("visits",)

    begun = time.monotonic()
    await market.terminate(deal)
    async with asyncio.timeout(2):
        while (await gateway.query(issued.token, "visits"))[0] == 200:
            await asyncio.sleep(0.01)
    assert time.monotonic() - begun < 2
    with pytest.raises(MarketError) as refusal:
        await asyncio.to_thread(fetch, tokens(issued), deal.license.name, tmp_path / "late")
    assert refusal.value.reason == "GRANT_REVOKED"


async def test_one_revoked_token_leaves_the_others_alone(market: Market, gateway: World, buyer: Person) -> None:
    deal = await license(market, gateway, buyer)
    first, second = await market.issue(buyer, deal), await market.issue(buyer, deal)
    assert (await gateway.query(first.token, "claims"))[0] == 200
    await market.broker.RevokeToken(broker.RevokeTokenRequest(token_id=first.token_id), metadata=buyer.metadata)
    async with asyncio.timeout(2):
        while (await gateway.query(first.token, "claims"))[0] == 200:
            await asyncio.sleep(0.01)
    assert (await gateway.query(first.token, "claims"))[0] == 401
    assert (await gateway.query(second.token, "claims"))[0] == 200


async def test_without_its_broker_the_gateway_serves_nobody_until_it_is_back(
    market: Market, gateway: World, buyer: Person
) -> None:
    deal = await license(market, gateway, buyer)
    issued = await market.issue(buyer, deal)
    assert (await gateway.query(issued.token, "claims"))[0] == 200
    service = market.house.services.pop("access_broker")
    address = service.grpc_address
    await service.stop()
    async with asyncio.timeout(5):
        while (answer := await gateway.query(issued.token, "claims"))[0] == 200:
            await asyncio.sleep(0.05)
    assert answer[0] == 403 and answer[1][0]["errorCode"] == "FEED_SILENT"
    await market.house.start("access_broker", **market.broker_settings(), grpc_address=address)
    async with asyncio.timeout(10):
        while (await gateway.query(issued.token, "claims"))[0] != 200:
            await asyncio.sleep(0.05)
