"""Cooperatives and their members over a real governance service."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from house import House, Person, new_secret, refused, request_id

from rochdale.governance.v1 import governance_pb2 as pb
from rochdale.governance.v1 import governance_pb2_grpc
from rochdale.identity.v1 import identity_pb2
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def house(
    postgres: Postgres, nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    house = House(postgres, nats_server, tmp_path_factory.mktemp("house"))
    await house.start("identity")
    await house.start("governance")
    yield house
    await house.stop()


@pytest.fixture
def governance(house: House) -> Any:
    return governance_pb2_grpc.GovernanceServiceStub(house.channel("governance"))


def founding(**changes: Any) -> pb.CreateCooperativeRequest:
    wanted: dict[str, Any] = {
        "request_id": request_id(),
        "display_name": "Valley Health",
        "description": "Patients of the valley.",
        "charter": pb.Charter(required_approvals=1, text="We share with care."),
    }
    return pb.CreateCooperativeRequest(**(wanted | changes))


async def found(house: House, governance: Any, id: str) -> Person:
    steward = await house.steward(id)
    await governance.CreateCooperative(founding(), metadata=steward.metadata)
    return steward


async def add(governance: Any, steward: Person, *references: str) -> pb.AddMembersResponse:
    reply: pb.AddMembersResponse = await governance.AddMembers(
        pb.AddMembersRequest(
            request_id=request_id(), parent=f"cooperatives/{steward.organization}", references=references
        ),
        metadata=steward.metadata,
    )
    return reply


async def test_a_cooperative_has_the_id_of_its_organization_and_anybody_may_see_it(
    house: House, governance: Any
) -> None:
    steward = await house.steward("valley")
    request = founding()
    first = await governance.CreateCooperative(request, metadata=steward.metadata)
    assert await governance.CreateCooperative(request, metadata=steward.metadata) == first
    assert first.name == "cooperatives/valley" and first.member_count == 0
    assert await governance.GetCooperative(pb.GetCooperativeRequest(name="cooperatives/valley")) == first
    async with refused("COOPERATIVE_EXISTS", name="cooperatives/valley"):
        await governance.CreateCooperative(founding(), metadata=steward.metadata)
    async with refused("NOT_FOUND"):
        await governance.GetCooperative(pb.GetCooperativeRequest(name="cooperatives/nobody"))


async def test_only_stewards_of_verified_cooperatives_found_one(house: House, governance: Any) -> None:
    buyer = await house.buyer("shop")
    async with refused("ROLE_MISSING"):
        await governance.CreateCooperative(founding(), metadata=buyer.metadata)
    secret = new_secret()
    await house.identity.RegisterOrganization(
        identity_pb2.RegisterOrganizationRequest(
            request_id=request_id(),
            organization_id="unknown",
            kind=identity_pb2.ORGANIZATION_KIND_COOPERATIVE,
            display_name="Unknown",
            contact_email="desk@unknown.example",
            key_hash=hashlib.sha256(secret.encode()).digest(),
        )
    )
    unverified = await house.session("unknown", secret)
    async with refused("ORGANIZATION_NOT_VERIFIED"):
        await governance.CreateCooperative(founding(), metadata=unverified.metadata)


@pytest.mark.parametrize(
    "changes",
    [
        {"charter": None},
        {"charter": pb.Charter(required_approvals=0)},
        {"charter": pb.Charter(required_approvals=21)},
        {"display_name": ""},
        {"display_name": "x" * 201},
        {"request_id": "short"},
        {"description": "a\0b"},
    ],
)
async def test_a_founding_without_sense_is_refused(house: House, governance: Any, changes: Any) -> None:
    steward = await house.steward(f"senseless-{new_secret()[9:15].lower().replace('_', 'a').replace('-', 'b')}")
    async with refused("REQUEST_INVALID"):
        await governance.CreateCooperative(founding(**changes), metadata=steward.metadata)


async def test_members_join_once(house: House, governance: Any) -> None:
    steward = await found(house, governance, "members")
    first = await add(governance, steward, "m-1", "m-2", "m-3")
    assert (first.added_count, first.already_member_count) == (3, 0)
    second = await add(governance, steward, "m-3", "m-4", "'; DROP TABLE member; --", "Ünïcode 名")
    assert (second.added_count, second.already_member_count) == (3, 1)
    cooperative = await governance.GetCooperative(pb.GetCooperativeRequest(name="cooperatives/members"))
    assert cooperative.member_count == 6

    seen: list[str] = []
    token = ""
    while True:
        page = await governance.ListMembers(
            pb.ListMembersRequest(parent="cooperatives/members", page_size=4, page_token=token),
            metadata=steward.metadata,
        )
        seen += [member.reference for member in page.members]
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == 6 and {"m-1", "m-2", "m-3", "m-4"} <= set(seen)


async def test_a_retried_joining_counts_nobody_twice(house: House, governance: Any) -> None:
    steward = await found(house, governance, "retry")
    request = pb.AddMembersRequest(
        request_id=request_id(), parent="cooperatives/retry", references=[f"m-{n}" for n in range(1000)]
    )
    first = await governance.AddMembers(request, metadata=steward.metadata)
    assert await governance.AddMembers(request, metadata=steward.metadata) == first and first.added_count == 1000
    async with refused("REQUEST_ID_REUSED"):
        request.references.pop()
        await governance.AddMembers(request, metadata=steward.metadata)


async def test_members_are_seen_by_their_stewards_only(house: House, governance: Any) -> None:
    steward, other = await found(house, governance, "private"), await found(house, governance, "nosy")
    await add(governance, steward, "m-1")
    listing = pb.ListMembersRequest(parent="cooperatives/private")
    async with refused("NOT_FOUND") as there:
        await governance.ListMembers(listing, metadata=other.metadata)
    listing.parent = "cooperatives/nowhere"
    async with refused("NOT_FOUND") as nowhere:
        await governance.ListMembers(listing, metadata=other.metadata)
    assert there[0].message.replace("private", "nowhere") == nowhere[0].message
    operator = await house.operator()
    async with refused("ROLE_MISSING"):
        await governance.ListMembers(listing, metadata=operator.metadata)
    async with refused("NOT_FOUND"):
        await governance.AddMembers(
            pb.AddMembersRequest(request_id=request_id(), parent="cooperatives/private", references=["mole"]),
            metadata=other.metadata,
        )


@pytest.mark.parametrize("references", [[], ["m", "m"], [""], ["x" * 101], ["a\0b"], [str(n) for n in range(1001)]])
async def test_references_without_sense_add_nobody(house: House, governance: Any, references: list[str]) -> None:
    steward = house.__dict__.get("picky") or await found(house, governance, "picky")
    house.__dict__["picky"] = steward
    async with refused("REQUEST_INVALID"):
        await add(governance, steward, *references)
    cooperative = await governance.GetCooperative(pb.GetCooperativeRequest(name="cooperatives/picky"))
    assert cooperative.member_count == 0


async def test_cooperatives_come_in_pages(house: House, governance: Any) -> None:
    for number in range(3):
        await found(house, governance, f"page-{number}")
    seen: list[str] = []
    token = ""
    while True:
        page = await governance.ListCooperatives(pb.ListCooperativesRequest(page_size=2, page_token=token))
        seen += [cooperative.name for cooperative in page.cooperatives]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(set(seen)) and {f"cooperatives/page-{n}" for n in range(3)} <= set(seen)
    async with refused("PAGE_TOKEN_INVALID"):
        await governance.ListCooperatives(pb.ListCooperativesRequest(page_token="bm90IG91cnM"))
