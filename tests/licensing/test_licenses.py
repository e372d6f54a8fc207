"""Licenses after the signature: paid, ended, expired, looked at, and never rewritten."""

import asyncio

import nats.js.api
import pytest
import sqlalchemy as sa
from house import Person, refused, request_id
from licensing_world import DAY, Shelf, World, euro
from sqlalchemy.exc import IntegrityError

from rochdale.billing.v1 import events_pb2 as billing_events
from rochdale.licensing.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import from_timestamp, new_id

ACTIVE, ENDED, EXPIRED = pb.LICENSE_STATE_ACTIVE, pb.LICENSE_STATE_TERMINATED, pb.LICENSE_STATE_EXPIRED


async def signed(world: World) -> tuple[Shelf, Person, pb.License]:
    shelf, buyer = await world.shelf(), await world.buyer()
    negotiation = await world.ask(buyer, shelf.offering)
    return shelf, buyer, await world.license(buyer, negotiation.license)


async def test_a_paid_license_is_in_force_for_as_long_as_agreed(world: World) -> None:
    _, buyer, license = await signed(world)
    assert await world.pay(license) == ""
    active = await world.license(buyer, license.name)
    assert active.state == ACTIVE and active.terms == license.terms and active.terms_hash == license.terms_hash
    lasts = from_timestamp(active.end_time) - from_timestamp(active.activate_time)
    assert lasts.total_seconds() == license.terms.duration_seconds == 30 * DAY
    negotiation = await world.negotiation(buyer, license.negotiation)
    assert [(step.party, step.state) for step in negotiation.steps[-2:]] == [
        (pb.PARTY_MARKET, pb.NEGOTIATION_STATE_VERIFIED),
        (pb.PARTY_MARKET, pb.NEGOTIATION_STATE_FINALIZED),
    ]
    assert not negotiation.HasField("expire_time")
    assert await world.told(license.name) == ["LicenseAgreed", "LicenseActivated"]


async def test_a_payment_heard_twice_or_from_two_orders_counts_once(world: World) -> None:
    _, buyer, license = await signed(world)
    paid, event_id = billing_events.OrderPaid(order=world.order(license)), new_id("evt")
    await world.tell(paid, event_id)
    first = await world.license(buyer, license.name)
    await world.say(paid, event_id, deduplicated=False)
    await world.tell(paid)
    assert await world.license(buyer, license.name) == first
    assert await world.told(license.name) == ["LicenseAgreed", "LicenseActivated"]


async def test_an_unpaid_order_ends_the_license_and_its_negotiation(world: World) -> None:
    _, buyer, license = await signed(world)
    assert await world.cancel_order(license) == ""
    over = await world.license(buyer, license.name)
    assert over.state == ENDED and over.end_reason == "The order was closed unpaid."
    assert (await world.negotiation(buyer, license.negotiation)).state == pb.NEGOTIATION_STATE_TERMINATED
    # Paid after all, too late: what has ended stays ended.
    assert await world.pay(license) == ""
    assert await world.license(buyer, license.name) == over
    assert await world.told(license.name) == ["LicenseAgreed", "LicenseTerminated"]


async def test_a_cancellation_after_the_payment_changes_nothing(world: World) -> None:
    _, buyer, license = await signed(world)
    await world.pay(license)
    await world.cancel_order(license)
    assert (await world.license(buyer, license.name)).state == ACTIVE


async def test_payment_and_cancellation_at_once_leave_one_outcome(world: World) -> None:
    for _ in range(3):
        _, buyer, license = await signed(world)
        await asyncio.gather(world.pay(license), world.cancel_order(license))
        told = await world.told(license.name)
        state = (await world.license(buyer, license.name)).state
        expected = "LicenseActivated" if state == ACTIVE else "LicenseTerminated"
        assert told == ["LicenseAgreed", expected]


async def test_an_order_that_bills_something_else_is_kept_for_an_operator(world: World) -> None:
    _, buyer, license = await signed(world)
    assert await world.pay(license, terms_hash="0" * 64) == "ORDER_MISMATCH"
    assert await world.pay(license, amount=euro(1)) == "ORDER_MISMATCH"
    unknown = world.order(license)
    unknown.license = f"licenses/{new_id('lic')}"
    assert await world.tell(billing_events.OrderPaid(order=unknown)) == "LICENSE_UNKNOWN"
    assert (await world.license(buyer, license.name)).state == pb.LICENSE_STATE_AGREED


@pytest.mark.parametrize("who", ["buyer", "steward", "operator"])
async def test_either_side_or_an_operator_ends_it_early(world: World, who: str) -> None:
    shelf, buyer, license = await signed(world)
    await world.pay(license)
    person = {"buyer": buyer, "steward": shelf.steward, "operator": await world.house.operator()}[who]
    id = request_id()
    over = await world.terminate(person, license.name, request_id=id)
    assert over.state == ENDED and over.end_reason == "The study is over."
    assert await world.terminate(person, license.name, request_id=id) == over
    async with refused("LICENSE_OVER", license=license.name):
        await world.terminate(person, license.name)
    async with refused("REQUEST_ID_REUSED"):
        await world.terminate(person, license.name, request_id=id, reason="Another.")
    # The negotiation did lead to an active license, and goes on saying so.
    assert (await world.negotiation(buyer, license.negotiation)).state == pb.NEGOTIATION_STATE_FINALIZED
    assert await world.told(license.name) == ["LicenseAgreed", "LicenseActivated", "LicenseTerminated"]


