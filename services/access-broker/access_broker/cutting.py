"""Cutting off a grant: its state, and the entry in its gateway's feed that reaches every token of it."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from access_broker import store
from access_broker.domain.tokens import MAX_TTL_SECONDS
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import events_pb2
from rochdale_kit.clock import now
from rochdale_kit.outbox import announce

# The longest a token can outlive the moment its grant is cut off: its whole life, and some minutes for clocks.
FORGET_AFTER = dt.timedelta(seconds=MAX_TTL_SECONDS + 300)


async def cut_off(
    connection: AsyncConnection, id: str, cooperative: str, state: pb.GrantState.ValueType, reason: str
) -> None:
    """id, cooperative: bare ids of a locked grant and of who serves it."""
    at = now()
    await store.set_grant_state(connection, id, state, reason)
    revocation = await store.insert_revocation(
        connection, cooperative, pb.REVOCATION_KIND_GRANT, f"grants/{id}", at, at + FORGET_AFTER
    )
    await announce(connection, events_pb2.AccessRevoked(gateway=f"gateways/{cooperative}", revocation=revocation))
