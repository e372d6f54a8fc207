"""A catalog with real identity beside it; governance and gateways speak by the events they publish, signed as they are."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import nats
import sqlalchemy as sa
from authority import Authority
from google.protobuf.message import Message
from house import House, Person, request_id
from sqlalchemy.ext.asyncio import create_async_engine

from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.catalog.v1 import catalog_pb2_grpc, events_pb2
from rochdale.data_gateway.v1 import events_pb2 as gateway_events
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money
from rochdale.type.v1.scope_pb2 import SharingScope
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.database import Database, create_kit_tables
from rochdale_kit.outbox import Publisher, announce
from rochdale_kit.server import connect_nats
from rochdale_kit.telemetry import Telemetry
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

T = TypeVar("T")
S = TypeVar("S", bound="Shop")

COLUMNS = ["age", "mdvis", "site"]


async def eventually(look: Callable[[], Awaitable[T | None]], seconds: float = 15) -> T:
    """What a look finds in the end; a look that finds nothing yet gives None or False."""
    ends = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < ends, "it never came"
        await asyncio.sleep(0.02)
    return found


class Shop:
    """The services, and what stewards and gateways do with them."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.catalog: Any = catalog_pb2_grpc.CatalogServiceStub(house.channel("catalog"))
        self.authorities: dict[str, Authority] = {}
        self.documents: dict[str, governance.Cooperative] = {}
        self._rules: dict[str, governance.SharingRule] = {}
        self._tellers: dict[str, Database] = {}

    async def tell(self, event: Message) -> None:
        """Sends an event as its owner would: through an outbox, as a CloudEvent on the owner's stream."""
        async with self._tellers[event.DESCRIPTOR.full_name.split(".")[1]].begin() as connection:
            await announce(connection, event)

    async def steward(self, id: str) -> Person:
        """The steward of a new cooperative with a key, which the catalog has heard of."""
        steward = await self.house.steward(id)
        self.authorities[id] = Authority(id)
        self.documents[id] = self.authorities[id].document()
        self.documents[id].display_name = f"The {id.title()} Cooperative"
        await self.tell(governance_events.CooperativeCreated(cooperative=self.documents[id]))
        await self.keyed(id, 1)
        return steward

    async def rotate(self, id: str, compromised: bool = False) -> None:
        """A new key, introduced by the one before; from here on it signs."""
        document, old = self.documents[id], self.authorities[id].key
        self.authorities[id] = Authority(id)
        new = introduce(document.name, self.authorities[id].key, now(), old, compromised)
        document.signing_keys.append(new)
        await self.tell(governance_events.CooperativeKeyAdded(cooperative=document))
        await self.keyed(id, len(document.signing_keys))

    async def keyed(self, id: str, count: int) -> None:
        """Until the catalog knows so many keys of a cooperative."""

        async def look() -> bool:
            rows = await self.query("SELECT signing_keys FROM cooperative WHERE id = :id", id=id)
            return any(len(governance.Cooperative.FromString(row.signing_keys).signing_keys) == count for row in rows)

        await eventually(look)

    async def dataset(self, steward: Person, id: str = "randhie", versions: int = 1, **wanted: Any) -> str:
        """A new dataset with published versions; its name."""
        request = dataset_request(steward.organization, id, **wanted)
        name: str = (await self.catalog.CreateDataset(request, metadata=steward.metadata)).name
        for number in range(1, versions + 1):
            await self.tell(prepared(name, number))
        await self.published(name, versions)
        return name

    async def published(self, dataset: str, number: int) -> None:
        async def look() -> bool:
            return bool((await self.catalog.GetDataset(pb.GetDatasetRequest(name=dataset))).latest_version == number)

        await eventually(look)

    async def rule(
        self,
        steward: Person,
        effect: governance.RuleEffect.ValueType = governance.RULE_EFFECT_ALLOW,
        life_seconds: float = 86_400.0,
        **terms: Any,
    ) -> governance.SharingRule:
        """A new rule in force that the catalog has heard of."""
        began, wide = now(), offered(steward.organization, **terms)
        expire = began + dt.timedelta(seconds=life_seconds)
        rule = self.authorities[steward.organization].rule(wide, began, effect=effect, expire=expire)
        await self.enact(rule)
        return await self.heard(rule)

    async def enact(self, rule: governance.SharingRule) -> None:
        """Tells of a rule as it is, whatever it is. The catalog may not have heard of it yet."""
        self._rules[rule.name] = rule
        await self.tell(governance_events.RuleEnacted(sharing_rule=rule))

    async def narrow(
        self, steward: Person, rule: governance.SharingRule, to: SharingScope | None = None
    ) -> governance.SharingRule:
        """The rule narrowed, or ended without a scope. The catalog may not have heard of it yet."""
        authority, at = self.authorities[steward.organization], now()
        if to is None:
            narrowed = authority.ended(rule, at)
        else:
            narrowed = governance.SharingRule()
            narrowed.CopyFrom(rule)
            narrowed.revision += 1
            narrowed.scope.CopyFrom(to)
            narrowed.effective_time.CopyFrom(to_timestamp(at))
            authority.signed_rule(narrowed)
        self._rules[rule.name] = narrowed
        await self.tell(governance_events.RuleNarrowed(sharing_rule=narrowed))
        return narrowed

    def signed(self, request: pb.PublishOfferingRequest) -> pb.PublishOfferingRequest:
        """The request as the cooperative's own program sends it: with the signature of what the catalog will publish."""
        whole = SharingScope()
        whole.CopyFrom(request.scope)
        whole.categories[:] = sorted(category for tier in request.tiers for category in tier.categories)
        if request.tiers:
            whole.floor_price.CopyFrom(
                min((tier.price for tier in request.tiers), key=lambda price: price.amount_minor)
            )
        offering = pb.Offering(
            name=f"{request.parent}/offerings/{request.offering_id}",
            scope=whole,
            tiers=request.tiers,
            rule_hashes=[
                self._rules[tier.sharing_rule].rule_hash for tier in request.tiers if tier.sharing_rule in self._rules
            ],
        )
        authority = self.authorities[request.parent.rsplit("/", 1)[1]]
        request.signature.CopyFrom(authority.signed_offering(offering).signature)
        return request

    async def heard(self, rule: governance.SharingRule) -> governance.SharingRule:
        """The rule, once the catalog knows it as it is."""

        async def look() -> bool:
            rows = await self.query("SELECT body FROM sharing_rule WHERE name = :name", name=rule.name)
            return [governance.SharingRule.FromString(row.body) for row in rows] == [rule]

        await eventually(look)
        return rule

    async def publish(self, steward: Person, rule: governance.SharingRule, **wanted: Any) -> pb.Offering:
        request = self.signed(offering_request(steward.organization, rule.name, **wanted))
        offering: pb.Offering = await self.catalog.PublishOffering(request, metadata=steward.metadata)
        return offering

    async def offering(self, name: str) -> pb.Offering:
        offering: pb.Offering = await self.catalog.GetOffering(pb.GetOfferingRequest(name=name))
        return offering

    async def closed(self, name: str) -> pb.Offering:
        """The offering, once it is closed."""

        async def look() -> pb.Offering | None:
            offering = await self.offering(name)
            return offering if offering.state == pb.OFFERING_STATE_CLOSED else None

        return await eventually(look)

    async def search(self, **wanted: Any) -> pb.SearchOfferingsResponse:
        found: pb.SearchOfferingsResponse = await self.catalog.SearchOfferings(pb.SearchOfferingsRequest(**wanted))
        return found

    async def found(self, count: int, **wanted: Any) -> pb.SearchOfferingsResponse:
        """What a search finds, once it finds so many."""

        async def look() -> pb.SearchOfferingsResponse | None:
            answer = await self.search(**wanted)
            return answer if answer.total_count == count else None

        return await eventually(look)

    async def told(self, about: str, count: int) -> list[Any]:
        """The first events on the catalog's stream that mention a name, decoded with nothing but the contracts."""
        client = await nats.connect(self.house.nats.url())
        subscription = await client.jetstream().subscribe(
            "rochdale.catalog.v1.>", stream="catalog", ordered_consumer=True
        )
        events: list[Any] = []
        try:
            while len(events) < count:
                message = await subscription.next_msg(timeout=10)
                assert message.headers is not None
                event = getattr(events_pb2, message.headers["ce-type"].rsplit(".", 1)[1]).FromString(message.data)
                if about in str(event):
                    events.append(event)
        finally:
            await client.close()
        return events

    async def query(self, statement: str, **values: object) -> list[Any]:
        """Rows of the catalog's own database."""
        engine = create_async_engine(await self.house.database_url("catalog"))
        try:
            async with engine.connect() as connection:
                return list((await connection.execute(sa.text(statement), values)).all())
        finally:
            await engine.dispose()

    @contextlib.asynccontextmanager
    async def telling(self, *owners: str) -> AsyncIterator[None]:
        """An outbox for each owner of events that has no service of its own here."""
        async with contextlib.AsyncExitStack() as stack:
            for owner in owners:
                name = f"teller_{owner}_{self.house.tag}"
                await self.house.postgres.ensure_database(name, name, "test")
                database = Database(self.house.postgres.dsn(name, name, "test"))
                async with database.begin() as connection:
                    await connection.run_sync(create_kit_tables)
                client = await connect_nats(self.house.nats.url(), owner)
                sending = asyncio.create_task(Publisher(owner, database, client, Telemetry(owner)).run())
                self._tellers[owner] = database
                stack.push_async_callback(database.close)
                stack.push_async_callback(client.close)
                stack.callback(sending.cancel)
            yield


