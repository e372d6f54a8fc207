"""What identity hears from governance: which keys speak for which members. It never decides who is a member."""

from __future__ import annotations

import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from identity import store
from rochdale.governance.v1 import events_pb2 as governance
from rochdale.identity.v1 import events_pb2
from rochdale.identity.v1 import identity_pb2 as pb
from rochdale_kit.clock import new_id, now
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Refusal

log = logging.getLogger(__name__)


async def member_key_authorized(connection: AsyncConnection, event: governance.MemberKeyAuthorized) -> None:
    """The member's key, made or with other roles. A member has one; another they had stops working. Heard twice it changes
    nothing."""
    organization_id = event.member.split("/")[1]
    if await store.organization(connection, organization_id) is None:
        raise Refusal("ORGANIZATION_UNKNOWN", f"{event.member} is of no organization known here.", member=event.member)
    roles = [pb.ROLE_MEMBER, pb.ROLE_STEWARD] if event.steward else [pb.ROLE_MEMBER]
    key = await store.authorize_member_key(
        connection, new_id("key"), organization_id, event.key_hash, event.member, roles, now()
    )
    if key is None:
        # Two persons cannot hold one secret; whoever had it first keeps it.
        log.warning("a key of %s is somebody else's already and is not taken", event.member)
        return
    if key.HasField("revoke_time"):
        # An ended key never works again; the one the member has meanwhile goes on.
        log.warning("an ended key of %s was authorized again and is not taken", event.member)
        return
    await _revoke(connection, event.member, kept=event.key_hash)


async def member_left(connection: AsyncConnection, event: governance.MemberLeft) -> None:
    await _revoke(connection, event.member)


async def member_erased(connection: AsyncConnection, event: governance.MemberErased) -> None:
    await _revoke(connection, event.member)


async def _revoke(connection: AsyncConnection, member: str, kept: bytes = b"") -> None:
    for key in await store.revoke_member_keys(connection, member, kept, now()):
        await announce(connection, events_pb2.KeyRevoked(api_key=key))
