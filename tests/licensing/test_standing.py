"""How a license stands with its money: held, in good standing again, ended; and an emergency at the same time."""

import asyncio
import datetime as dt

import pytest
import sqlalchemy as sa
from house import Person
from licensing_world import Shelf, World

from rochdale.billing.v1 import events_pb2 as billing_events
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import from_timestamp, new_id, now

GOOD, HELD = billing_events.STANDING_GOOD, billing_events.STANDING_HELD
OVER = billing_events.STANDING_ENDED
ACTIVE, SUSPENDED = pb.LICENSE_STATE_ACTIVE, pb.LICENSE_STATE_SUSPENDED
TERMINATED, EXPIRED = pb.LICENSE_STATE_TERMINATED, pb.LICENSE_STATE_EXPIRED


async def licensed(world: World, *, paid: bool = True) -> tuple[Shelf, Person, pb.License]:
    shelf, buyer = await world.shelf(), await world.buyer()
    license = await world.license(buyer, (await world.ask(buyer, shelf.offering)).license)
    if paid:
        await world.pay(license)
    return shelf, buyer, await world.license(buyer, license.name)


async def test_a_held_license_is_suspended_and_comes_back_with_the_end_it_had(world: World) -> None:
    _, buyer, license = await licensed(world)
    assert await world.stand(license, HELD, 1, "PAST_DUE") == ""
    held = await world.license(buyer, license.name)
    assert (held.state, held.suspended_by, held.suspension_count) == (SUSPENDED, "billing/PAST_DUE", 1)
    assert held.end_time == license.end_time
    # Another reason takes its place, and the suspension is the same one.
    await world.stand(license, HELD, 2, "DISPUTED")
    disputed = await world.license(buyer, license.name)
    assert (disputed.suspended_by, disputed.suspend_time) == ("billing/DISPUTED", held.suspend_time)
    await asyncio.sleep(0.05)
    await world.stand(license, GOOD, 3)
    after = await world.license(buyer, license.name)
    assert (after.state, after.suspended_by, after.suspension_count) == (ACTIVE, "", 1)
    assert after.end_time == license.end_time and not after.HasField("suspend_time")
    await world.stand(license, HELD, 4, "CAP_REACHED")
    assert (await world.license(buyer, license.name)).suspension_count == 2
    assert (await world.told(license.name))[2:] == ["LicenseSuspended", "LicenseResumed", "LicenseSuspended"]


async def test_what_comes_late_or_twice_says_nothing(world: World) -> None:
    _, buyer, license = await licensed(world)
    held, event_id = (
        billing_events.StandingChanged(license=license.name, standing=HELD, reason="PAST_DUE", sequence=1),
        new_id("evt"),
    )
    await world.stand(license, GOOD, 2)
    await world.tell(held, event_id)
    assert await world.license(buyer, license.name) == license
    await world.stand(license, HELD, 4, "PAST_DUE")
    suspended = await world.license(buyer, license.name)
    await world.stand(license, GOOD, 3)
    await world.stand(license, OVER, 3, "NOT_PAID")
    await world.stand(license, HELD, 4, "DISPUTED")
    await world.say(held, event_id, deduplicated=False)
    await world.stand(license, HELD, 5, "PAST_DUE")
    assert await world.license(buyer, license.name) == suspended
    assert (await world.told(license.name))[2:] == ["LicenseSuspended"]


@pytest.mark.parametrize("first", ["active", "held", "agreed"])
async def test_an_end_for_money_is_an_end(world: World, first: str) -> None:
    _, buyer, license = await licensed(world, paid=first != "agreed")
    if first == "held":
        await world.stand(license, HELD, 1, "PAST_DUE")
    await world.stand(license, OVER, 2, "NOT_PAID")
    over = await world.license(buyer, license.name)
    assert (over.state, over.end_reason, over.suspended_by) == (TERMINATED, "NOT_PAID", "")
    # What has ended stays ended.
    await world.stand(license, GOOD, 3)
    await world.stand(license, OVER, 4, "REFUNDED")
    await world.pay(license)
    assert await world.license(buyer, license.name) == over
    assert (await world.told(license.name)).count("LicenseTerminated") == 1


async def test_a_license_nobody_knows_is_for_an_operator(world: World) -> None:
    unknown = pb.License(name=f"licenses/{new_id('lic')}")
    assert await world.stand(unknown, HELD, 1, "PAST_DUE") == "LICENSE_UNKNOWN"