@contextlib.asynccontextmanager
async def open_shop(postgres: Postgres, folder: Path, kind: type[S], **settings: Any) -> AsyncIterator[S]:
    """Everything running, on a nats-server of its own: nobody else's events are heard, nobody hears ours."""
    server = NatsServer(folder / "nats", durable=False)
    await server.start()
    house = House(postgres, server, folder)
    try:
        await house.start("identity")
        await house.start("catalog", **settings)
        shop = kind(house)
        async with shop.telling("data_gateway", "governance"):
            yield shop
    finally:
        await house.stop()
        await server.stop()


def dataset_request(cooperative: str, id: str = "randhie", **wanted: Any) -> pb.CreateDatasetRequest:
    values: dict[str, Any] = {
        "request_id": request_id(),
        "parent": f"cooperatives/{cooperative}",
        "dataset_id": id,
        "title": "Health insurance experiment",
        "description": "Visits to doctors, by person and year.",
        "modality": pb.MODALITY_TABULAR,
        "languages": ["en"],
    }
    return pb.CreateDatasetRequest(**(values | wanted))


def version(number: int, columns: list[str] = COLUMNS) -> pb.Version:
    return pb.Version(
        number=number,
        columns=[pb.Column(name=column, type="double") for column in columns],
        row_count=20_190,
        files=[pb.VersionFile(path="data/part-00000.parquet", sha256="0" * 64, size_bytes=10, row_count=20_190)],
    )


