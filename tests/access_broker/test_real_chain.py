"""The chain through the real services: what governance, the catalog and licensing say really holds before the broker."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from broker_market import until
from catalog_world import Shop, offered, open_shop
from house import Person, request_id

from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import access_broker_pb2_grpc
from rochdale.billing.v1 import billing_pb2
from rochdale.billing.v1 import events_pb2 as billing_events
from rochdale.catalog.v1 import catalog_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2, licensing_pb2_grpc
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import new_id
from rochdale_kit.signing import canonical_hash
from rochdale_local.postgres import Postgres


class Town(Shop):
    """A shop with licensing, and with a broker that asks the real governance and the real catalog."""

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
        house = town.house
        await house.start("licensing")
        await house.start(
            "access_broker",
            sealing_key_file=str(house.folder / "sealing.key"),
            governance_address=house.services["governance"].grpc_address,
            catalog_address=house.services["catalog"].grpc_address,
        )
        async with town.telling("billing", "licensing"):
            yield town


def late(license: licensing_pb2.License, agree_time: int) -> licensing_pb2.License:
    """The same license under another name, agreed at another moment (nanoseconds), as licensing would have hashed it."""
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

    # Revision 1 ended at the very moment revision 2 began. A license on it agreed then, or later, is void.
    active = await town.licensing.GetLicense(licensing_pb2.GetLicenseRequest(name=first.name), metadata=buyer.metadata)
    moment = narrowed.effective_time.ToNanoseconds()
    in_time, too_late = late(active, moment - 1_000), late(active, moment)
    for license in (in_time, too_late):
        await town.tell(licensing_events.LicenseActivated(license=license))
    assert (await town.grant(too_late.name)).state_reason == "RULE_NOT_IN_FORCE"
    assert (await town.grant(in_time.name)).state == pb.GRANT_STATE_OPEN

    await town.licensing.TerminateLicense(
        licensing_pb2.TerminateLicenseRequest(request_id=request_id(), name=first.name, reason="It is over."),
        metadata=buyer.metadata,
    )
    assert (await town.grant(first.name, pb.GRANT_STATE_CLOSED)).state_reason == "LICENSE_TERMINATED"
