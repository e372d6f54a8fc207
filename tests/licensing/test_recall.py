"""What members and boards decide about licenses that live already: recalled, run on, suspended, resumed."""

import asyncio
import datetime as dt

import grpc
import pytest
import sqlalchemy as sa
from house import Person, refused
from licensing_world import COMPANY, Shelf, World, euro

from rochdale.governance.v1 import events_pb2, governance_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.chain import flaw_of_license_signature
from rochdale_kit.clock import from_timestamp, now, to_timestamp
from rochdale_kit.refusals import refusal_of
from rochdale_kit.signing import KeySet

ACTIVE, SUSPENDED = pb.LICENSE_STATE_ACTIVE, pb.LICENSE_STATE_SUSPENDED
ENDED, EXPIRED = pb.LICENSE_STATE_TERMINATED, pb.LICENSE_STATE_EXPIRED


async def licensed(
    world: World, *, member_recall: bool = False, paid: bool = True, shelf: Shelf | None = None
) -> tuple[Shelf, Person, pb.License]:
    if shelf is None:
        shelf = await world.shelf(rule={"member_recall": member_recall})
    buyer = await world.buyer()
    negotiation = await world.ask(buyer, shelf.offering)
    license = await world.license(buyer, negotiation.license)
    if paid:
        await world.pay(license)
    return shelf, buyer, await world.license(buyer, license.name)


async def emergency(world: World, shelf: Shelf, **changed: object) -> governance_pb2.SharingRule:
    return await shelf.deny(emergency=True, **changed)


async def lapse(world: World, rule: governance_pb2.SharingRule) -> None:
    """Lets an emergency reach its end: the clock is everybody's, the row is ours."""
    begun, over = now() - dt.timedelta(days=30, seconds=1), now() - dt.timedelta(seconds=1)
    rule.effective_time.CopyFrom(to_timestamp(begun))
    rule.expire_time.CopyFrom(to_timestamp(over))
    async with world.engine.begin() as connection:
        await connection.execute(
            sa.text(
                "UPDATE sharing_rule SET effective_time = :begun, expire_time = :over, settle_time = :over, "
                "body = :body WHERE name = :name"
            ),
            {"begun": begun, "over": over, "body": rule.SerializeToString(), "name": rule.name},
        )


async def test_a_license_is_signed_by_a_key_anybody_may_ask_for(world: World) -> None:
    _, _, license = await licensed(world)
    answer = await world.licensing.GetKeySet(pb.GetKeySetRequest())
    keys = KeySet.from_jwks(answer.jwks_json)
    assert flaw_of_license_signature(license.name, license.terms_hash, license.signature, keys) is None
    assert flaw_of_license_signature(license.name, "0" * 64, license.signature, keys) is not None


async def test_a_narrowing_recalls_what_is_no_longer_inside_and_nothing_else(world: World) -> None:
    shelf, buyer, license = await licensed(world, member_recall=True)
    _, free, unpaid = await licensed(world, shelf=shelf, paid=False)
    assert license.terms.member_recall
    await shelf.narrow(max_licenses=0, duties=license.terms.scope.duties)
    assert (await world.license(buyer, license.name)).state == ACTIVE
    await shelf.narrow(territories=["FR"])
    over = await world.license(buyer, license.name)
    assert (over.state, over.end_reason) == (ENDED, "MEMBER_RECALL")
    assert await world.told(license.name) == ["LicenseAgreed", "LicenseActivated", "LicenseTerminated"]
    # Agreed and not yet paid: recalled too, and its negotiation with it.
    assert (await world.license(free, unpaid.name)).end_reason == "MEMBER_RECALL"
    assert (await world.negotiation(free, unpaid.negotiation)).state == pb.NEGOTIATION_STATE_TERMINATED


@pytest.mark.parametrize("how", ["narrowed", "ended", "denied"])
async def test_without_the_clause_a_license_runs_to_its_term(world: World, how: str) -> None:
    shelf, buyer, license = await licensed(world)
    if how == "narrowed":
        await shelf.narrow(territories=["FR"])
    elif how == "ended":
        await shelf.end(shelf.rule)
    else:
        await shelf.deny()
    assert await world.license(buyer, license.name) == license
    async with refused("RULE_NOT_IN_FORCE" if how == "ended" else "REQUEST_OUTSIDE_RULE"):
        await world.ask(buyer, shelf.offering)


