"""Whom a gateway talks to, as a test can steer them: a broker, and governance with licensing's keys; and chains that hold."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from authority import Authority
from google.protobuf.message import Message
from nats.aio.client import Client as NatsClient

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.access_broker.v1 import access_broker_pb2_grpc, events_pb2
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import governance_pb2, governance_pb2_grpc, membership_pb2, membership_pb2_grpc
from rochdale.licensing.v1 import licensing_pb2, licensing_pb2_grpc
from rochdale.type.v1 import money_pb2, scope_pb2
from rochdale_kit.chain import hash_of_grant
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.signing import GRANT_PREFIX, SigningKey, sign_hash

YEAR = 365 * 86_400


class SteeredBroker(access_broker_pb2_grpc.AccessBrokerServiceServicer):
    """Answers gateways from lists a test fills; beats five times a second while `beating`."""

    def __init__(self, nats: NatsClient, cooperative: str) -> None:
        self.nats = nats
        self.cooperative = cooperative
        self.key = SigningKey.generate()
        self.upcoming = SigningKey.generate()
        self.chains: list[broker.GrantChain] = []
        self.revocations: list[broker.Revocation] = []
        self.registered: list[broker.RegisterGatewayRequest] = []
        self.beating = True
        self.failing = False
        self.clock_offset = 0.0
        self.address = ""
        self._server = grpc.aio.server()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        access_broker_pb2_grpc.add_AccessBrokerServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        await ensure_stream(self.nats, "access_broker")
        self._task = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._server.stop(0)

    async def RegisterGateway(self, request: broker.RegisterGatewayRequest, context: Any) -> broker.Gateway:
        self.registered.append(request)
        return broker.Gateway(name=f"gateways/{self.cooperative}", public_url=request.public_url)

    async def GetKeySet(self, request: broker.GetKeySetRequest, context: Any) -> broker.KeySet:
        return broker.KeySet(jwks_json=json.dumps({"keys": [self.key.public_jwk(), self.upcoming.public_jwk()]}))

    async def ListRevocations(
        self, request: broker.ListRevocationsRequest, context: Any
    ) -> broker.ListRevocationsResponse:
        if self.failing:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        found = self.revocations[request.after_sequence : request.after_sequence + 1000]
        return broker.ListRevocationsResponse(revocations=found, last_sequence=len(self.revocations))

    async def ListGrantChains(
        self, request: broker.ListGrantChainsRequest, context: Any
    ) -> broker.ListGrantChainsResponse:
        at = int(request.page_token or 0)
        token = str(at + 1) if at + 1 < len(self.chains) else ""
        return broker.ListGrantChainsResponse(chains=self.chains[at : at + 1], next_page_token=token)

    def heartbeat(self, key: SigningKey | None = None, last_sequence: int | None = None) -> bytes:
        key = key or self.key
        beat = events_pb2.Heartbeat(
            gateway=f"gateways/{self.cooperative}",
            last_sequence=len(self.revocations) if last_sequence is None else last_sequence,
            broker_time=to_timestamp(now() + dt.timedelta(seconds=self.clock_offset)),
        ).SerializeToString()
        signature = key.sign(b"rochdale-heartbeat-v1" + beat)
        return events_pb2.SignedHeartbeat(heartbeat=beat, key_id=key.key_id, signature=signature).SerializeToString()

    async def send(self, heartbeat: bytes) -> None:
        await self.nats.publish(f"rochdale.access_broker.v1.heartbeat.{self.cooperative}", heartbeat)

    async def _beat(self) -> None:
        while True:
            if self.beating and self.nats.is_connected:
                await self.send(self.heartbeat())
            await asyncio.sleep(0.2)

    async def publish(self, event: Message) -> None:
        await publish(self.nats, event)

    async def open(self, chain: broker.GrantChain, announced: bool = True) -> broker.GrantChain:
        self.chains.append(chain)
        if announced:
            await self.publish(events_pb2.GrantOpened(chain=chain))
        return chain

    async def revoke(self, kind: broker.RevocationKind.ValueType, subject: str, announced: bool = True) -> None:
        revocation = broker.Revocation(
            sequence=len(self.revocations) + 1,
            kind=kind,
            subject=subject,
            revoke_time=to_timestamp(now()),
            forget_time=to_timestamp(now() + dt.timedelta(days=1)),
        )
        self.revocations.append(revocation)
        if announced:
            await self.publish(events_pb2.AccessRevoked(gateway=f"gateways/{self.cooperative}", revocation=revocation))


class SteeredGovernance(
    governance_pb2_grpc.GovernanceServiceServicer,
    membership_pb2_grpc.MembershipServiceServicer,
    licensing_pb2_grpc.LicensingServiceServicer,
):
    """What one cooperative decided, as far as a gateway asks; and licensing's keys."""

    def __init__(self, nats: NatsClient, cooperative: str) -> None:
        self.nats = nats
        self.authority = Authority(cooperative)
        self.licensing = SigningKey.generate()
        self.document = self.authority.document()
        self.rules: dict[str, governance_pb2.SharingRule] = {}
        # Member id (as text) -> dataset -> the consent that stands.
        self.consents: dict[tuple[str, str], membership_pb2.ConsentItem] = {}
        self.names: dict[str, str] = {}
        self.failing = False
        self.address = ""
        self._server = grpc.aio.server()

    async def start(self) -> None:
        governance_pb2_grpc.add_GovernanceServiceServicer_to_server(self, self._server)
        membership_pb2_grpc.add_MembershipServiceServicer_to_server(self, self._server)
        licensing_pb2_grpc.add_LicensingServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        await ensure_stream(self.nats, "governance")

    async def stop(self) -> None:
        await self._server.stop(0)

    async def GetCooperative(self, request: Any, context: Any) -> governance_pb2.Cooperative:
        return self.document

    async def ListSharingRules(self, request: Any, context: Any) -> governance_pb2.ListSharingRulesResponse:
        return governance_pb2.ListSharingRulesResponse(sharing_rules=self.rules.values())

    async def ListLiveConsents(self, request: Any, context: Any) -> membership_pb2.ListLiveConsentsResponse:
        if self.failing:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        assert dict(context.invocation_metadata())["authorization"].startswith("Bearer ")
        items = list(self.consents.values())
        at = int(request.page_token or 0)
        token = str(at + 1000) if at + 1000 < len(items) else ""
        return membership_pb2.ListLiveConsentsResponse(items=items[at : at + 1000], next_page_token=token)

    async def GetKeySet(self, request: Any, context: Any) -> Any:
        return licensing_pb2.KeySet(jwks_json=json.dumps({"keys": [self.licensing.public_jwk()]}))

    def member(self, reference: str) -> str:
        """The resource name of the member with this reference."""
        return self.names.setdefault(reference, f"{self.authority.name}/members/{new_id('mem')}")

    def item(
        self,
        reference: str,
        dataset: str,
        purposes: Sequence[str] = ("AcademicResearch",),
        categories: Sequence[scope_pb2.BuyerCategory.ValueType] = (scope_pb2.BUYER_CATEGORY_ACADEMIC,),
    ) -> membership_pb2.ConsentItem:
        member = self.member(reference)
        consent = membership_pb2.Consent(
            name=f"{member}/consents/{new_id('con')}",
            dataset=f"{self.authority.name}/datasets/{dataset}",
            purposes=purposes,
            categories=categories,
            status=membership_pb2.CONSENT_STATUS_GIVEN if purposes else membership_pb2.CONSENT_STATUS_REFUSED,
            method=membership_pb2.CONSENT_METHOD_RECORDED,
            give_time=to_timestamp(now()),
        )
        return membership_pb2.ConsentItem(member=member, reference=reference, consent=consent)

    async def consent(self, references: Iterable[str], dataset: str, announced: bool = True, **how: Any) -> None:
        """Members agree, or agree to something else."""
        items = [self.item(reference, dataset, **how) for reference in references]
        self.consents |= {(item.reference, dataset): item for item in items}
        for at in range(0, len(items), 500 if announced else len(items)):
            if announced:
                await self.publish(governance_events.ConsentRecorded(items=items[at : at + 500]))

    async def withdraw(
        self,
        references: Iterable[str],
        dataset: str,
        announced: bool = True,
        ground: membership_pb2.DeletionGround.ValueType = membership_pb2.DELETION_GROUND_WITHDRAWAL,
    ) -> None:
        items = [self.consents.pop((reference, dataset)) for reference in references]
        for item in items:
            item.consent.status = membership_pb2.CONSENT_STATUS_WITHDRAWN
            item.consent.end_time.CopyFrom(to_timestamp(now()))
        if announced:
            await self.publish(governance_events.ConsentWithdrawn(items=items, ground=ground))

    async def erase(self, reference: str, dataset: str) -> None:
        await self.withdraw([reference], dataset, ground=membership_pb2.DELETION_GROUND_ERASURE)
        await self.publish(governance_events.MemberErased(member=self.member(reference)))

    async def publish(self, event: Message) -> None:
        await publish(self.nats, event)