async def test_held_before_its_payment_is_heard_it_begins_suspended(world: World) -> None:
    _, buyer, license = await licensed(world, paid=False)
    await world.stand(license, HELD, 1, "DISPUTED")
    assert (await world.license(buyer, license.name)).state == pb.LICENSE_STATE_AGREED
    await world.pay(license)
    held = await world.license(buyer, license.name)
    assert (held.state, held.suspended_by) == (SUSPENDED, "billing/DISPUTED")
    assert (await world.told(license.name))[1:] == ["LicenseActivated", "LicenseSuspended"]
    await world.stand(license, GOOD, 2)
    assert (await world.license(buyer, license.name)).state == ACTIVE


async def test_what_money_holds_ends_when_it_says(world: World) -> None:
    _, buyer, license = await licensed(world)
    await world.stand(license, HELD, 1, "PAST_DUE")
    await world.age("license", license.name, "end_time")
    assert (await world.until_state(buyer, license.name, EXPIRED)).suspended_by == ""


async def since(world: World, license: pb.License, interval: str) -> None:
    """Lets it have been suspended for longer: the clock is everybody's, the row is ours."""
    async with world.engine.begin() as connection:
        await connection.execute(
            sa.text(f"UPDATE license SET suspend_time = suspend_time - interval '{interval}' WHERE id = :id"),
            {"id": license.name.removeprefix("licenses/")},
        )


async def test_of_money_and_an_emergency_the_last_one_lets_go(world: World) -> None:
    shelf, buyer, license = await licensed(world)
    await world.stand(license, HELD, 1, "PAST_DUE")
    await since(world, license, "5 days")
    board = await shelf.deny(emergency=True)
    both = await world.license(buyer, license.name)
    # The emergency counts from when it came; the days before were the buyer's own.
    assert (both.suspended_by, both.end_time, both.suspension_count) == (board.name, license.end_time, 1)
    assert now() - from_timestamp(both.suspend_time) < dt.timedelta(minutes=1)
    await since(world, license, "3 days")
    await shelf.end(board)
    still = await world.license(buyer, license.name)
    longer = from_timestamp(still.end_time) - from_timestamp(license.end_time)
    assert (still.state, still.suspended_by) == (SUSPENDED, "billing/PAST_DUE")
    assert dt.timedelta(days=3) <= longer < dt.timedelta(days=3, minutes=1)
    await since(world, license, "7 days")
    await world.stand(license, GOOD, 2)
    after = await world.license(buyer, license.name)
    assert (after.state, after.end_time) == (ACTIVE, still.end_time)
    assert (await world.told(license.name))[2:] == ["LicenseSuspended", "LicenseResumed"]


async def test_money_in_order_does_not_end_an_emergency(world: World) -> None:
    shelf, buyer, license = await licensed(world)
    board = await shelf.deny(emergency=True)
    suspended = await world.license(buyer, license.name)
    await world.stand(license, HELD, 1, "PAST_DUE")
    await world.stand(license, GOOD, 2)
    assert await world.license(buyer, license.name) == suspended
    await shelf.end(board)
    assert (await world.license(buyer, license.name)).state == ACTIVE
    assert (await world.told(license.name))[2:] == ["LicenseSuspended", "LicenseResumed"]


async def test_an_emergency_gives_way_to_another_before_money_is_asked(world: World) -> None:
    shelf, buyer, license = await licensed(world)
    first, second = await shelf.deny(emergency=True), await shelf.deny(emergency=True)
    await world.stand(license, HELD, 1, "PAST_DUE")
    await shelf.end(first)
    assert (await world.license(buyer, license.name)).suspended_by == second.name
    await shelf.end(second)
    assert (await world.license(buyer, license.name)).suspended_by == "billing/PAST_DUE"


async def test_money_and_an_emergency_at_once_leave_it_suspended_by_both(world: World) -> None:
    for _ in range(4):
        shelf, buyer, license = await licensed(world)
        _, board = await asyncio.gather(world.stand(license, HELD, 1, "PAST_DUE"), shelf.deny(emergency=True))
        assert (await world.license(buyer, license.name)).suspended_by == board.name
        await shelf.end(board)
        assert (await world.license(buyer, license.name)).suspended_by == "billing/PAST_DUE"
        assert (await world.told(license.name))[2:] == ["LicenseSuspended"]
