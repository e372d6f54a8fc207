"""A gateway with everything around it: real identity, PostgreSQL and NATS, and a broker and a governance a test can steer.

They are real gRPC servers that sign with the kit and answer only what a gateway asks; they can fall silent, lie about
chains and rules and lose events, which the real ones cannot be made to do. Licensing is there for its keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from authority import signed_license
from gateway_partners import SteeredBroker, SteeredGovernance, make_chain, seal_grant
from house import House, Person, request_id
from sqlalchemy.ext.asyncio import create_async_engine

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.data_gateway.v1 import data_gateway_pb2 as pb
from rochdale.data_gateway.v1 import data_gateway_pb2_grpc
from rochdale.identity.v1 import identity_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import new_id
from rochdale_kit.server import Service, connect_nats
from rochdale_kit.signing import SigningKey
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


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
