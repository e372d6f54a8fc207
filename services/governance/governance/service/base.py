"""What every RPC of governance shares: whose cooperative it is, who speaks, and the last part of a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store import cooperatives, members
from rochdale.governance.v1 import events_pb2
from rochdale.governance.v1 import governance_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.identity import caller
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal, not_found

Context = Any  # grpc.aio.ServicerContext, which no RPC of ours looks at


@dataclass(frozen=True)
class Voice:
    """Who speaks in a cooperative: a member, a steward, or a member who is one.

    holder: the member's resource name, or the steward's API key without a member. affiliations: the member's.
    """

    cooperative: str
    holder: str
    member: str
    steward: bool
    affiliations: tuple[str, ...]

    @property
    def author(self) -> str:
        """How they are named as an author: a steward's key speaks for the cooperative."""
        return self.member or self.cooperative


def not_a_member(cooperative: str) -> Refusal:
    return Refusal("NOT_A_MEMBER", f"You are no member of {cooperative}.", Kind.FORBIDDEN, cooperative=cooperative)


async def voice(connection: AsyncConnection, cooperative_id: str) -> Voice:
    """The caller, as somebody of this cooperative. Refuses with NOT_A_MEMBER."""
    principal, name = caller(), f"cooperatives/{cooperative_id}"
    if principal.organization != cooperative_id:
        raise not_a_member(name)
    steward = identity_pb2.ROLE_STEWARD in principal.roles
    if not principal.member:
        if not steward:
            raise not_a_member(name)
        return Voice(name, principal.key, "", True, ())
    member = await members.member(connection, principal.member)
    # A session may outlive the membership, and the office, by a quarter of an hour.
    if member is None or member.state != pb.MEMBER_STATE_ACTIVE:
        raise not_a_member(name)
    return Voice(name, member.name, member.name, steward and member.steward, tuple(member.affiliations))


async def acts_as_steward(connection: AsyncConnection, cooperative_id: str) -> bool:
    """Whether the caller is a steward of this cooperative now: a session may outlive an office by a quarter of an hour."""
    principal = caller()
    if principal.organization != cooperative_id or identity_pb2.ROLE_STEWARD not in principal.roles:
        return False
    if not principal.member:
        return True
    member = await members.member(connection, principal.member)
    return member is not None and member.state == pb.MEMBER_STATE_ACTIVE and member.steward


async def own_cooperative(
    connection: AsyncConnection, parent: str, asked: str = "", lock: bool = True
) -> pb.Cooperative:
    """The cooperative the caller is a steward of; another's, and what is in it, answers as if it did not exist."""
    cooperative = None
    if await acts_as_steward(connection, last(parent)):
        cooperative = await cooperatives.cooperative(connection, last(parent), lock)
    if cooperative is None:
        raise not_found(asked or parent)
    return cooperative


async def announce_enacted(connection: AsyncConnection, rule: pb.SharingRule) -> None:
    if rule.state == pb.RULE_STATE_IN_FORCE:
        await announce(connection, events_pb2.RuleEnacted(sharing_rule=rule))


def steward_person() -> str:
    """Who a steward is where different persons are counted: the member behind the key; all keys without one are one."""
    principal = caller()
    return principal.member or f"organizations/{principal.organization}"


def last(name: str) -> str:
    return name.rsplit("/", 1)[1]
