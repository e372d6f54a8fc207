"""Organizations, keys and sessions, over a real identity service."""

import hashlib
import os
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from house import House, new_secret, refused, request_id

from rochdale.identity.v1 import identity_pb2 as pb
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def house(
    postgres: Postgres, nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    house = House(postgres, nats_server, tmp_path_factory.mktemp("house"))
    await house.start("identity")
    yield house
    await house.stop()


def registration(id: str, secret: str) -> pb.RegisterOrganizationRequest:
    return pb.RegisterOrganizationRequest(
        request_id=request_id(),
        organization_id=id,
        kind=pb.ORGANIZATION_KIND_BUYER,
        display_name="Acme",
        contact_email="desk@acme.example",
        key_hash=hashlib.sha256(secret.encode()).digest(),
    )


async def test_a_buyer_registers_and_a_retry_changes_nothing(house: House) -> None:
    secret = new_secret()
    request = registration("acme", secret)
    first = await house.identity.RegisterOrganization(request)
    assert await house.identity.RegisterOrganization(request) == first
    assert not first.organization.verified
    session = await house.identity.IssueSession(pb.IssueSessionRequest(secret=secret))
    assert session.organization.name == "organizations/acme" and list(session.roles) == [pb.ROLE_BUYER]


async def test_an_id_and_a_key_belong_to_whoever_came_first(house: House) -> None:
    secret = new_secret()
    await house.identity.RegisterOrganization(registration("first", secret))
    async with refused("ORGANIZATION_EXISTS", organization_id="first"):
        await house.identity.RegisterOrganization(registration("first", new_secret()))
    async with refused("KEY_EXISTS"):
        await house.identity.RegisterOrganization(registration("second", secret))
    async with refused("NOT_FOUND"):
        operator = await house.operator()
        await house.identity.GetOrganization(
            pb.GetOrganizationRequest(name="organizations/second"), metadata=operator.metadata
        )


async def test_a_request_id_cannot_be_used_for_something_else(house: House) -> None:
    request = registration("reused", new_secret())
    await house.identity.RegisterOrganization(request)
    request.display_name = "Another"
    async with refused("REQUEST_ID_REUSED"):
        await house.identity.RegisterOrganization(request)


async def test_an_unverified_organization_may_look_but_not_act(house: House) -> None:
    secret = new_secret()
    await house.identity.RegisterOrganization(registration("newcomer", secret))
    newcomer = await house.session("newcomer", secret)
    name = "organizations/newcomer"
    assert await house.identity.GetOrganization(pb.GetOrganizationRequest(name=name), metadata=newcomer.metadata)
    async with refused("ORGANIZATION_NOT_VERIFIED", organization="newcomer"):
        await house.identity.CreateApiKey(
            pb.CreateApiKeyRequest(
                request_id=request_id(), parent=name, key_hash=bytes(32), label="x", roles=[pb.ROLE_BUYER]
            ),
            metadata=newcomer.metadata,
        )


async def test_another_organization_answers_like_one_that_does_not_exist(house: House) -> None:
    mine, _ = await house.buyer("mine"), await house.buyer("yours")
    async with refused("NOT_FOUND") as there:
        await house.identity.GetOrganization(
            pb.GetOrganizationRequest(name="organizations/yours"), metadata=mine.metadata
        )
    async with refused("NOT_FOUND") as nowhere:
        await house.identity.GetOrganization(
            pb.GetOrganizationRequest(name="organizations/nobody"), metadata=mine.metadata
        )
    assert there[0].message.replace("yours", "nobody") == nowhere[0].message


async def test_a_key_cannot_have_the_roles_of_another_kind(house: House) -> None:
    buyer = await house.buyer("climber")
    async with refused("ROLE_NOT_ALLOWED", role="ROLE_OPERATOR"):
        await house.identity.CreateApiKey(
            pb.CreateApiKeyRequest(
                request_id=request_id(),
                parent="organizations/climber",
                key_hash=bytes(32),
                label="x",
                roles=[pb.ROLE_OPERATOR],
            ),
            metadata=buyer.metadata,
        )


async def test_an_operator_makes_no_key_that_acts_for_others(house: House) -> None:
    await house.steward("sovereign")
    await house.buyer("customer")
    operator = await house.operator()

    async def make(organization: str, role: pb.Role.ValueType) -> None:
        await house.identity.CreateApiKey(
            pb.CreateApiKeyRequest(
                request_id=request_id(),
                parent=f"organizations/{organization}",
                key_hash=os.urandom(32),
                label="x",
                roles=[role],
            ),
            metadata=operator.metadata,
        )

    for organization, role in (
        ("sovereign", pb.ROLE_STEWARD),
        ("sovereign", pb.ROLE_MEMBER),
        ("customer", pb.ROLE_BUYER),
    ):
        async with refused("ROLE_NOT_ALLOWED", role=pb.Role.Name(role)):
            await make(organization, role)
    await make("sovereign", pb.ROLE_GATEWAY)
    await make("operator", pb.ROLE_OPERATOR)


@pytest.mark.parametrize(
    "secret",
    ["", "x", "rochdale_short_00000000", new_secret()[:-1] + "x", new_secret()],
    # Named, because parallel runners must agree on names and the keys are random.
    ids=["empty", "one letter", "short", "checksum", "unknown"],
)
async def test_a_key_that_does_not_work_never_says_why(house: House, secret: str) -> None:
    async with refused("REQUEST_INVALID" if not secret else "KEY_INVALID"):
        await house.identity.IssueSession(pb.IssueSessionRequest(secret=secret))


async def test_a_revoked_key_opens_no_session(house: House) -> None:
    person = await house.buyer("careless")
    keys = await house.identity.ListApiKeys(
        pb.ListApiKeysRequest(parent="organizations/careless"), metadata=person.metadata
    )
    revoke = pb.RevokeApiKeyRequest(name=keys.api_keys[0].name)
    revoked = await house.identity.RevokeApiKey(revoke, metadata=person.metadata)
    assert await house.identity.RevokeApiKey(revoke, metadata=person.metadata) == revoked
    async with refused("KEY_INVALID"):
        await house.session("careless", person.secret)


async def test_sessions_outlive_a_rotation_of_the_signing_key(house: House) -> None:
    operator = await house.operator()
    before = await house.identity.GetKeySet(pb.GetKeySetRequest())
    await house.identity.RotateSigningKey(
        pb.RotateSigningKeyRequest(request_id=request_id()), metadata=operator.metadata
    )
    after = await house.identity.GetKeySet(pb.GetKeySetRequest())
    assert before != after
    # The old session still counts, and a new one is signed with the key that was published as the next.
    await house.identity.ListOrganizations(pb.ListOrganizationsRequest(), metadata=operator.metadata)
    again = await house.operator()
    await house.identity.ListOrganizations(pb.ListOrganizationsRequest(), metadata=again.metadata)


async def test_organizations_come_in_pages_without_holes(house: House) -> None:
    for number in range(5):
        await house.buyer(f"paged-{number}")
    operator = await house.operator()
    seen, token = [], ""
    while True:
        page = await house.identity.ListOrganizations(
            pb.ListOrganizationsRequest(page_size=2, page_token=token), metadata=operator.metadata
        )
        seen += [organization.name for organization in page.organizations]
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == len(set(seen)) and {f"organizations/paged-{n}" for n in range(5)} <= set(seen)
    async with refused("PAGE_TOKEN_INVALID"):
        await house.identity.ListOrganizations(
            pb.ListOrganizationsRequest(page_token="bm90IG91cnM"), metadata=operator.metadata
        )


async def test_what_is_not_allowed_cannot_be_told_from_what_is_not_there(house: House) -> None:
    channel = house.channel("identity")
    for method in ("/rochdale.identity.v1.IdentityService/Nothing", "/other.Service/Call"):
        call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        async with refused("CALL_UNKNOWN"):
            await call(b"")


async def test_hostile_callers_get_short_answers(house: House) -> None:
    async with refused("SESSION_MISSING"):
        await house.identity.ListOrganizations(pb.ListOrganizationsRequest())
    for token in ("Bearer x", "Bearer a.b.c", "Basic eA=="):
        async with refused("SESSION_INVALID"):
            await house.identity.ListOrganizations(pb.ListOrganizationsRequest(), metadata=(("authorization", token),))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await house.identity.IssueSession(pb.IssueSessionRequest(secret="x" * 10_000_000))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