async def publish(nats: NatsClient, event: Message) -> None:
    """A CloudEvent as the outbox sends it."""
    name, id = event.DESCRIPTOR.full_name, new_id("evt")
    headers = {"Nats-Msg-Id": id, "ce-specversion": "1.0", "ce-id": id, "ce-source": "test", "ce-type": name}
    await nats.jetstream().publish(subject_of(name), event.SerializeToString(), headers=headers)


def make_chain(
    decided: SteeredGovernance,
    columns: list[str],
    dataset: str = "randhie",
    change: Callable[[broker.GrantChain], None] | None = None,
    mode: scope_pb2.AccessMode.ValueType = scope_pb2.ACCESS_MODE_DOWNLOAD,
    last_version: int = 0,
    ends_in: float = 86_400,
) -> broker.GrantChain:
    """A chain whose documents hold, not yet hashed and signed. `change` alters them."""
    own = decided.authority.name
    scope = scope_pb2.SharingScope(
        datasets=[
            scope_pb2.DatasetScope(
                dataset=f"{own}/datasets/{dataset}", first_version=1, last_version=last_version, columns=columns
            )
        ],
        categories=[scope_pb2.BUYER_CATEGORY_ACADEMIC],
        purposes=["AcademicResearch"],
        actions=[scope_pb2.USE_ACTION_ANALYZE],
        max_mode=mode,
        floor_price=money_pb2.Money(currency="EUR", amount_minor=0),
        territories=["WORLD"],
        max_duration_seconds=YEAR,
        max_exclusivity=scope_pb2.EXCLUSIVITY_NONE,
    )
    begun = now() - dt.timedelta(hours=1)
    rule = decided.authority.rule(scope, begun - dt.timedelta(days=1))
    offering = catalog_pb2.Offering(name=f"{own}/offerings/{new_id('off')}", scope=scope)
    offering.tiers.add(categories=scope.categories, price=scope.floor_price, sharing_rule=rule.name)
    license = f"licenses/{new_id('lic')}"
    terms = licensing_pb2.LicenseTerms(
        license=license,
        licensor=own,
        licensee="licensees/acme",
        category=scope_pb2.BUYER_CATEGORY_ACADEMIC,
        offering=offering.name,
        sharing_rule=rule.name,
        rule_revision=1,
        scope=scope,
        duration_seconds=YEAR,
        price=scope.floor_price,
        agree_time=to_timestamp(begun),
        emergency_suspension=True,
    )
    grant = broker.Grant(
        name=f"grants/{new_id('gra')}",
        license=license,
        holder="organizations/acme",
        gateway=f"gateways/{decided.authority.cooperative}",
        scope=scope,
        state=broker.GRANT_STATE_OPEN,
        open_time=to_timestamp(now()),
        end_time=to_timestamp(now() + dt.timedelta(seconds=ends_in)),
    )
    chain = broker.GrantChain(grant=grant, terms=terms, sharing_rule=rule, offering=offering)
    if change:
        change(chain)
    return chain


def seal_grant(chain: broker.GrantChain, key: SigningKey) -> None:
    chain.grant.grant_hash = hash_of_grant(chain.grant)
    chain.grant_signature.CopyFrom(sign_hash(key, GRANT_PREFIX, chain.grant.grant_hash))