def prepared(dataset: str, number: int, columns: list[str] = COLUMNS) -> gateway_events.VersionPrepared:
    return gateway_events.VersionPrepared(dataset=dataset, version=version(number, columns))


def offered(cooperative: str, **terms: Any) -> scope.SharingScope:
    """A scope: by default two columns of the cooperative's randhie, for research, by two categories."""
    dataset = terms.pop("dataset", "randhie")
    values: dict[str, Any] = {
        "datasets": [
            scope.DatasetScope(
                dataset=f"cooperatives/{cooperative}/datasets/{dataset}", first_version=1, columns=["age", "mdvis"]
            )
        ],
        "categories": [scope.BUYER_CATEGORY_ACADEMIC, scope.BUYER_CATEGORY_SME],
        "purposes": ["ResearchAndDevelopment"],
        "actions": [scope.USE_ACTION_ANALYZE],
        "max_mode": scope.ACCESS_MODE_DOWNLOAD,
        "floor_price": Money(amount_minor=0, currency="EUR"),
        "territories": ["WORLD"],
        "max_duration_seconds": 365 * 86_400,
        "duties": [scope.DUTY_NO_REIDENTIFICATION],
    }
    return scope.SharingScope(**(values | terms))


def tier(rule: str, amount_minor: int, *categories: int, currency: str = "EUR") -> pb.OfferingTier:
    return pb.OfferingTier(
        categories=categories,  # type: ignore[arg-type] # the enum's ints
        price=Money(amount_minor=amount_minor, currency=currency),
        sharing_rule=rule,
    )


def offering_request(cooperative: str, rule: str, **wanted: Any) -> pb.PublishOfferingRequest:
    """Not signed yet. Free for academics, 90 euros for small companies; a wish about terms goes into the scope."""
    values: dict[str, Any] = {
        "request_id": request_id(),
        "parent": f"cooperatives/{cooperative}",
        "offering_id": new_id("off"),
        "title": "Visits and age",
        "description": "Two columns.",
        "tiers": [
            tier(rule, 0, scope.BUYER_CATEGORY_ACADEMIC),
            tier(rule, 9_000, scope.BUYER_CATEGORY_SME),
        ],
    }
    given = {
        name: wanted.pop(name) for name in list(wanted) if name in pb.PublishOfferingRequest.DESCRIPTOR.fields_by_name
    }
    return pb.PublishOfferingRequest(**(values | {"scope": offered(cooperative, **wanted)} | given))
