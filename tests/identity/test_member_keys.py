"""Keys of members: made by what governance tells, never by a call."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import grpc
import nats
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from house import House, new_secret

from rochdale.governance.v1 import events_pb2 as governance
from rochdale.identity.v1 import identity_pb2 as pb
from rochdale_kit.clock import new_id
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.refusals import refusal_of
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def house(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    server = NatsServer(tmp_path_factory.mktemp("nats"), durable=False)
    await server.start()
    house = House(postgres, server, tmp_path_factory.mktemp("house"))
    await house.start("identity")
    yield house
    await house.stop()
    await server.stop()


async def tell(house: House, event: Message) -> None:
    """As governance's outbox would."""
    client = await nats.connect(house.nats.url())
    await ensure_stream(client, "governance")
    id, message_type = new_id("evt"), event.DESCRIPTOR.full_name
    headers = {"ce-id": id, "ce-type": message_type, "Nats-Msg-Id": id}
    await client.jetstream().publish(
        subject_of(message_type), event.SerializeToString(), stream="governance", headers=headers
    )
    await client.close()


async def session(house: House, secret: str, roles: set[int]) -> pb.Session | None:
    """The session a key opens once it has these roles; None once it opens none and none are wanted."""
    for _ in range(100):
        try:
            found: pb.Session = await house.identity.IssueSession(pb.IssueSessionRequest(secret=secret))
            if set(found.roles) == roles:
                return found
        except grpc.aio.AioRpcError as error:
            assert refusal_of(error).reason == "KEY_INVALID"
            if not roles:
                return None
        await asyncio.sleep(0.05)
    raise AssertionError(f"the key never had {roles}")


async def test_a_members_key_is_what_governance_tells(house: House) -> None:
    steward = await house.steward("weavers")
    member, secret = f"cooperatives/weavers/members/{new_id('mem')}", new_secret()
    hashed = hashlib.sha256(secret.encode()).digest()
    await tell(house, governance.MemberKeyAuthorized(member=member, key_hash=hashed))
    found = await session(house, secret, {pb.ROLE_MEMBER})
    assert found is not None and found.member == member and found.organization.name == "organizations/weavers"

    await tell(house, governance.MemberKeyAuthorized(member=member, key_hash=hashed, steward=True))
    await session(house, secret, {pb.ROLE_MEMBER, pb.ROLE_STEWARD})
    await tell(house, governance.MemberKeyAuthorized(member=member, key_hash=hashed))
    await session(house, secret, {pb.ROLE_MEMBER})

    lookalike = await house.colleague(steward, pb.ROLE_MEMBER)
    plain = await session(house, lookalike.secret, {pb.ROLE_MEMBER})
    assert plain is not None and not plain.member

    newer = new_secret()
    await tell(house, governance.MemberKeyAuthorized(member=member, key_hash=hashlib.sha256(newer.encode()).digest()))
    await session(house, newer, {pb.ROLE_MEMBER})
    await session(house, secret, set())
    await tell(house, governance.MemberLeft(member=member))
    await session(house, newer, set())


async def test_nobodys_key_becomes_a_members(house: House) -> None:
    """A hash that is an organization's key already stays what it was."""
    steward = await house.steward("dyers")
    hashed = hashlib.sha256(steward.secret.encode()).digest()
    member = f"cooperatives/dyers/members/{new_id('mem')}"
    await tell(house, governance.MemberKeyAuthorized(member=member, key_hash=hashed))
    other = new_secret()
    await tell(house, governance.MemberKeyAuthorized(member=member, key_hash=hashlib.sha256(other.encode()).digest()))
    # Heard in order: with the second, the first was heard too.
    await session(house, other, {pb.ROLE_MEMBER})
    kept = await session(house, steward.secret, {pb.ROLE_STEWARD})
    assert kept is not None and not kept.member