@pytest.mark.parametrize("how", ["ended", "denied"])
async def test_with_the_clause_an_end_or_a_prohibition_by_members_recalls(world: World, how: str) -> None:
    shelf, buyer, license = await licensed(world, member_recall=True)
    if how == "ended":
        await shelf.end(shelf.rule)
    else:
        await shelf.deny()
    assert (await world.license(buyer, license.name)).end_reason == "MEMBER_RECALL"


async def test_a_rule_that_runs_out_recalls_nobody_but_nothing_new_is_signed(world: World) -> None:
    shelf, buyer, license = await licensed(world, member_recall=True)
    async with world.engine.begin() as connection:
        await connection.execute(
            sa.text("UPDATE sharing_rule SET expire_time = now() WHERE name = :name"), {"name": shelf.rule.name}
        )
    async with refused("RULE_NOT_IN_FORCE"):
        await world.ask(buyer, shelf.offering)
    # Governance tells of it too, and that is no decision of anybody.
    told = governance_pb2.SharingRule()
    told.CopyFrom(shelf.rule)
    told.end_time.CopyFrom(shelf.rule.expire_time)
    await world.tell(events_pb2.RuleNarrowed(sharing_rule=told))
    assert (await world.license(buyer, license.name)).state == ACTIVE


async def test_a_decision_dated_a_moment_ahead_takes_effect_then(world: World) -> None:
    shelf, buyer, license = await licensed(world, member_recall=True)
    narrowed = shelf.next_rule(territories=["FR"])
    narrowed.effective_time.FromDatetime(now() + dt.timedelta(seconds=1.5))
    await world.tell(events_pb2.RuleNarrowed(sharing_rule=shelf.authority.signed_rule(narrowed)))
    assert (await world.license(buyer, license.name)).state == ACTIVE
    assert (await world.until_state(buyer, license.name, ENDED)).end_reason == "MEMBER_RECALL"


async def test_an_emergency_suspends_and_its_end_resumes_and_extends(world: World) -> None:
    shelf, buyer, license = await licensed(world)
    board = await emergency(world, shelf)
    held = await world.license(buyer, license.name)
    assert (held.state, held.suspended_by) == (SUSPENDED, board.name)
    assert held.end_time == license.end_time and held.HasField("suspend_time")
    await asyncio.sleep(0.05)
    await shelf.end(board)
    after = await world.license(buyer, license.name)
    assert after.state == ACTIVE and not after.suspended_by and not after.HasField("suspend_time")
    longer = from_timestamp(after.end_time) - from_timestamp(license.end_time)
    assert dt.timedelta(seconds=0.05) <= longer < dt.timedelta(minutes=1)
    assert after.terms_hash == license.terms_hash and after.signature == license.signature
    assert await world.told(license.name) == [
        "LicenseAgreed",
        "LicenseActivated",
        "LicenseSuspended",
        "LicenseResumed",
    ]


async def test_an_emergency_elsewhere_or_for_others_suspends_nobody(world: World) -> None:
    shelf, buyer, license = await licensed(world)
    other = await world.shelf()
    await emergency(world, other)
    await emergency(world, shelf, territories=["FR"])
    assert await world.license(buyer, license.name) == license


async def test_an_emergency_lapses_by_itself_and_extends_by_at_most_thirty_days(world: World) -> None:
    shelf, buyer, license = await licensed(world)
    board = await emergency(world, shelf)
    async with world.engine.begin() as connection:
        await connection.execute(
            sa.text("UPDATE license SET suspend_time = now() - interval '40 days' WHERE id = :id"),
            {"id": license.name.removeprefix("licenses/")},
        )
    await lapse(world, board)
    after = await world.until_state(buyer, license.name, ACTIVE)
    assert from_timestamp(after.end_time) - from_timestamp(license.end_time) == dt.timedelta(days=30)


