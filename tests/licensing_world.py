"""A market seen from licensing: two replicas of it, real events of its neighbors, and people who ask it for things."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from collections.abc import Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from authority import Authority
from google.protobuf.message import Message
from house import House, Person, request_id
from nats.aio.client import Client as NatsClient
from register_office import Office
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from licensing.config import Config
from licensing.main import build
from rochdale.billing.v1 import billing_pb2
from rochdale.billing.v1 import events_pb2 as billing_events
from rochdale.catalog.v1 import catalog_pb2
from rochdale.catalog.v1 import events_pb2 as catalog_events
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import events_pb2, licensing_pb2_grpc
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale.type.v1.pricing_pb2 import PricePlan
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.database import inbox_table, outbox_table, parked_table
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.server import Service

COMPANY, ACADEMIC = scope_pb2.BUYER_CATEGORY_COMPANY, scope_pb2.BUYER_CATEGORY_ACADEMIC
DAY = 24 * 3600


def euro(cents: int) -> Money:
    return Money(amount_minor=cents, currency="EUR")


def scope(cooperative: str, **changed: Any) -> scope_pb2.SharingScope:
    """What the members of these tests agreed to, unless changed."""
    fields: dict[str, Any] = {
        "datasets": [
            scope_pb2.DatasetScope(
                dataset=f"cooperatives/{cooperative}/datasets/visits",
                first_version=1,
                columns=["age", "visits", "site"],
            )
        ],
        "categories": [ACADEMIC, COMPANY, scope_pb2.BUYER_CATEGORY_SME],
        "purposes": ["ResearchAndDevelopment"],
        "actions": [scope_pb2.USE_ACTION_ANALYZE, scope_pb2.USE_ACTION_PRETRAIN],
        "max_mode": scope_pb2.ACCESS_MODE_DOWNLOAD,
        "floor_price": euro(0),
        "territories": ["DE", "FR"],
        "max_duration_seconds": 365 * DAY,
        "duties": [scope_pb2.DUTY_NO_REIDENTIFICATION],
    }
    return scope_pb2.SharingScope(**(fields | changed))


class Named(Protocol):
    """Anything with a resource name."""

    @property
    def name(self) -> str: ...


class Shelf:
    """One cooperative with one rule and one offering: free for academics, 1,200 euros for companies."""

    def __init__(self, world: World, cooperative: str, steward: Person) -> None:
        self._world = world
        self.cooperative = cooperative
        self.steward = steward
        self.authority = Authority(cooperative)
        self.rule = governance_pb2.SharingRule()
        self.offering = catalog_pb2.Offering()

    async def found(self, response_seconds: int = 0) -> None:
        """Tells of the cooperative and its key."""
        document = self.authority.document()
        document.charter.response_seconds = response_seconds
        await self._world.tell(governance_events.CooperativeCreated(cooperative=document))

    def new_rule(self, *, member_recall: bool = False, **changed: Any) -> governance_pb2.SharingRule:
        return self.authority.rule(scope(self.cooperative, **changed), now(), member_recall=member_recall)

    def next_rule(self, **changed: Any) -> governance_pb2.SharingRule:
        """The revision after this one, narrowed; both still to be told."""
        rule = governance_pb2.SharingRule()
        rule.CopyFrom(self.rule)
        rule.revision += 1
        rule.scope.CopyFrom(scope(self.cooperative, **changed))
        rule.effective_time.FromDatetime(now())
        return self.authority.signed_rule(rule)

    def new_denial(self, *, emergency: bool = False, **changed: Any) -> governance_pb2.SharingRule:
        """What members, or in an emergency the board, forbid."""
        at = now()
        return self.authority.rule(
            scope(self.cooperative, **changed),
            at,
            effect=governance_pb2.RULE_EFFECT_DENY,
            emergency=emergency,
            expire=at + dt.timedelta(days=30) if emergency else None,
        )

    def new_offering(
        self,
        tiers: Sequence[tuple[Sequence[Any], Money]] | None = None,
        plan: PricePlan | None = None,
        **changed: Any,
    ) -> catalog_pb2.Offering:
        """plan: how every price is due; None for once."""
        chosen = tiers or (((ACADEMIC,), euro(0)), ((COMPANY,), euro(120_000)))
        fields = {"max_duration_seconds": 30 * DAY} | changed
        offering = catalog_pb2.Offering(
            name=f"cooperatives/{self.cooperative}/offerings/{new_id('off')}",
            title="Visits",
            scope=scope(self.cooperative, **fields),
            tiers=[
                catalog_pb2.OfferingTier(
                    categories=categories, price=price, sharing_rule=self.rule.name, price_plan=plan
                )
                for categories, price in chosen
            ],
            rule_revisions=[self.rule.revision for _ in chosen],
            rule_hashes=[self.rule.rule_hash for _ in chosen],
            state=catalog_pb2.OFFERING_STATE_OPEN,
            publish_time=to_timestamp(now()),
        )
        return self.authority.signed_offering(offering)

    async def enact(self, **changed: Any) -> None:
        self.rule = self.new_rule(**changed)
        await self._world.tell(governance_events.RuleEnacted(sharing_rule=self.rule))

    async def narrow(self, **changed: Any) -> None:
        self.rule = self.next_rule(**changed)
        await self._world.tell(governance_events.RuleNarrowed(sharing_rule=self.rule))

    async def deny(self, **changed: Any) -> governance_pb2.SharingRule:
        denial = self.new_denial(**changed)
        await self._world.tell(governance_events.RuleEnacted(sharing_rule=denial))
        return denial

    async def end(self, rule: governance_pb2.SharingRule) -> None:
        """The cooperative ends a rule now."""
        await self._world.tell(governance_events.RuleNarrowed(sharing_rule=self.authority.ended(rule, now())))

    async def publish(
        self,
        tiers: Sequence[tuple[Sequence[Any], Money]] | None = None,
        plan: PricePlan | None = None,
        **changed: Any,
    ) -> catalog_pb2.Offering:
        self.offering = self.new_offering(tiers, plan, **changed)
        await self._world.tell(catalog_events.OfferingPublished(offering=self.offering))
        return self.offering

    def closed(self) -> catalog_pb2.Offering:
        offering = catalog_pb2.Offering()
        offering.CopyFrom(self.offering)
        offering.state = catalog_pb2.OFFERING_STATE_CLOSED
        offering.close_time.FromDatetime(now())
        offering.close_reason = "STEWARD"
        return offering


class World:
    """Licensing twice over one database, with its own nats-server, and a pen for its neighbors' events."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.replicas: list[Service] = []
        self.stubs: list[Any] = []
        self.engine: AsyncEngine
        self.office: Office
        self.nats = NatsClient()

    async def start(self, **settings: Any) -> None:
        identity = await self.house.start("identity")
        url = await self.house.database_url("licensing")
        for _ in range(2):
            config = Config(
                database_url=url,
                nats_url=self.house.nats.url(),
                identity_address=identity.grpc_address,
                sealing_key_file=str(self.house.folder / "sealing.key"),
                **settings,
            )
            replica = await build(config)
            await replica.start()
            await replica.healthy.wait()
            self.replicas.append(replica)
            self.house.services[f"licensing-{len(self.replicas)}"] = replica
            channel = self.house.channel(f"licensing-{len(self.replicas)}")
            self.stubs.append(licensing_pb2_grpc.LicensingServiceStub(channel))
        self.engine = create_async_engine(url)
        await self.nats.connect(self.house.nats.url())

    async def stop(self) -> None:
        await self.nats.close()
        await self.engine.dispose()
        await self.house.stop()

    @property
    def licensing(self) -> Any:
        """One of the replicas; which one must never matter."""
        return secrets.choice(self.stubs)

    async def tell(self, event: Message, event_id: str = "") -> str:
        """Says an event as its owner would and waits until licensing has heard. The reason, if it was put aside."""
        event_id = event_id or new_id("evt")
        await self.say(event, event_id)
        for _ in range(400):
            async with self.engine.connect() as connection:
                handled = await connection.execute(
                    sa.select(inbox_table.c.event_id).where(inbox_table.c.event_id == event_id)
                )
                parked = await connection.execute(
                    sa.select(parked_table.c.reason).where(parked_table.c.event_id == event_id)
                )
                if (reason := parked.scalar()) is not None:
                    return str(reason)
                if handled.first() is not None:
                    return ""
            await asyncio.sleep(0.02)
        raise AssertionError(f"{event.DESCRIPTOR.name} was not heard")

    async def say(self, event: Message, event_id: str, *, deduplicated: bool = True) -> None:
        """Puts an event on its owner's stream; deduplicated=False gets a repeat past the stream itself."""
        message_type = event.DESCRIPTOR.full_name
        service = message_type.split(".")[1]
        await ensure_stream(self.nats, service)
        headers = {
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-source": f"rochdale/{service}",
            "ce-type": message_type,
            "ce-time": "2026-01-01T00:00:00.000Z",
            "content-type": "application/protobuf",
        }
        if deduplicated:
            headers["Nats-Msg-Id"] = event_id
        await self.nats.jetstream().publish(subject_of(message_type), event.SerializeToString(), headers=headers)

    async def told(self, name: str) -> list[str]:
        """What licensing has announced about a license or a request outside the mandate, in order."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                sa.select(outbox_table.c.message_type, outbox_table.c.body).order_by(outbox_table.c.position)
            )
            names = []
            for row in rows:
                kind = row.message_type.rsplit(".", 1)[1]
                event = getattr(events_pb2, kind).FromString(row.body)
                if getattr(event, event.DESCRIPTOR.fields[0].name).name == name:
                    names.append(kind)
        return names

    async def shelf(self, *, rule: dict[str, Any] | None = None, **offering: Any) -> Shelf:
        """A new cooperative with a rule in force and an offering."""
        cooperative = f"coop-{secrets.token_hex(4)}"
        shelf = Shelf(self, cooperative, await self.house.steward(cooperative))
        await shelf.found()
        await shelf.enact(**(rule or {}))
        await shelf.publish(**offering)
        return shelf

    async def buyer(self, category: Any = COMPANY, territory: str = "DE", *, attested: bool = True) -> Person:
        """A new licensee."""
        person = await self.house.buyer(f"buyer-{secrets.token_hex(4)}")
        await self.claim(person, category, territory)
        if attested:
            await self.attest(person, category)
        return person

    async def claim(
        self, person: Person, category: Any, territory: str = "DE", evidence: str = "HRB 1844"
    ) -> pb.Licensee:
        licensee: pb.Licensee = await self.licensing.RegisterLicensee(
            pb.RegisterLicenseeRequest(
                request_id=request_id(), claimed_category=category, evidence=evidence, territory=territory
            ),
            metadata=person.metadata,
        )
        return licensee

    async def attest(self, person: Person, category: Any) -> pb.Licensee:
        """Two operators say the same."""
        licensee = pb.Licensee()
        for operator in await self.house.operators():
            licensee = await self.approve(operator, person, category)
        return licensee

    async def approve(self, operator: Person, person: Person, category: Any) -> pb.Licensee:
        """One operator attests."""
        licensee: pb.Licensee = await self.licensing.AttestCategory(
            pb.AttestCategoryRequest(
                request_id=request_id(), name=f"licensees/{person.organization}", category=category
            ),
            metadata=operator.metadata,
        )
        return licensee

    async def look_up(self, person: Person, register: Any, identifier: str, **fields: Any) -> pb.Licensee:
        """ClaimRegisterEntry."""
        request = pb.ClaimRegisterEntryRequest(
            **({"request_id": request_id(), "register": register, "identifier": identifier} | fields)
        )
        licensee: pb.Licensee = await self.licensing.ClaimRegisterEntry(request, metadata=person.metadata)
        return licensee

    async def ask_members(self, person: Person, offering: Named, **fields: Any) -> pb.MandateRequest:
        """RequestMandate."""
        given: dict[str, Any] = {"wish": pb.Wish(), "message": "For a study."} | fields
        request = pb.RequestMandateRequest(**({"request_id": request_id(), "offering": offering.name} | given))
        asked: pb.MandateRequest = await self.licensing.RequestMandate(request, metadata=person.metadata)
        return asked

    async def mandate_request(self, person: Person, name: str) -> pb.MandateRequest:
        found: pb.MandateRequest = await self.licensing.GetMandateRequest(
            pb.GetMandateRequestRequest(name=name), metadata=person.metadata
        )
        return found

    async def ask(self, person: Person, offering: Named, **fields: Any) -> pb.Negotiation:
        """RequestLicense."""
        request = pb.RequestLicenseRequest(**({"request_id": request_id(), "offering": offering.name} | fields))
        negotiation: pb.Negotiation = await self.licensing.RequestLicense(request, metadata=person.metadata)
        return negotiation

    async def quote(self, person: Person, offering: Named, **fields: Any) -> pb.Quote:
        request = pb.RequestQuoteRequest(**({"request_id": request_id(), "offering": offering.name} | fields))
        quote: pb.Quote = await self.licensing.RequestQuote(request, metadata=person.metadata)
        return quote

    async def counter(self, person: Person, negotiation: pb.Negotiation, **wish: Any) -> pb.Negotiation:
        request = pb.CounterRequest(
            request_id=request_id(), name=negotiation.name, etag=negotiation.etag, wish=pb.Wish(**wish), message="hm"
        )
        after: pb.Negotiation = await self.licensing.Counter(request, metadata=person.metadata)
        return after

    async def accept(self, person: Person, negotiation: pb.Negotiation) -> pb.Negotiation:
        request = pb.AcceptNegotiationRequest(request_id=request_id(), name=negotiation.name, etag=negotiation.etag)
        after: pb.Negotiation = await self.licensing.AcceptNegotiation(request, metadata=person.metadata)
        return after

    async def call_off(self, person: Person, negotiation: pb.Negotiation) -> pb.Negotiation:
        request = pb.TerminateNegotiationRequest(request_id=request_id(), name=negotiation.name, message="no")
        after: pb.Negotiation = await self.licensing.TerminateNegotiation(request, metadata=person.metadata)
        return after

    async def terminate(self, person: Person, license: str, **fields: Any) -> pb.License:
        request = pb.TerminateLicenseRequest(
            **({"request_id": request_id(), "name": license, "reason": "The study is over."} | fields)
        )
        after: pb.License = await self.licensing.TerminateLicense(request, metadata=person.metadata)
        return after

    async def negotiation(self, person: Person, name: str) -> pb.Negotiation:
        found: pb.Negotiation = await self.licensing.GetNegotiation(
            pb.GetNegotiationRequest(name=name), metadata=person.metadata
        )
        return found

    async def license(self, person: Person, name: str) -> pb.License:
        found: pb.License = await self.licensing.GetLicense(pb.GetLicenseRequest(name=name), metadata=person.metadata)
        return found

    def order(self, license: pb.License, **changed: Any) -> billing_pb2.Order:
        fields: dict[str, Any] = {
            "name": f"orders/{new_id('ord')}",
            "license": license.name,
            "amount": license.terms.price,
            "terms_hash": license.terms_hash,
            "state": billing_pb2.ORDER_STATE_PAID,
        }
        return billing_pb2.Order(**(fields | changed))

    async def pay(self, license: pb.License, **changed: Any) -> str:
        return await self.tell(billing_events.OrderPaid(order=self.order(license, **changed)))

    async def stand(self, license: pb.License, standing: Any, sequence: int, reason: str = "") -> str:
        """Billing tells how a license stands."""
        return await self.tell(
            billing_events.StandingChanged(license=license.name, standing=standing, reason=reason, sequence=sequence)
        )

    async def cancel_order(self, license: pb.License, **changed: Any) -> str:
        return await self.tell(billing_events.OrderCanceled(order=self.order(license, **changed)))

    async def age(self, table: str, name: str, column: str) -> None:
        """Lets a time in the database pass: the clock is everybody's, the row is ours."""
        statement = sa.text(f"UPDATE {table} SET {column} = :past WHERE id = :id")
        async with self.engine.begin() as connection:
            changed = await connection.execute(
                statement, {"past": now() - dt.timedelta(seconds=1), "id": name.rsplit("/", 1)[1]}
            )
            assert changed.rowcount == 1

    async def until_state(self, person: Person, name: str, state: int) -> Any:
        """The negotiation or license once it is in a state."""
        looks = {"licenses": self.license, "mandateRequests": self.mandate_request, "negotiations": self.negotiation}
        look: Any = looks[name.partition("/")[0]]
        for _ in range(200):
            found = await look(person, name)
            if found.state == state:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"{name} is in state {found.state}, not {state}")