async def test_ended_before_it_was_paid_it_takes_its_negotiation_along(world: World) -> None:
    shelf, buyer, license = await signed(world)
    await world.terminate(shelf.steward, license.name)
    negotiation = await world.negotiation(buyer, license.negotiation)
    assert negotiation.state == pb.NEGOTIATION_STATE_TERMINATED and negotiation.license == license.name
    assert negotiation.steps[-1].party == pb.PARTY_COOPERATIVE


async def test_somebody_elses_license_does_not_exist(world: World) -> None:
    _, _, license = await signed(world)
    stranger, elsewhere = await world.buyer(), await world.shelf()
    for nosy in (stranger, elsewhere.steward):
        async with refused("NOT_FOUND", name=license.name):
            await world.license(nosy, license.name)
        async with refused("NOT_FOUND", name=license.name):
            await world.terminate(nosy, license.name)
        listed = await world.licensing.ListLicenses(pb.ListLicensesRequest(), metadata=nosy.metadata)
        assert license.name not in [one.name for one in listed.licenses]


async def test_licenses_come_newest_first_in_pages_and_by_state(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    names = [(await world.ask(buyer, shelf.offering)).license for _ in range(5)]
    await world.terminate(buyer, names[1])
    seen, token = [], ""
    while True:
        page = await world.licensing.ListLicenses(
            pb.ListLicensesRequest(page_size=3, page_token=token, state=pb.LICENSE_STATE_AGREED),
            metadata=shelf.steward.metadata,
        )
        seen += [license.name for license in page.licenses]
        token = page.next_page_token
        if not token:
            break
    assert seen == [names[number] for number in (4, 3, 2, 0)]
    async with refused("PAGE_TOKEN_INVALID"):
        await world.licensing.ListLicenses(pb.ListLicensesRequest(page_token="bm8"), metadata=buyer.metadata)


async def test_at_its_end_a_license_expires_by_itself_and_once(world: World) -> None:
    _, buyer, license = await signed(world)
    await world.pay(license)
    await world.age("license", license.name, "end_time")
    over = await world.until_state(buyer, license.name, EXPIRED)
    assert not over.end_reason and over.HasField("end_time")
    async with refused("LICENSE_OVER"):
        await world.terminate(buyer, license.name)
    # Both replicas have looked again by now.
    await asyncio.sleep(1.2)
    assert await world.told(license.name) == ["LicenseAgreed", "LicenseActivated", "LicenseTerminated"]


async def test_a_license_nobody_pays_ends_by_itself(world: World) -> None:
    _, buyer, license = await signed(world)
    await world.age("license", license.name, "pay_by_time")
    over = await world.until_state(buyer, license.name, ENDED)
    assert over.end_reason == "The license was not paid in time."
    assert (await world.negotiation(buyer, license.negotiation)).state == pb.NEGOTIATION_STATE_TERMINATED


async def test_many_ends_at_once_are_all_told_once(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    names = [(await world.ask(buyer, shelf.offering)).license for _ in range(30)]
    async with world.engine.begin() as connection:
        await connection.execute(
            sa.text("UPDATE license SET pay_by_time = now() - interval '1 second' WHERE offering = :offering"),
            {"offering": shelf.offering.name},
        )
    for name in names:
        await world.until_state(buyer, name, ENDED)
        assert await world.told(name) == ["LicenseAgreed", "LicenseTerminated"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE license SET terms = 'x' WHERE id = :id",
        "UPDATE license SET terms_hash = 'x' WHERE id = :id",
        "UPDATE license SET licensee = (SELECT max(id) FROM licensee WHERE id <> :mine) WHERE id = :id",
        "DELETE FROM license WHERE id = :id",
        "UPDATE negotiation_step SET number = 99 WHERE negotiation = (SELECT negotiation FROM license WHERE id = :id)",
        "DELETE FROM negotiation_step WHERE negotiation = (SELECT negotiation FROM license WHERE id = :id)",
        "TRUNCATE license",
        "TRUNCATE negotiation_step",
        "UPDATE negotiation SET state = 2 WHERE id = (SELECT negotiation FROM license WHERE id = :id)",
        "UPDATE negotiation SET license = '' WHERE id = (SELECT negotiation FROM license WHERE id = :id)",
    ],
)
async def test_not_even_we_can_rewrite_what_was_agreed(world: World, statement: str) -> None:
    _, buyer, license = await signed(world)
    await world.buyer()
    known = {"id": license.name.removeprefix("licenses/"), "mine": buyer.organization}
    async with world.engine.connect() as connection:
        with pytest.raises(IntegrityError):
            await connection.execute(
                sa.text(statement), {name: known[name] for name in known if f":{name}" in statement}
            )
    assert await world.license(buyer, license.name) == license


async def test_its_events_are_cloud_events_anybody_can_read(world: World) -> None:
    _, _, license = await signed(world)
    await world.pay(license)
    pull = await world.nats.jetstream().pull_subscribe(
        "rochdale.licensing.v1.license_activated",
        stream="licensing",
        config=nats.js.api.ConsumerConfig(ack_policy=nats.js.api.AckPolicy.NONE),
    )
    for _ in range(1000):
        (message,) = await pull.fetch(1, timeout=5)
        event = events_pb2.LicenseActivated.FromString(message.data)
        if event.license.name == license.name:
            break
    assert event.license.state == ACTIVE and event.license.terms == license.terms
    headers = message.headers or {}
    assert headers["ce-type"] == "rochdale.licensing.v1.LicenseActivated"
    assert headers["ce-id"] == headers["Nats-Msg-Id"]
    await pull.unsubscribe()