async def test_of_two_emergencies_the_last_one_lets_go(world: World) -> None:
    shelf, buyer, license = await licensed(world)
    first, second = await emergency(world, shelf), await emergency(world, shelf)
    suspended = await world.license(buyer, license.name)
    await shelf.end(first)
    still = await world.license(buyer, license.name)
    assert (still.state, still.suspended_by, still.suspend_time) == (SUSPENDED, second.name, suspended.suspend_time)
    await shelf.end(second)
    assert (await world.license(buyer, license.name)).state == ACTIVE
    assert (await world.told(license.name))[2:] == ["LicenseSuspended", "LicenseResumed"]


async def test_paid_during_an_emergency_a_license_begins_suspended(world: World) -> None:
    shelf, buyer, license = await licensed(world, paid=False)
    board = await emergency(world, shelf)
    assert (await world.license(buyer, license.name)).state == pb.LICENSE_STATE_AGREED
    await world.pay(license)
    held = await world.license(buyer, license.name)
    assert (held.state, held.suspended_by) == (SUSPENDED, board.name) and held.HasField("activate_time")
    assert (await world.told(license.name))[1:] == ["LicenseActivated", "LicenseSuspended"]
    await shelf.end(board)
    assert (await world.license(buyer, license.name)).state == ACTIVE


async def test_a_suspended_license_can_be_ended_recalled_and_expires(world: World) -> None:
    shelf, buyer, first = await licensed(world, member_recall=True)
    _, second_buyer, second = await licensed(world, shelf=shelf)
    board = await emergency(world, shelf)
    over = await world.terminate(buyer, first.name)
    assert over.state == ENDED and not over.suspended_by and not over.HasField("suspend_time")
    await shelf.narrow(territories=["FR"])
    assert (await world.license(second_buyer, second.name)).end_reason == "MEMBER_RECALL"
    await shelf.end(board)
    assert (await world.license(buyer, first.name)).state == ENDED

    shelf, buyer, third = await licensed(world)
    await emergency(world, shelf)
    await world.age("license", third.name, "end_time")
    await asyncio.sleep(1.3)
    # Its end has come, but it is owed the time it could not use.
    assert (await world.license(buyer, third.name)).state == SUSPENDED
    async with world.engine.begin() as connection:
        await connection.execute(
            sa.text("UPDATE license SET end_time = now() - interval '30 days 1 second' WHERE id = :id"),
            {"id": third.name.removeprefix("licenses/")},
        )
    assert (await world.until_state(buyer, third.name, EXPIRED)).suspended_by == ""


async def test_heard_twice_an_emergency_suspends_once_and_heard_late_not_at_all(world: World) -> None:
    shelf, buyer, license = await licensed(world)
    board = await emergency(world, shelf)
    await world.tell(events_pb2.RuleEnacted(sharing_rule=board))
    await shelf.end(board)
    await world.tell(events_pb2.RuleEnacted(sharing_rule=board))
    assert (await world.license(buyer, license.name)).state == ACTIVE
    assert (await world.told(license.name))[2:] == ["LicenseSuspended", "LicenseResumed"]


async def test_payment_and_emergency_at_once_leave_it_suspended(world: World) -> None:
    for _ in range(4):
        shelf, buyer, license = await licensed(world, paid=False)
        await asyncio.gather(world.pay(license), emergency(world, shelf))
        assert (await world.license(buyer, license.name)).state == SUSPENDED


async def test_signatures_race_a_recall_and_none_outlives_it(world: World) -> None:
    shelf = await world.shelf(rule={"member_recall": True}, tiers=[((COMPANY,), euro(0))])
    buyers = [await world.buyer() for _ in range(6)]

    async def ask(number: int) -> pb.Negotiation | str:
        await asyncio.sleep(number * 0.004)
        try:
            return await world.ask(buyers[number], shelf.offering)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason

    async def narrow() -> None:
        await asyncio.sleep(0.01)
        await shelf.narrow(territories=["FR"])

    *outcomes, _ = await asyncio.gather(*map(ask, range(6)), narrow())
    for outcome in outcomes:
        if isinstance(outcome, pb.Negotiation):
            assert (await world.license(shelf.steward, outcome.license)).end_reason == "MEMBER_RECALL"
        else:
            assert outcome == "REQUEST_OUTSIDE_RULE"
