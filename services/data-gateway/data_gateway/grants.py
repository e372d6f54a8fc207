"""The grants this gateway has heard of, checked by itself, in memory for the doors and in the database for a restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.domain.chain import flaw
from data_gateway.store import trust
from data_gateway.store.trust import CLOSED, OPEN, REFUSED
from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import now

log = logging.getLogger(__name__)


@dataclass
class HeldGrant:
    """A grant: names are resource names, end is seconds since 1970, state is OPEN, CLOSED or REFUSED."""

    name: str
    license: str
    holder: str
    scope: scope_pb2.SharingScope
    end: float
    state: str
    state_reason: str


def _held(row: trust.GrantRow) -> HeldGrant:
    grant = row.chain.grant
    return HeldGrant(
        name=grant.name,
        license=grant.license,
        holder=grant.holder,
        scope=grant.scope,
        end=grant.end_time.seconds + grant.end_time.nanos / 1e9,
        state=row.state,
        state_reason=row.state_reason,
    )


class Grants:
    def __init__(self, cooperative: str) -> None:
        self._cooperative = cooperative
        self._held: dict[str, HeldGrant] = {}
        self._arrived = asyncio.Condition()

    async def load(self, connection: AsyncConnection) -> None:
        for row in await trust.grants(connection):
            self._held[row.chain.grant.name] = _held(row)

    def get(self, name: str) -> HeldGrant | None:
        return self._held.get(name)

    async def wait_for(self, name: str, seconds: float) -> HeldGrant | None:
        """A grant that may be on its way: a token can arrive a moment before the event that opens its grant."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._arrived:
                await self._arrived.wait_for(lambda: name in self._held)
        return self._held.get(name)

    async def take(self, connection: AsyncConnection, chain: broker.GrantChain, revoked: bool) -> None:
        """Checks a chain and keeps it as open, closed (it was revoked before it was heard of) or refused. One that is
        known is left alone, unless it was refused: then it is checked again, as the fault may have been ours."""
        name = chain.grant.name
        known = self._held.get(name)
        if known is not None and known.state != REFUSED:
            return
        state, reason = (CLOSED, "REVOKED") if revoked else (OPEN, "")
        if found := flaw(chain, self._cooperative):
            state, reason = REFUSED, found.reason
            if known is None:
                log.error("grant %s is refused, %s: %s", name, found.reason, found.sentence)
        await trust.save_grant(connection, chain, state, reason, now())
        self._held[name] = _held(trust.GrantRow(chain, state, reason))
        async with self._arrived:
            self._arrived.notify_all()

    def close(self, name: str, reason: str) -> None:
        """In memory, at once; the database follows."""
        if (held := self._held.get(name)) is not None and held.state == OPEN:
            held.state, held.state_reason = CLOSED, reason
