"""The chain through the real services: what the catalog and licensing say really holds before the broker, until somebody
changes it by hand. Governance speaks by signed events, and answers from what it told."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
import sqlalchemy as sa
from broker_market import Shelf, until
from catalog_world import Shop, offered, open_shop
from google.protobuf.message import Message
from house import Person, request_id
from sqlalchemy.ext.asyncio import create_async_engine

from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import access_broker_pb2_grpc
from rochdale.billing.v1 import billing_pb2
from rochdale.billing.v1 import events_pb2 as billing_events
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2, licensing_pb2_grpc
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import hash_of_offering, hash_of_rule
from rochdale_kit.clock import from_timestamp, new_id, now
from rochdale_kit.signing import canonical_hash
from rochdale_local.postgres import Postgres


class Town(Shop):
    """A shop with licensing, and with a broker that asks the real catalog and the real licensing."""

    shelf: Shelf

    async def tell(self, event: Message) -> None:
        """What governance tells it also answers when asked."""
        if isinstance(event, governance_events.CooperativeCreated):
            self.shelf.cooperatives[event.cooperative.name] = event.cooperative
        elif isinstance(event, governance_events.RuleEnacted | governance_events.RuleNarrowed):
            rule = event.sharing_rule
            self.shelf.rules[rule.name, rule.revision] = rule
            if rule.revision > 1:
                before = self.shelf.rules[rule.name, rule.revision - 1]
                ended = self.authorities[rule.name.split("/")[1]].ended(before, from_timestamp(rule.effective_time))
                self.shelf.rules[rule.name, rule.revision - 1] = ended
        await super().tell(event)

    async def change(self, package: str, statement: str, **values: object) -> None:
        """What an operator could do by hand in a service's database."""
        engine = create_async_engine(await self.house.database_url(package))
        async with engine.begin() as connection:
            assert (await connection.execute(sa.text(statement), values)).rowcount != 0
        await engine.dispose()

    async def prove(self, steward: Person) -> list[tuple[str, str]]:
        report = await self.broker.ProveGrants(pb.ProveGrantsRequest(), metadata=steward.metadata)
        return [(failure.license, failure.reason) for failure in report.failures]

    @property
    def broker(self) -> Any:
        return access_broker_pb2_grpc.AccessBrokerServiceStub(self.house.channel("access_broker"))

    @property
    def licensing(self) -> Any:
        return licensing_pb2_grpc.LicensingServiceStub(self.house.channel("licensing"))

    async def academic(self, id: str) -> Person:
        person = await self.house.buyer(id)
        academic = scope_pb2.BUYER_CATEGORY_ACADEMIC
        await self.licensing.RegisterLicensee(
            licensing_pb2.RegisterLicenseeRequest(
                request_id=request_id(), claimed_category=academic, evidence="A university.", territory="DE"
            ),
            metadata=person.metadata,
        )
        for operator in await self.house.operators():
            await self.licensing.AttestCategory(
                licensing_pb2.AttestCategoryRequest(request_id=request_id(), name=f"licensees/{id}", category=academic),
                metadata=operator.metadata,
            )
        return person

    async def agreed(self, person: Person, offering: catalog_pb2.Offering, revision: int) -> licensing_pb2.License:
        """A license at the listed price, once licensing has heard of the offering and of the rule's revision."""

        async def ask() -> licensing_pb2.License | None:
            request = licensing_pb2.RequestLicenseRequest(request_id=request_id(), offering=offering.name)
            try:
                negotiation = await self.licensing.RequestLicense(request, metadata=person.metadata)
            except grpc.aio.AioRpcError:
                return None
            name = licensing_pb2.GetLicenseRequest(name=negotiation.license)
            license: licensing_pb2.License = await self.licensing.GetLicense(name, metadata=person.metadata)
            return license if license.terms.rule_revision == revision else None

        license: licensing_pb2.License = await until(ask)
        return license

    async def pay(self, license: licensing_pb2.License) -> None:
        order = billing_pb2.Order(
            name=f"orders/{new_id('ord')}",
            license=license.name,
            amount=license.terms.price,
            terms_hash=license.terms_hash,
            state=billing_pb2.ORDER_STATE_PAID,
        )
        await self.tell(billing_events.OrderPaid(order=order))

    async def grant(self, license: str, state: int | None = None) -> pb.Grant:
        operator = await self.house.operator()

        async def look() -> pb.Grant | None:
            request = pb.ListGrantsRequest(license=license)
            grants = (await self.broker.ListGrants(request, metadata=operator.metadata)).grants
            return grants[0] if grants and state in (None, grants[0].state) else None

        grant: pb.Grant = await until(look)
        return grant


