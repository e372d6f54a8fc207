"""What every RPC of governance shares: whose cooperative it is, and the last part of a name."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store import cooperatives
from rochdale.governance.v1 import events_pb2
from rochdale.governance.v1 import governance_pb2 as pb
from rochdale_kit.identity import caller
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import not_found

Context = Any  # grpc.aio.ServicerContext, which no RPC of ours looks at


async def own_cooperative(
    connection: AsyncConnection, parent: str, asked: str = "", lock: bool = True
) -> pb.Cooperative:
    """The caller's own cooperative; another's, and what is in it, answers as if it did not exist."""
    cooperative = None
    if caller().organization == last(parent):
        cooperative = await cooperatives.cooperative(connection, last(parent), lock)
    if cooperative is None:
        raise not_found(asked or parent)
    return cooperative


async def announce_enacted(connection: AsyncConnection, rule: pb.SharingRule) -> None:
    if rule.state == pb.RULE_STATE_IN_FORCE:
        await announce(connection, events_pb2.RuleEnacted(sharing_rule=rule))


def last(name: str) -> str:
    return name.rsplit("/", 1)[1]
