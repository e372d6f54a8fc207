"""Suspended by an emergency, then resumed: another grant, a longer term, and whatever was told late changes nothing."""

import datetime as dt
from typing import Any

from broker_market import DAY, Market, Site, until
from house import Person, refused, request_id

from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import events_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2
from rochdale_kit.clock import from_timestamp, now, to_timestamp


async def test_a_resumed_license_has_a_new_grant_and_a_longer_term(market: Market, site: Site, buyer: Person) -> None:
    deal, request = market.deal(site, buyer), request_id()
    first = await market.activate(deal)
    await market.issue(buyer, deal, request_id=request)
    feed = (await market.feed(site)).last_sequence
    await market.tell(market.suspended(deal, now() - dt.timedelta(days=3)))
    suspended = await market.grant_of(deal, pb.GRANT_STATE_SUSPENDED)
    async with refused("GRANT_NOT_OPEN", state="SUSPENDED"):
        await market.issue(buyer, deal)

    await market.tell(market.resumed(deal))
    second = await market.resumed_grant(deal, suspended)
    assert second.state == pb.GRANT_STATE_OPEN and second.grant_hash not in ("", first.grant_hash)
    longer = from_timestamp(second.end_time) - from_timestamp(first.end_time)
    assert dt.timedelta(days=3) <= longer <= dt.timedelta(days=3, minutes=1)
    # Both stay visible, the earlier one closed for good with its tokens: a retry does not bring one back.
    latest, before = await market.grants_of(deal)
    assert latest == second and (before.name, before.state) == (first.name, pb.GRANT_STATE_CLOSED)
    assert before.state_reason == "LICENSE_RESUMED"
    seen = await market.broker.GetGrant(pb.GetGrantRequest(name=first.name), metadata=buyer.metadata)
    assert seen == before
    async with refused("GRANT_NOT_OPEN", grant=first.name):
        await market.issue(buyer, deal, request_id=request)
    assert await market.issue(buyer, deal)
    other = market.deal(site, buyer)
    await market.activate(other)
    async with refused("REQUEST_ID_REUSED"):
        await market.issue(buyer, other, request_id=request)
    assert [entry.subject for entry in (await market.feed(site, feed)).revocations] == [first.name]

    async def told() -> bool:
        return second.name in [event.chain.grant.name for event in market.told(events_pb2.GrantOpened)]

    await until(told)
    # The whole once more.
    await market.tell(market.suspended(deal))
    await market.grant_of(deal, pb.GRANT_STATE_SUSPENDED)
    await market.tell(market.resumed(deal))
    third = await market.resumed_grant(deal, second)
    assert third.state == pb.GRANT_STATE_OPEN and len(await market.grants_of(deal)) == 3


async def test_what_is_resumed_is_checked_again(market: Market, site: Site, buyer: Person) -> None:
    deal = market.deal(site, buyer)
    first = await market.activate(deal)
    await market.tell(market.suspended(deal))
    await market.grant_of(deal, pb.GRANT_STATE_SUSPENDED)
    deal.offering.tiers[0].price.amount_minor = 1
    await market.tell(market.resumed(deal))
    second = await market.resumed_grant(deal, first)
    assert (second.state, second.state_reason) == (pb.GRANT_STATE_VOID, "OFFERING_HASH_MISMATCH")
    async with refused("GRANT_NOT_OPEN", state="VOID"):
        await market.issue(buyer, deal)


async def test_no_resumption_makes_a_term_longer_than_it_was_interrupted(
    market: Market, site: Site, buyer: Person
) -> None:
    deal = market.deal(site, buyer)
    first = await market.activate(deal)
    await market.tell(market.suspended(deal, now() - dt.timedelta(days=1)))
    await market.grant_of(deal, pb.GRANT_STATE_SUSPENDED)
    resumed = market.resumed(deal)
    resumed.license.end_time.seconds += 300 * DAY
    await market.tell(resumed)
    second = await market.resumed_grant(deal, first)
    assert from_timestamp(second.end_time) - from_timestamp(first.end_time) <= dt.timedelta(days=1, minutes=2)


