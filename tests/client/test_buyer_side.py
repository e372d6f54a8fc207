"""The command as a buyer uses it, before a real licensing: from a refusal to the members, and what registers say."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from desk import Desk
from house import House
from licensing_world import COMPANY, World
from register_office import ALONE, Office

from rochdale.client.keys import write_key_file
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def world(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    # Its own, for the same reason as licensing's tests have their own.
    server = NatsServer(tmp_path_factory.mktemp("nats"), durable=False)
    await server.start()
    world = World(House(postgres, server, tmp_path_factory.mktemp("licensing")))
    world.office = Office()
    await world.office.start()
    await world.start(**world.office.settings())
    yield world
    await world.stop()
    await world.office.stop()
    await server.stop()


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk.at(world.house, world.house.folder, licensing=world.replicas[0].grpc_address)


async def test_a_refusal_leads_to_the_members(world: World, desk: Desk) -> None:
    """Refused with the way on; asked, listed with its clock, followed, taken back."""
    shelf, buyer = await world.shelf(), await world.buyer(COMPANY)
    write_key_file(desk.key("buyer"), buyer.secret)
    offering = "/".join(shelf.offering.name.split("/")[1::2])
    told = await desk.run("license", "request", offering, "--action", "finetune", key="buyer", code=1)
    assert told["reason"] == "REQUEST_OUTSIDE_OFFERING" and "rochdale mandate request" in told["message"]

    ask = ("mandate", "request", offering, "--action", "finetune", "--price", "2500 EUR", "-m", "For clinics.")
    asked = await desk.run(*ask, "--request-id", "mandate-1", key="buyer")
    assert asked["state"] == "MANDATE_REQUEST_STATE_REQUESTED" and "actions" in asked["outside"][0]
    assert asked["respond_by_time"] and await desk.run(*ask, "--request-id", "mandate-1", key="buyer") == asked
    assert [each["name"] for each in (await desk.run("mandate", "list", key="buyer"))["mandate_requests"]] == [
        asked["name"]
    ]
    id = asked["name"].partition("/")[2]
    assert await desk.run("mandate", "show", id, key="buyer") == asked
    taken = await desk.run("mandate", "withdraw", id, key="buyer")
    assert taken["state"] == "MANDATE_REQUEST_STATE_WITHDRAWN"


async def test_one_operator_is_not_enough(world: World, desk: Desk) -> None:
    buyer = await world.buyer(COMPANY, attested=False)
    attest = ("licensee", "attest", buyer.organization, "--category", "company")
    first = await desk.run(*attest, key="operator")
    assert len(first["approvals"]) == 1 and first["category"] == "BUYER_CATEGORY_UNSPECIFIED"
    again = await desk.run(*attest, key="operator")
    assert len(again["approvals"]) == 1


async def test_a_register_says_what_a_buyer_is(world: World, desk: Desk) -> None:
    buyer = await world.buyer(COMPANY, attested=False)
    write_key_file(desk.key("lei"), buyer.secret)
    found = await desk.run("licensee", "claim", "lei", ALONE, key="lei")
    assert found["claims"][0]["state"] == "CLAIM_STATE_VERIFIED" and found["category_reason"]
    assert (await desk.run("licensee", "show", key="lei"))["claims"] == found["claims"]
    unknown = await desk.run("licensee", "claim", "lei", "nothing", key="lei", code=1)
    assert unknown["reason"] == "IDENTIFIER_INVALID"