@pytest_asyncio.fixture(scope="module")
async def town(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async with open_shop(postgres, tmp_path_factory.mktemp("town"), Town) as town:
        house, town.shelf = town.house, Shelf()  # type: ignore[abstract] # grpc refuses what it leaves out
        await town.shelf.start()
        sealing_key = str(house.folder / "sealing.key")
        await house.start("licensing", sealing_key_file=sealing_key)
        await house.start(
            "access_broker",
            sealing_key_file=sealing_key,
            governance_address=town.shelf.address,
            catalog_address=house.services["catalog"].grpc_address,
            licensing_address=house.services["licensing"].grpc_address,
        )
        async with town.telling("billing", "licensing"):
            yield town
        await town.shelf.stop()


async def activated(town: Town, id: str) -> tuple[Person, Person, catalog_pb2.Offering, licensing_pb2.License]:
    """A cooperative and a licensee with an open grant."""
    steward, buyer = await town.steward(id), await town.academic(f"{id}-lab")
    await town.dataset(steward)
    offering = await town.publish(steward, await town.rule(steward))
    license = await town.agreed(buyer, offering, revision=1)
    await town.pay(license)
    assert (await town.grant(license.name)).state_reason == ""
    return steward, buyer, offering, license


def late(license: licensing_pb2.License, agree_time: int) -> licensing_pb2.License:
    """The same license under another name, agreed at another moment (nanoseconds), but for licensing's signature."""
    other = licensing_pb2.License()
    other.CopyFrom(license)
    other.name = other.terms.license = f"licenses/{new_id('lic')}"
    other.terms.agree_time.FromNanoseconds(agree_time)
    other.terms_hash = canonical_hash(other.terms)
    return other


async def test_what_the_real_services_agreed_holds_until_it_is_ended(town: Town) -> None:
    steward, buyer = await town.steward("hill"), await town.academic("uni")
    dataset = await town.dataset(steward)
    wide = [scope_pb2.DatasetScope(dataset=dataset, first_version=1, columns=["age", "mdvis", "site"])]
    rule = await town.rule(steward, datasets=wide)
    offering = await town.publish(steward, rule)

    first = await town.agreed(buyer, offering, revision=1)
    await town.pay(first)
    grant = await town.grant(first.name)
    assert (grant.state, grant.state_reason) == (pb.GRANT_STATE_OPEN, "")

    # Narrowed, but not so far that the offering would close: the next license cites revision 2 and an offering that was
    # published under revision 1, and holds as well.
    narrowed = await town.narrow(steward, rule, to=offered(steward.organization))
    second = await town.agreed(buyer, offering, revision=2)
    await town.pay(second)
    assert (await town.grant(second.name)).state == pb.GRANT_STATE_OPEN
    assert (await town.grant(first.name)).state == pb.GRANT_STATE_OPEN

    # Nobody but licensing says when a license was agreed.
    active = await town.licensing.GetLicense(licensing_pb2.GetLicenseRequest(name=first.name), metadata=buyer.metadata)
    backdated = late(active, narrowed.effective_time.ToNanoseconds() - 1_000)
    await town.tell(licensing_events.LicenseActivated(license=backdated))
    assert (await town.grant(backdated.name)).state_reason == "LICENSE_SIGNATURE_INVALID"
    assert await town.prove(steward) == []

    await town.licensing.TerminateLicense(
        licensing_pb2.TerminateLicenseRequest(request_id=request_id(), name=first.name, reason="It is over."),
        metadata=buyer.metadata,
    )
    assert (await town.grant(first.name, pb.GRANT_STATE_CLOSED)).state_reason == "LICENSE_TERMINATED"


async def test_an_emergency_suspends_and_its_end_resumes(town: Town) -> None:
    steward, _, _, license = await activated(town, "storm")
    first, authority = await town.grant(license.name), town.authorities["storm"]
    alarm = authority.rule(offered("storm"), now(), effect=governance_pb2.RULE_EFFECT_DENY, emergency=True)
    alarm.ClearField("signature")
    await town.enact(alarm)
    assert (await town.grant(license.name, pb.GRANT_STATE_SUSPENDED)).name == first.name

    await town.tell(governance_events.RuleNarrowed(sharing_rule=authority.ended(alarm, now())))
    second = await town.grant(license.name, pb.GRANT_STATE_OPEN)
    assert second.name != first.name
    assert from_timestamp(second.end_time) > from_timestamp(first.end_time)
    assert await town.prove(steward) == []
    # The board's own prohibition was never signed. The end of it was; taken away by hand, it forbids nothing from before.
    town.shelf.rules[alarm.name, 1].ClearField("end_signature")
    assert await town.prove(steward) == []


async def test_an_offering_changed_in_the_catalogs_database_is_found(town: Town) -> None:
    steward, _, offering, license = await activated(town, "cheap")
    offering.scope.datasets[0].columns.append("site")
    offering.offering_hash = hash_of_offering(offering)
    id = offering.name.rsplit("/", 1)[1]
    await town.change(
        "catalog", "UPDATE offering SET body = :body WHERE id = :id", body=offering.SerializeToString(), id=id
    )
    assert await town.prove(steward) == [(license.name, "OFFERING_HASH_MISMATCH")]
    assert (await town.grant(license.name)).state == pb.GRANT_STATE_CLOSED


async def test_a_rule_changed_at_governance_is_found(town: Town) -> None:
    steward, _, _, license = await activated(town, "loose")
    rule = town.shelf.rules[license.terms.sharing_rule, 1]
    rule.scope.datasets[0].columns.append("site")
    rule.rule_hash = hash_of_rule(rule)
    assert await town.prove(steward) == [(license.name, "RULE_HASH_MISMATCH")]


async def test_a_license_widened_in_licensings_database_opens_nothing(town: Town) -> None:
    steward, buyer = await town.steward("wide"), await town.academic("wide-lab")
    await town.dataset(steward)
    offering = await town.publish(steward, await town.rule(steward))
    license = await town.agreed(buyer, offering, revision=1)
    license.terms.scope.actions.append(scope_pb2.USE_ACTION_COMMERCIALIZE_MODEL)
    license.terms_hash = canonical_hash(license.terms)
    # A trigger is in the way of an accident, not of whoever owns the table.
    await town.change("licensing", "ALTER TABLE license DISABLE TRIGGER USER")
    await town.change(
        "licensing",
        "UPDATE license SET terms = :terms, terms_hash = :hash WHERE id = :id",
        terms=license.terms.SerializeToString(),
        hash=license.terms_hash,
        id=license.name.removeprefix("licenses/"),
    )
    await town.pay(license)
    grant = await town.grant(license.name)
    assert (grant.state, grant.state_reason) == (pb.GRANT_STATE_VOID, "LICENSE_SIGNATURE_INVALID")