async def test_a_suspension_or_resumption_told_late_changes_nothing(market: Market, site: Site, buyer: Person) -> None:
    deal = market.deal(site, buyer)
    first = await market.activate(deal)
    suspended = licensing_events.LicenseSuspended()
    suspended.CopyFrom(market.suspended(deal, now() - dt.timedelta(hours=1)))
    resumed = licensing_events.LicenseResumed()
    resumed.CopyFrom(market.resumed(deal))
    # The resumption comes first.
    await market.tell(resumed)
    second = await market.resumed_grant(deal, first)
    await market.tell(suspended)
    await market.tell(resumed)
    await market.activate(market.deal(site, buyer))
    assert (await market.grants_of(deal))[0] == second
    # After the next suspension, the first resumption is told once more.
    await market.tell(market.suspended(deal))
    await market.grant_of(deal, pb.GRANT_STATE_SUSPENDED)
    await market.tell(resumed)
    await market.activate(market.deal(site, buyer))
    latest = (await market.grants_of(deal))[0]
    assert (latest.name, latest.state) == (second.name, pb.GRANT_STATE_SUSPENDED)


async def test_what_ended_while_suspended_does_not_come_back(market: Market, site: Site, buyer: Person) -> None:
    deal = market.deal(site, buyer)
    await market.activate(deal)
    await market.tell(market.suspended(deal))
    await market.grant_of(deal, pb.GRANT_STATE_SUSPENDED)
    closed = await market.terminate(deal)
    await market.tell(market.resumed(deal))
    # Nor does one that was never heard to begin, but to end.
    unheard, ended = market.deal(site, buyer), licensing_pb2.License()
    market.shelve(unheard)
    ended.CopyFrom(market.ended(unheard))
    await market.tell(licensing_events.LicenseTerminated(license=ended))
    unheard.license.end_time.CopyFrom(to_timestamp(now() + dt.timedelta(days=60)))
    await market.tell(licensing_events.LicenseResumed(license=unheard.license))
    await market.activate(market.deal(site, buyer))
    assert await market.grants_of(deal) == [closed] and not await market.grants_of(unheard)


async def test_what_was_held_for_money_resumes_with_the_end_it_had(market: Market, site: Site, buyer: Person) -> None:
    """Only the count of suspensions tells then what is news, whatever is told late or twice."""
    deal = market.deal(site, buyer)
    first = await market.activate(deal)

    def told(kind: Any, count: int) -> Any:
        deal.license.suspension_count = count
        deal.license.suspended_by = "billing/PAST_DUE"
        deal.license.suspend_time.CopyFrom(to_timestamp(now()))
        event = kind()
        event.license.CopyFrom(deal.license)
        return event

    suspended = [told(licensing_events.LicenseSuspended, count) for count in (1, 2)]
    resumed = [told(licensing_events.LicenseResumed, count) for count in (1, 2)]
    await market.tell(suspended[0])
    await market.grant_of(deal, pb.GRANT_STATE_SUSPENDED)
    await market.tell(resumed[0])
    second = await market.resumed_grant(deal, first)
    assert (second.state, second.end_time) == (pb.GRANT_STATE_OPEN, first.end_time)
    for late in (suspended[0], resumed[0]):
        await market.tell(late)
    await market.activate(market.deal(site, buyer))
    assert (await market.grants_of(deal))[0] == second

    # The second resumption comes before its suspension, and the first once more.
    await market.tell(resumed[1])
    third = await market.resumed_grant(deal, second)
    for late in (suspended[1], suspended[0], resumed[0]):
        await market.tell(late)
    await market.activate(market.deal(site, buyer))
    assert (await market.grants_of(deal))[0] == third and third.end_time == first.end_time
