"""What the gateway hears from the broker: grants that open, and access that is cut off."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.grants import Grants
from data_gateway.revocations import Revocations
from rochdale.access_broker.v1 import events_pb2


class BrokerEvents:
    """Handlers. Every gateway hears every cooperative's; what is another's is let pass."""

    def __init__(self, cooperative: str, grants: Grants, revocations: Revocations) -> None:
        self._gateway = f"gateways/{cooperative}"
        self._grants = grants
        self._revocations = revocations

    async def grant_opened(self, connection: AsyncConnection, event: events_pb2.GrantOpened) -> None:
        grant = event.chain.grant
        if grant.gateway == self._gateway:
            await self._grants.take(connection, event.chain, self._revocations.grant(grant.name))

    async def access_revoked(self, connection: AsyncConnection, event: events_pb2.AccessRevoked) -> None:
        if event.gateway == self._gateway:
            await self._revocations.apply(connection, [event.revocation])
