"""What the broker's tests live in: real broker, identity and nats-server, and a server that answers as governance,
catalog and licensing would. Licensing's events are published as its outbox would publish them."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import nats
from authority import Authority, signed_license
from google.protobuf.message import Message
from house import House, Person, request_id
from nats.aio.client import Client as NatsClient

from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import access_broker_pb2_grpc, events_pb2
from rochdale.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from rochdale.governance.v1 import governance_pb2, governance_pb2_grpc
from rochdale.identity.v1 import identity_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2, licensing_pb2_grpc
from rochdale.type.v1 import money_pb2, scope_pb2
from rochdale_kit.clock import from_timestamp, new_id, now, to_timestamp
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.refusals import not_found, unavailable
from rochdale_kit.signing import SigningKey

E = TypeVar("E", bound=Message)

DAY = 86_400
YEAR = 365 * DAY


class Desk(licensing_pb2_grpc.LicensingServiceServicer):
    """Answers GetKeySet as licensing would."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.down = False

    async def GetKeySet(self, request: Any, context: Any) -> licensing_pb2.KeySet:
        if self.down:
            await context.abort_with_status(unavailable("The desk").status())
        return licensing_pb2.KeySet(jwks_json=json.dumps({"keys": [self.key.public_jwk()]}))


class Shelf(governance_pb2_grpc.GovernanceServiceServicer, catalog_pb2_grpc.CatalogServiceServicer):
    """Answers over loopback with the cooperatives, rules and offerings a test put there; other calls are unknown."""

    def __init__(self) -> None:
        self.cooperatives: dict[str, governance_pb2.Cooperative] = {}
        self.desk = Desk()  # type: ignore[abstract] # the calls it leaves out are refused by grpc itself
        self.rules: dict[tuple[str, int], governance_pb2.SharingRule] = {}
        self.offerings: dict[str, catalog_pb2.Offering] = {}
        self.down = False
        self.asked = 0
        self.address = ""

    async def start(self) -> None:
        self._server = grpc.aio.server()
        governance_pb2_grpc.add_GovernanceServiceServicer_to_server(self, self._server)
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(self, self._server)
        licensing_pb2_grpc.add_LicensingServiceServicer_to_server(self.desk, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def GetSharingRule(self, request: Any, context: Any) -> governance_pb2.SharingRule:
        found: governance_pb2.SharingRule = await self._answer(
            context, self.rules.get((request.name, request.revision)), request.name
        )
        return found

    async def GetCooperative(self, request: Any, context: Any) -> governance_pb2.Cooperative:
        found: governance_pb2.Cooperative = await self._answer(
            context, self.cooperatives.get(request.name), request.name
        )
        return found

    async def ListSharingRules(self, request: Any, context: Any) -> governance_pb2.ListSharingRulesResponse:
        """One rule a page, so that nobody gets away with reading the first."""
        rules = [rule for rule in self.rules.values() if rule.name.startswith(f"{request.parent}/")]
        first = int(request.page_token or 0)
        page = governance_pb2.ListSharingRulesResponse(
            sharing_rules=rules[first : first + 1],
            next_page_token=str(first + 1) if first + 1 < len(rules) else "",
        )
        found: governance_pb2.ListSharingRulesResponse = await self._answer(context, page, request.parent)
        return found

    async def GetOffering(self, request: Any, context: Any) -> catalog_pb2.Offering:
        found: catalog_pb2.Offering = await self._answer(context, self.offerings.get(request.name), request.name)
        return found

    async def _answer(self, context: Any, found: Any, name: str) -> Any:
        self.asked += 1
        if self.down:
            await context.abort_with_status(unavailable("The shelf").status())
        if found is None:
            await context.abort_with_status(not_found(name).status())
        return found


def scope(*datasets: str, **changes: Any) -> scope_pb2.SharingScope:
    """A plain scope over datasets with columns age, region, visits and versions from 1."""
    said: dict[str, Any] = {
        "datasets": [
            scope_pb2.DatasetScope(dataset=name, first_version=1, columns=["age", "region", "visits"])
            for name in datasets
        ],
        "categories": [scope_pb2.BUYER_CATEGORY_ACADEMIC, scope_pb2.BUYER_CATEGORY_COMPANY],
        "purposes": ["ResearchAndDevelopment"],
        "actions": [scope_pb2.USE_ACTION_ANALYZE, scope_pb2.USE_ACTION_PRETRAIN],
        "max_mode": scope_pb2.ACCESS_MODE_DOWNLOAD,
        "floor_price": money_pb2.Money(amount_minor=1_000, currency="EUR"),
        "territories": ["WORLD"],
        "max_duration_seconds": YEAR,
        "max_exclusivity": scope_pb2.EXCLUSIVITY_NONE,
        "duties": [scope_pb2.DUTY_NO_REIDENTIFICATION],
    }
    return scope_pb2.SharingScope(**(said | changes))


@dataclass
class Deal:
    """A license with the rule and offering it stands on. A test bends one of them, then seals what should be sealed."""

    rule: governance_pb2.SharingRule
    offering: catalog_pb2.Offering
    license: licensing_pb2.License
    authority: Authority
    licensing: SigningKey

    @property
    def terms(self) -> licensing_pb2.LicenseTerms:
        return self.license.terms

    def seal(self) -> Deal:
        """Makes every hash and signature true again, from the rule to the license."""
        self.authority.signed_rule(self.rule)
        self.terms.rule_hash = self.rule.rule_hash
        self.offering.rule_hashes[:] = [self.rule.rule_hash]
        self.authority.signed_offering(self.offering)
        self.terms.offering_hash = self.offering.offering_hash
        return self.seal_license()

    def seal_license(self) -> Deal:
        """The license's own hash and signature alone."""
        signed_license(self.license, self.licensing)
        return self


@dataclass
class Site:
    """A cooperative with its people and datasets."""

    id: str
    steward: Person
    gateway: Person
    authority: Authority

    def dataset(self, name: str = "claims") -> str:
        return f"cooperatives/{self.id}/datasets/{name}"


@dataclass
class Market:
    house: House
    shelf: Shelf
    nats: NatsClient
    heard: list[Message] = field(default_factory=list)

    @classmethod
    async def open(cls, house: House) -> Market:
        shelf = Shelf()  # type: ignore[abstract] # the calls it leaves out are refused by grpc itself
        await shelf.start()
        await house.start("identity")
        client = await nats.connect(house.nats.url())
        await ensure_stream(client, "licensing")
        market = cls(house, shelf, client)
        await house.start("access_broker", **market.broker_settings())
        await client.subscribe("rochdale.access_broker.v1.*", cb=market._hear)
        return market

    def broker_settings(self) -> dict[str, Any]:
        return {
            "sealing_key_file": str(Path(self.house.folder) / "sealing.key"),
            "governance_address": self.shelf.address,
            "catalog_address": self.shelf.address,
            "licensing_address": self.shelf.address,
        }

    async def close(self) -> None:
        await self.nats.close()
        await self.house.stop()
        await self.shelf.stop()

    async def _hear(self, message: Any) -> None:
        name = message.headers["ce-type"].rsplit(".", 1)[1]
        self.heard.append(getattr(events_pb2, name).FromString(message.data))

    @property
    def broker(self) -> Any:
        return access_broker_pb2_grpc.AccessBrokerServiceStub(self.house.channel("access_broker"))

    async def site(self, name: str, registered: bool = True) -> Site:
        """A new cooperative whose gateway has said where it is."""
        id = f"{name}-{self.house.tag}"
        steward = await self.house.steward(id)
        gateway = await self.house.colleague(steward, identity_pb2.ROLE_GATEWAY)
        if registered:
            await self.broker.RegisterGateway(
                pb.RegisterGatewayRequest(public_url=f"http://{id}.example", control_address="127.0.0.1:1"),
                metadata=gateway.metadata,
            )
        authority = Authority(id)
        self.shelf.cooperatives[authority.name] = authority.document()
        return Site(id, steward, gateway, authority)

    def deal(self, site: Site, holder: Person, *datasets: str, **changes: Any) -> Deal:
        """A license that holds: agreed an hour ago, active since a minute, over in a month."""
        names = [site.dataset(name) for name in datasets or ("claims",)]
        at = int(time.time())
        cooperative = f"cooperatives/{site.id}"
        rule = site.authority.rule(scope(*names, **changes), dt.datetime.fromtimestamp(at - 10 * DAY, dt.UTC))
        price = money_pb2.Money(amount_minor=5_000, currency="EUR")
        offering = catalog_pb2.Offering(
            name=f"{cooperative}/offerings/{new_id('off')}",
            title="Claims",
            scope=scope(*names, **({"floor_price": price} | changes)),
            tiers=[
                catalog_pb2.OfferingTier(
                    categories=[scope_pb2.BUYER_CATEGORY_ACADEMIC, scope_pb2.BUYER_CATEGORY_COMPANY],
                    price=price,
                    sharing_rule=rule.name,
                )
            ],
            rule_revisions=[1],
            state=catalog_pb2.OFFERING_STATE_OPEN,
        )
        name = f"licenses/{new_id('lic')}"
        license = licensing_pb2.License(name=name, state=licensing_pb2.LICENSE_STATE_ACTIVE)
        license.activate_time.seconds = at - 60
        license.end_time.seconds = at - 60 + 30 * DAY
        said: dict[str, Any] = {"categories": [scope_pb2.BUYER_CATEGORY_COMPANY], "floor_price": price}
        license.terms.CopyFrom(
            licensing_pb2.LicenseTerms(
                license=name,
                licensor=cooperative,
                licensee=f"licensees/{holder.organization}",
                category=scope_pb2.BUYER_CATEGORY_COMPANY,
                offering=offering.name,
                sharing_rule=rule.name,
                rule_revision=1,
                scope=scope(*names, **(said | changes)),
                duration_seconds=30 * DAY,
                price=price,
                emergency_suspension=True,
            )
        )
        license.terms.agree_time.seconds = at - 3_600
        return Deal(rule, offering, license, site.authority, self.shelf.desk.key).seal()

    def shelve(self, deal: Deal) -> None:
        self.shelf.rules[deal.rule.name, deal.rule.revision] = deal.rule
        self.shelf.offerings[deal.offering.name] = deal.offering

    def deny(self, site: Site, deal: Deal, **said: Any) -> governance_pb2.SharingRule:
        """A prohibition, on the shelf, that was in force a day before a deal and meets it."""
        began = from_timestamp(deal.terms.agree_time) - dt.timedelta(days=1)
        rule = site.authority.rule(deal.terms.scope, began, effect=governance_pb2.RULE_EFFECT_DENY, **said)
        self.shelf.rules[rule.name, rule.revision] = rule
        return rule

    async def tell(self, event: Message) -> None:
        """As licensing's outbox would: a CloudEvent on its stream."""
        id, message_type = new_id("evt"), event.DESCRIPTOR.full_name
        await self.nats.jetstream().publish(
            subject_of(message_type),
            event.SerializeToString(),
            headers={
                "Nats-Msg-Id": id,
                "ce-specversion": "1.0",
                "ce-id": id,
                "ce-source": "rochdale/licensing",
                "ce-type": message_type,
                "ce-time": now().isoformat(),
                "content-type": "application/protobuf",
            },
        )

    async def activate(self, deal: Deal) -> pb.Grant:
        """Shelves a deal, tells of its activation, and waits for the grant, void or open."""
        self.shelve(deal)
        await self.tell(licensing_events.LicenseActivated(license=deal.license))
        return await self.grant_of(deal)

    async def grants_of(self, deal: Deal) -> list[pb.Grant]:
        operator = await self.house.operator()
        reply = await self.broker.ListGrants(
            pb.ListGrantsRequest(license=deal.license.name), metadata=operator.metadata
        )
        return list(reply.grants)

    async def grant_of(self, deal: Deal, state: int | None = None) -> pb.Grant:
        async def found() -> pb.Grant | None:
            grants = await self.grants_of(deal)
            assert len([grant for grant in grants if grant.state != pb.GRANT_STATE_CLOSED]) <= 1
            return grants[0] if grants and state in (None, grants[0].state) else None

        grant: pb.Grant = await until(found)
        return grant

    async def terminate(self, deal: Deal) -> pb.Grant:
        await self.tell(licensing_events.LicenseTerminated(license=self.ended(deal)))
        return await self.grant_of(deal, pb.GRANT_STATE_CLOSED)

    def suspended(self, deal: Deal, at: dt.datetime | None = None) -> licensing_events.LicenseSuspended:
        """As licensing tells it; the deal's license is then suspended."""
        deal.license.state = licensing_pb2.LICENSE_STATE_SUSPENDED
        deal.license.suspend_time.CopyFrom(to_timestamp(at or now()))
        return licensing_events.LicenseSuspended(license=deal.license)

    def resumed(self, deal: Deal) -> licensing_events.LicenseResumed:
        """As licensing tells it: the term longer by as long as it was suspended."""
        deal.license.state = licensing_pb2.LICENSE_STATE_ACTIVE
        longer = now() - from_timestamp(deal.license.suspend_time)
        deal.license.end_time.CopyFrom(to_timestamp(from_timestamp(deal.license.end_time) + longer))
        deal.license.ClearField("suspend_time")
        return licensing_events.LicenseResumed(license=deal.license)

    async def resumed_grant(self, deal: Deal, before: pb.Grant) -> pb.Grant:
        """The grant that came after another."""

        async def found() -> pb.Grant | None:
            latest = (await self.grants_of(deal))[0]
            return latest if latest.name != before.name else None

        grant: pb.Grant = await until(found)
        return grant

    @staticmethod
    def ended(deal: Deal) -> licensing_pb2.License:
        license = licensing_pb2.License()
        license.CopyFrom(deal.license)
        license.state = licensing_pb2.LICENSE_STATE_TERMINATED
        license.end_time.CopyFrom(to_timestamp(now()))
        return license

    async def issue(self, person: Person, deal: Deal, **asked: Any) -> pb.IssuedToken:
        asked.setdefault("request_id", request_id())
        issued: pb.IssuedToken = await self.broker.IssueToken(
            pb.IssueTokenRequest(license=deal.license.name, **asked), metadata=person.metadata
        )
        return issued

    async def feed(self, site: Site, after: int = 0) -> pb.ListRevocationsResponse:
        reply: pb.ListRevocationsResponse = await self.broker.ListRevocations(
            pb.ListRevocationsRequest(after_sequence=after), metadata=site.gateway.metadata
        )
        return reply

    def told(self, kind: type[E]) -> list[E]:
        """The broker's own events of one kind, as heard so far."""
        return [event for event in self.heard if isinstance(event, kind)]


async def until(look: Callable[[], Awaitable[Any]], seconds: float = 10) -> Any:
    """The first true thing `look` finds, looked for often."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := await look():
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"not seen within {seconds} s")


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, without checking who says so."""
    body = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims
