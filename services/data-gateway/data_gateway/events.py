"""What the gateway hears: from the broker grants that open and access that is cut off, from governance what its
cooperative and its members decided. Every gateway hears every cooperative's; what is another's is let pass."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.consents import Consents
from data_gateway.cooperative_key import OwnKeys
from data_gateway.grants import Grants
from data_gateway.revocations import Revocations
from data_gateway.rules import RuleMemory
from rochdale.access_broker.v1 import events_pb2
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import governance_pb2


class BrokerEvents:
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


class GovernanceEvents:
    def __init__(self, own_keys: OwnKeys, rules: RuleMemory, grants: Grants, consents: Consents) -> None:
        self._own_keys = own_keys
        self._rules = rules
        self._grants = grants
        self._consents = consents

    async def cooperative_created(
        self, _connection: AsyncConnection, event: governance_events.CooperativeCreated
    ) -> None:
        self._own_keys.hear(event.cooperative)

    async def cooperative_key_added(
        self, _connection: AsyncConnection, event: governance_events.CooperativeKeyAdded
    ) -> None:
        self._own_keys.hear(event.cooperative)

    async def rule_enacted(self, connection: AsyncConnection, event: governance_events.RuleEnacted) -> None:
        await self._rule(connection, event.sharing_rule)

    async def rule_narrowed(self, connection: AsyncConnection, event: governance_events.RuleNarrowed) -> None:
        await self._rule(connection, event.sharing_rule)

    async def consent_recorded(self, connection: AsyncConnection, event: governance_events.ConsentRecorded) -> None:
        await self._consents.record(connection, event.items)

    async def consent_withdrawn(self, connection: AsyncConnection, event: governance_events.ConsentWithdrawn) -> None:
        await self._consents.withdraw(connection, event.items)

    async def member_erased(self, connection: AsyncConnection, event: governance_events.MemberErased) -> None:
        await self._consents.erase(connection, event.member)

    async def _rule(self, connection: AsyncConnection, rule: governance_pb2.SharingRule) -> None:
        if await self._rules.take(connection, rule):
            self._grants.look_at_rules()
