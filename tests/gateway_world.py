"""A gateway with everything around it: real identity, PostgreSQL and NATS, and a broker and a governance a test can steer.

They are real gRPC servers that sign with the kit and answer only what a gateway asks; they can fall silent, lie about
chains and rules and lose events, which the real ones cannot be made to do. Licensing is there for its keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import datetime as dt
import io
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import sqlalchemy as sa
from authority import Authority, signed_license
from google.protobuf.message import Message
from house import House, Person, request_id
from nats.aio.client import Client as NatsClient
from sqlalchemy.ext.asyncio import create_async_engine

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.access_broker.v1 import access_broker_pb2_grpc, events_pb2
from rochdale.catalog.v1 import catalog_pb2
from rochdale.data_gateway.v1 import data_gateway_pb2 as pb
from rochdale.data_gateway.v1 import data_gateway_pb2_grpc
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import governance_pb2, governance_pb2_grpc, membership_pb2, membership_pb2_grpc
from rochdale.identity.v1 import identity_pb2
from rochdale.licensing.v1 import licensing_pb2, licensing_pb2_grpc
from rochdale.type.v1 import money_pb2, scope_pb2
from rochdale_kit.chain import hash_of_grant
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.server import Service, connect_nats
from rochdale_kit.signing import GRANT_PREFIX, SigningKey, sign_hash
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

YEAR = 365 * 86_400


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


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


class World:
    """One cooperative, its gateway, a steward, and HTTP and gRPC to it."""

    def __init__(self, house: House, cooperative: str, folder: Path) -> None:
        self.house, self.cooperative, self.folder = house, cooperative, folder
        self.broker: SteeredBroker  # absent where a test brings the real one
        self.governance: SteeredGovernance
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.gateway: Service | None = None
        self.settings: dict[str, Any] = {}
        self.steward: Person
        self.stranger: Person
        self.http = httpx.AsyncClient(base_url=self.url, timeout=30)

    def dataset(self, id: str = "randhie") -> str:
        return f"cooperatives/{self.cooperative}/datasets/{id}"

    async def prepare(self, broker_address: str, governance_address: str, licensing_address: str) -> None:
        self.steward = await self.house.steward(self.cooperative)
        self.stranger = await self.house.steward(f"other-{self.house.tag}")
        gateway = await self.house.colleague(self.steward, identity_pb2.ROLE_GATEWAY)
        for name, content in (
            ("pseudonym", os.urandom(32)),
            ("url", os.urandom(32)),
            ("api", gateway.secret.encode()),
        ):
            path = self.folder / f"{name}.key"
            path.write_bytes(content)
            path.chmod(0o600)
        self.settings = {
            "cooperative": self.cooperative,
            "http_address": f"127.0.0.1:{self.port}",
            "public_url": self.url,
            "storage_directory": self.folder / "storage",
            "pseudonym_key_file": self.folder / "pseudonym.key",
            "url_key_file": self.folder / "url.key",
            "api_key_file": self.folder / "api.key",
            "broker_address": broker_address,
            "governance_address": governance_address,
            "licensing_address": licensing_address,
            "feed_silence_seconds": 2.0,
        }

    async def start(self) -> None:
        self.gateway = await self.house.start("data_gateway", **self.settings)

    async def stop(self) -> None:
        if self.gateway is not None:
            await self.gateway.stop()
            del self.house.services["data_gateway"]
            self.gateway = None

    @property
    def stewards(self) -> Any:
        return data_gateway_pb2_grpc.DataGatewayServiceStub(self.house.channel("data_gateway"))

    async def announce(self, size_bytes: int, **fields: Any) -> pb.Ingestion:
        fields.setdefault("dataset", self.dataset())
        request = pb.StartIngestionRequest(request_id=request_id(), size_bytes=size_bytes, **fields)
        reply: pb.Ingestion = await self.stewards.StartIngestion(request, metadata=self.steward.metadata)
        return reply

    async def put(
        self, ingestion: pb.Ingestion, content: Any, first: int = 0, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        sent = {**dict(self.steward.metadata), **(headers or {})}
        if first:
            sent["content-range"] = f"bytes {first}-{first + len(content) - 1}/{ingestion.size_bytes}"
        return await self.http.put(ingestion.upload_url, content=content, headers=sent)

    async def offset(self, ingestion: pb.Ingestion) -> int:
        answer = await self.http.head(ingestion.upload_url, headers=dict(self.steward.metadata))
        return int(answer.headers["upload-offset"])

    async def get(self, ingestion: pb.Ingestion) -> pb.Ingestion:
        request = pb.GetIngestionRequest(name=ingestion.name)
        reply: pb.Ingestion = await self.stewards.GetIngestion(request, metadata=self.steward.metadata)
        return reply

    async def settled(self, ingestion: pb.Ingestion) -> pb.Ingestion:
        """The ingestion when it is no longer uploading or processing."""
        async with asyncio.timeout(60):
            while True:
                found = await self.get(ingestion)
                if found.state not in (pb.INGESTION_STATE_UPLOADING, pb.INGESTION_STATE_PROCESSING):
                    return found
                await asyncio.sleep(0.05)

    async def approve(self, ingestion: pb.Ingestion, **fields: Any) -> pb.Ingestion:
        request = pb.ApproveVersionRequest(request_id=request_id(), name=ingestion.name, **fields)
        reply: pb.Ingestion = await self.stewards.ApproveVersion(request, metadata=self.steward.metadata)
        return reply

    async def add(self, content: bytes, dataset: str = "randhie", agreed: bool = True, **fields: Any) -> pb.Ingestion:
        """A version, uploaded, processed and approved. Whoever is in its member column has agreed, unless said."""
        ingestion = await self.announce(len(content), dataset=self.dataset(dataset), **fields)
        answer = await self.put(ingestion, content)
        assert answer.status_code == 200, answer.text
        done = await self.settled(ingestion)
        assert done.state == pb.INGESTION_STATE_AWAITING_APPROVAL, (done.failure_reason, done.failure_message)
        approved = await self.approve(ingestion)
        if agreed and (column := fields.get("member_column")):
            rows = csv.DictReader(io.StringIO(content.decode()))
            await self.agree(sorted({row[column] for row in rows}), dataset)
        return approved

    async def agree(self, references: Sequence[str], dataset: str = "randhie", **how: Any) -> None:
        """Consents, and the gateway knows them."""
        await self.governance.consent(references, dataset, **how)
        await self.heard(references, dataset)

    async def heard(self, references: Sequence[str], dataset: str = "randhie", given: bool = True) -> None:
        """Waits until the gateway knows that these members' consents stand, or do not."""
        engine = create_async_engine(await self.house.database_url("data_gateway"))
        names = [self.governance.member(reference) for reference in references]
        query = sa.text("SELECT count(*) FROM consent WHERE dataset = :dataset AND status = 1 AND member = ANY(:names)")
        try:
            async with asyncio.timeout(30), engine.connect() as connection:
                while True:
                    rows = await connection.execute(query, {"dataset": self.dataset(dataset), "names": names})
                    if rows.scalar_one() == (len(names) if given else 0):
                        return
                    await connection.rollback()
                    await asyncio.sleep(0.05)
        finally:
            await engine.dispose()

    def chain(self, columns: list[str], dataset: str = "randhie", **how: Any) -> broker.GrantChain:
        """A chain that holds."""
        chain = make_chain(self.governance, columns, dataset, **how)
        self.seal(chain)
        return chain

    def seal(self, chain: broker.GrantChain) -> None:
        """Computes every hash and signature anew."""
        rule, offering, terms = chain.sharing_rule, chain.offering, chain.terms
        authority = self.governance.authority
        authority.signed_rule(rule)
        offering.rule_hashes[:] = [rule.rule_hash]
        authority.signed_offering(offering)
        terms.rule_hash, terms.offering_hash = rule.rule_hash, offering.offering_hash
        license = signed_license(licensing_pb2.License(terms=terms), self.governance.licensing)
        chain.license_signature.CopyFrom(license.signature)
        chain.grant.terms_hash = license.terms_hash
        seal_grant(chain, self.broker.key)

    async def grant(self, columns: list[str], dataset: str = "randhie", **how: Any) -> broker.GrantChain:
        return await self.broker.open(self.chain(columns, dataset, **how))

    def token(
        self, chain: broker.GrantChain, key: SigningKey | None = None, ttl: int = 900, detail: Any = None, **claims: Any
    ) -> str:
        """A token as the broker makes it, but for what is changed; a value of ... leaves a name out."""
        part, issued = chain.grant.scope.datasets[0], int(time.time())
        details = {
            "type": "rochdale_dataset",
            "locations": [self.url],
            "license": chain.grant.license,
            "grant": chain.grant.name,
            "grant_hash": chain.grant.grant_hash,
            "dataset": part.dataset,
            "first_version": part.first_version,
            "last_version": part.last_version,
            "mode": scope_pb2.AccessMode.Name(chain.grant.scope.max_mode),
            "purposes": list(chain.grant.scope.purposes),
            "actions": [scope_pb2.UseAction.Name(action) for action in chain.grant.scope.actions],
            **(detail or {}),
        }
        content = {
            "iss": "rochdale-access-broker",
            "aud": f"gateways/{self.cooperative}",
            "sub": "organizations/acme",
            "client_id": "organizations/acme/apiKeys/key_1",
            "iat": issued,
            "exp": issued + ttl,
            "jti": new_id("tok"),
            "authorization_details": [{name: value for name, value in details.items() if value is not ...}],
            **claims,
        }
        kept = {name: value for name, value in content.items() if value is not ...}
        return (key or self.broker.key).sign_token("at+jwt", kept)

    async def files(self, chain: broker.GrantChain, token: str, **query: Any) -> httpx.Response:
        return await self.http.get(
            f"/v1/{chain.grant.license}/files", params=query, headers={"authorization": f"Bearer {token}"}
        )

    async def query(
        self, token: str, dataset: str = "randhie", body: Any = None, **headers: str
    ) -> tuple[int, list[Any], httpx.Headers]:
        path = f"/delta-sharing/shares/{self.cooperative}/schemas/data/tables/{dataset}/query"
        answer = await self.http.post(path, json=body or {}, headers={"authorization": f"Bearer {token}", **headers})
        return answer.status_code, [json.loads(line) for line in answer.text.splitlines()], answer.headers

    def profile(self, token: str) -> Path:
        path = self.folder / f"{new_id('x')}.share"
        path.write_text(
            json.dumps({"shareCredentialsVersion": 1, "endpoint": f"{self.url}/delta-sharing/", "bearerToken": token})
        )
        return path

    async def load(self, token: str, dataset: str = "randhie", **how: Any) -> Any:
        """The table through the unmodified client."""
        import delta_sharing

        table = f"{self.profile(token)}#{self.cooperative}.data.{dataset}"
        return await asyncio.to_thread(delta_sharing.load_as_pandas, table, **how)


@contextlib.asynccontextmanager
async def world(postgres: Postgres, folder: Path, **settings: Any) -> AsyncIterator[World]:
    """Everything, with a NATS of its own: other tests' gateways would hear its events."""
    (folder / "nats").mkdir()
    (folder / "house").mkdir()
    server = NatsServer(folder / "nats", durable=False)
    await server.start()
    house = House(postgres, server, folder / "house")
    nats = await connect_nats(server.url(), "test broker")
    try:
        await house.start("identity")
        cooperative = f"valley-{house.tag}"
        broker = SteeredBroker(nats, cooperative)  # type: ignore[abstract] # it answers only what gateways ask
        await broker.start()
        governance = SteeredGovernance(nats, cooperative)  # type: ignore[abstract] # as the broker
        await governance.start()
        made = World(house, cooperative, folder)
        made.broker, made.governance = broker, governance
        try:
            await made.prepare(broker.address, governance.address, governance.address)
            made.settings |= settings
            await made.start()
            yield made
        finally:
            await made.http.aclose()
            await house.stop()
            await broker.stop()
            await governance.stop()
    finally:
        await nats.close()
        await server.stop()
