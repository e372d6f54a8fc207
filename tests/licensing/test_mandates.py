"""Requests outside the mandate: put to the members, answered, continued by themselves, or declined by the clock."""

import asyncio
import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from house import Person, refused, request_id
from licensing_world import ACADEMIC, COMPANY, DAY, Shelf, World, euro

from rochdale.catalog.v1 import catalog_pb2
from rochdale.catalog.v1 import events_pb2 as catalog_events
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import proposals_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import pricing_pb2, scope_pb2
from rochdale_kit.chain import flaw_of_offering, flaw_of_rule
from rochdale_kit.clock import from_timestamp, new_id, now

REQUESTED, DRAFTED = pb.MANDATE_REQUEST_STATE_REQUESTED, pb.MANDATE_REQUEST_STATE_DRAFTED
UNDER_VOTE, GRANTED = pb.MANDATE_REQUEST_STATE_UNDER_VOTE, pb.MANDATE_REQUEST_STATE_GRANTED
CONTINUED, DECLINED = pb.MANDATE_REQUEST_STATE_CONTINUED, pb.MANDATE_REQUEST_STATE_DECLINED
WITHDRAWN = pb.MANDATE_REQUEST_STATE_WITHDRAWN
FINETUNE = scope_pb2.USE_ACTION_FINETUNE
STATES = proposals_pb2.ProposalState

# Something no rule of these tests allows: another action, at a price.
WISH = pb.Wish(actions=[FINETUNE], price=euro(250_000))


class Members:
    """What a cooperative tells while its members decide about one request."""

    def __init__(self, world: World, shelf: Shelf, asked: pb.MandateRequest) -> None:
        self._world, self.shelf, self.asked = world, shelf, asked
        self.proposal = f"{asked.cooperative}/proposals/{new_id('prop')}"

    async def move(self, state: str, **fields: Any) -> None:
        proposal = proposals_pb2.Proposal(
            name=self.proposal,
            mandate_request=self.asked.name,
            state=STATES.Value(f"PROPOSAL_STATE_{state}"),
            **fields,
        )
        await self._world.tell(governance_events.ProposalMoved(proposal=proposal))

    async def enact(self) -> None:
        self.shelf.rule = self.shelf.authority.rule(self.asked.scope, now())
        await self._world.tell(governance_events.RuleEnacted(sharing_rule=self.shelf.rule))

    def offer(self, **changed: Any) -> catalog_pb2.Offering:
        """The offering the steward's program publishes: exactly what was asked."""
        offering = catalog_pb2.Offering(
            name=f"{self.asked.cooperative}/offerings/{new_id('off')}",
            scope=self.asked.scope,
            tiers=[
                catalog_pb2.OfferingTier(
                    categories=self.asked.scope.categories,
                    price=self.asked.scope.floor_price,
                    sharing_rule=self.shelf.rule.name,
                )
            ],
            rule_revisions=[self.shelf.rule.revision],
            rule_hashes=[self.shelf.rule.rule_hash],
            state=catalog_pb2.OFFERING_STATE_OPEN,
            mandate_request=self.asked.name,
        )
        for name, value in changed.items():
            getattr(offering.tiers[0], name).CopyFrom(value)
        return self.shelf.authority.signed_offering(offering)

    async def publish(self, offering: catalog_pb2.Offering) -> None:
        await self._world.tell(catalog_events.OfferingPublished(offering=offering))

    async def grant(self) -> catalog_pb2.Offering:
        """From the draft to the offering."""
        for state in ("SPONSORING", "DELIBERATION", "FROZEN", "VOTING", "DISSENT_WINDOW", "AWAITING_SIGNATURE"):
            await self.move(state)
        await self.enact()
        await self.move("ENACTED")
        offering = self.offer()
        await self.publish(offering)
        return offering


async def asking(world: World, wish: pb.Wish = WISH, **fields: Any) -> tuple[Members, Person]:
    shelf, buyer = await world.shelf(), await world.buyer()
    asked = await world.ask_members(buyer, shelf.offering, wish=wish, **fields)
    return Members(world, shelf, asked), buyer


async def test_a_refusal_becomes_a_request_and_says_what_is_outside(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    async with refused("REQUEST_OUTSIDE_OFFERING"):
        await world.ask(buyer, shelf.offering, wish=pb.Wish(actions=[FINETUNE]))
    id = request_id()
    asked = await world.ask_members(buyer, shelf.offering, wish=WISH, request_id=id)
    assert asked.state == REQUESTED and asked.cooperative == f"cooperatives/{shelf.cooperative}"
    assert len(asked.outside) == 1 and "actions" in asked.outside[0]
    assert asked.scope.floor_price == euro(250_000) and list(asked.scope.actions) == [FINETUNE]
    assert list(asked.scope.categories) == [COMPANY] and list(asked.scope.territories) == ["DE"]
    assert from_timestamp(asked.respond_by_time) - from_timestamp(asked.create_time) == dt.timedelta(days=30)
    assert await world.ask_members(buyer, shelf.offering, wish=WISH, request_id=id) == asked
    assert await world.told(asked.name) == ["MandateRequested"]
    for known in (buyer, shelf.steward, await world.house.operator()):
        assert await world.mandate_request(known, asked.name) == asked
    for stranger in (await world.buyer(), (await world.shelf()).steward):
        async with refused("NOT_FOUND"):
            await world.mandate_request(stranger, asked.name)


async def test_what_a_rule_allows_need_not_be_asked(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    async with refused("MANDATE_NOT_NEEDED"):
        await world.ask_members(buyer, shelf.offering, wish=pb.Wish(duration_seconds=60 * DAY))
    denial = await shelf.deny(categories=[COMPANY])
    asked = await world.ask_members(buyer, shelf.offering, wish=pb.Wish(duration_seconds=60 * DAY))
    assert list(asked.outside) == [f"It meets what {denial.name} forbids."]


async def test_what_makes_no_sense_is_not_put_to_members(world: World) -> None:
    shelf, buyer, unknown = await world.shelf(), await world.buyer(), await world.buyer(attested=False)
    async with refused("LICENSEE_NOT_ATTESTED"):
        await world.ask_members(unknown, shelf.offering, wish=WISH)
    async with refused("SCOPE_ILL_FORMED"):
        await world.ask_members(buyer, shelf.offering, wish=pb.Wish(purposes=["Whatever"]))
    async with refused("CURRENCY_UNKNOWN"):
        price = pb.Wish(price=euro(1))
        price.price.currency = "ZZZ"
        await world.ask_members(buyer, shelf.offering, wish=price)
    async with refused("NOT_FOUND"):
        await world.ask_members(buyer, shelf.new_offering(), wish=WISH)


async def test_granted_it_goes_through_by_itself(world: World) -> None:
    members, buyer = await asking(world)
    seen = []
    for state in ("DRAFT", "SPONSORING", "FROZEN", "VOTING"):
        await members.move(state)
        seen.append((await world.mandate_request(buyer, members.asked.name)).state)
    assert seen == [DRAFTED, DRAFTED, UNDER_VOTE, UNDER_VOTE]
    await members.enact()
    await members.move("ENACTED")
    granted = await world.mandate_request(buyer, members.asked.name)
    assert (granted.state, granted.proposal) == (GRANTED, members.proposal)
    offering = members.offer()
    await members.publish(offering)
    over = await world.mandate_request(buyer, members.asked.name)
    assert over.state == CONTINUED and not over.decline_reason
    negotiation = await world.negotiation(buyer, over.negotiation)
    assert negotiation.state == pb.NEGOTIATION_STATE_AGREED
    license = await world.license(buyer, negotiation.license)
    assert license.terms.scope == members.asked.scope and license.terms.price == euro(250_000)
    keys = members.shelf.authority.keys()
    assert flaw_of_rule(license.terms, members.shelf.rule, keys) is None
    assert flaw_of_offering(license.terms, offering, keys) is None
    assert await world.told(members.asked.name) == ["MandateRequested", "MandateRequestClosed"]
    # Heard again, it is one license.
    await members.publish(offering)
    assert await world.mandate_request(buyer, members.asked.name) == over
    listed = await world.licensing.ListLicenses(pb.ListLicensesRequest(), metadata=buyer.metadata)
    assert len(listed.licenses) == 1


async def test_its_offering_is_open_to_the_asker_alone(world: World) -> None:
    members, buyer = await asking(world)
    offering = await members.grant()
    other = await world.buyer()
    for call in (world.ask(other, offering), world.quote(other, offering)):
        async with refused("CATEGORY_NOT_OFFERED", offering=offering.name):
            await call
    assert (await world.ask(buyer, offering)).license


async def test_an_offering_heard_before_its_rule_waits_for_it(world: World) -> None:
    members, buyer = await asking(world)
    members.shelf.rule = members.shelf.authority.rule(members.asked.scope, now())
    offering, event = members.offer(), new_id("evt")
    await world.say(catalog_events.OfferingPublished(offering=offering), event)
    await asyncio.sleep(0.3)
    assert (await world.mandate_request(buyer, members.asked.name)).state == REQUESTED
    await world.tell(governance_events.RuleEnacted(sharing_rule=members.shelf.rule))
    assert (await world.until_state(buyer, members.asked.name, CONTINUED)).negotiation


async def test_at_another_price_the_cooperative_has_the_next_move(world: World) -> None:
    members, buyer = await asking(world)
    await members.enact()
    await members.publish(members.offer(price=euro(300_000)))
    over = await world.mandate_request(buyer, members.asked.name)
    negotiation = await world.negotiation(buyer, over.negotiation)
    assert over.state == CONTINUED and negotiation.state == pb.NEGOTIATION_STATE_REQUESTED
    assert (await world.accept(members.shelf.steward, negotiation)).license


async def test_who_is_another_by_then_is_told_why_and_gets_nothing(world: World) -> None:
    members, buyer = await asking(world)
    await world.attest(buyer, ACADEMIC)
    await members.grant()
    over = await world.mandate_request(buyer, members.asked.name)
    assert over.state == DECLINED and "another category" in over.decline_reason and not over.negotiation
    listed = await world.licensing.ListNegotiations(pb.ListNegotiationsRequest(), metadata=buyer.metadata)
    assert not listed.negotiations


async def test_what_the_board_forbids_meanwhile_does_not_go_through(world: World) -> None:
    members, buyer = await asking(world)
    await members.shelf.deny(emergency=True, actions=[FINETUNE])
    await members.grant()
    over = await world.mandate_request(buyer, members.asked.name)
    assert over.state == DECLINED and "forbids" in over.decline_reason


async def test_the_tally_says_why_members_declined(world: World) -> None:
    members, buyer = await asking(world)
    await members.move("VOTING")
    tally = proposals_pb2.Tally(yes_count=12, no_count=30, abstain_count=4, quorum_base_count=100)
    await members.move("REJECTED", tally=tally)
    over = await world.mandate_request(buyer, members.asked.name)
    assert over.state == DECLINED
    assert over.decline_reason == "Members voted against it: 12 yes, 30 no, 4 abstained, of 100 members."
    # A small secret vote keeps its numbers.
    members, buyer = await asking(world)
    await members.move("REJECTED", tally=proposals_pb2.Tally(withheld=True))
    assert (await world.mandate_request(buyer, members.asked.name)).decline_reason == "Members voted against it."


@pytest.mark.parametrize("state", ["WITHDRAWN", "NOT_ADMITTED", "QUORUM_FAILED", "ANNULLED"])
async def test_whatever_ends_the_proposal_ends_the_request(world: World, state: str) -> None:
    members, buyer = await asking(world)
    await members.move("SPONSORING")
    await members.move(state)
    over = await world.mandate_request(buyer, members.asked.name)
    assert over.state == DECLINED and over.decline_reason.endswith(".")
    await members.move("VOTING")
    assert await world.mandate_request(buyer, members.asked.name) == over
    assert await world.told(over.name) == ["MandateRequested", "MandateRequestClosed"]


async def test_what_is_heard_late_takes_nothing_back(world: World) -> None:
    members, buyer = await asking(world)
    await members.move("ENACTED")
    for state in ("VOTING", "SPONSORING", "ENACTED"):
        await members.move(state)
    assert (await world.mandate_request(buyer, members.asked.name)).state == GRANTED
    # Nor does another cooperative's proposal say anything.
    other = Members(world, await world.shelf(), members.asked)
    other.proposal = f"cooperatives/{other.shelf.cooperative}/proposals/{new_id('prop')}"
    await other.move("REJECTED")
    assert (await world.mandate_request(buyer, members.asked.name)).state == GRANTED


async def wind(world: World, asked: pb.MandateRequest) -> None:
    """Lets the response clock run out: the clock is everybody's, the row is ours."""
    async with world.engine.begin() as connection:
        await connection.execute(
            sa.text("UPDATE mandate_request SET respond_by_time = now() - interval '1 second' WHERE id = :id"),
            {"id": asked.name.removeprefix("mandateRequests/")},
        )


@pytest.mark.parametrize("drafted", [False, True])
async def test_the_clock_declines_what_nobody_puts_to_the_members(world: World, drafted: bool) -> None:
    members, buyer = await asking(world)
    if drafted:
        await members.move("DELIBERATION")
    await wind(world, members.asked)
    over = await world.until_state(buyer, members.asked.name, DECLINED)
    assert over.decline_reason == "It was not put to the members in time."
    assert await world.told(over.name) == ["MandateRequested", "MandateRequestClosed"]


async def test_a_vote_stops_the_clock(world: World) -> None:
    members, buyer = await asking(world)
    await members.move("FROZEN")
    await wind(world, members.asked)
    await asyncio.sleep(1.3)
    assert (await world.mandate_request(buyer, members.asked.name)).state == UNDER_VOTE


async def test_the_clock_is_the_charters(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    await shelf.found(response_seconds=3600)
    asked = await world.ask_members(buyer, shelf.offering, wish=WISH)
    assert from_timestamp(asked.respond_by_time) - from_timestamp(asked.create_time) == dt.timedelta(hours=1)


async def test_the_buyer_takes_it_back_until_a_negotiation_came_of_it(world: World) -> None:
    members, buyer = await asking(world)
    take_back = pb.WithdrawMandateRequestRequest(name=members.asked.name)
    async with refused("NOT_FOUND"):
        await world.licensing.WithdrawMandateRequest(take_back, metadata=(await world.buyer()).metadata)
    async with refused("ROLE_MISSING"):
        await world.licensing.WithdrawMandateRequest(take_back, metadata=members.shelf.steward.metadata)
    for _ in range(2):
        over = await world.licensing.WithdrawMandateRequest(take_back, metadata=buyer.metadata)
        assert over.state == WITHDRAWN
    await members.grant()
    assert (await world.mandate_request(buyer, members.asked.name)).state == WITHDRAWN
    assert await world.told(over.name) == ["MandateRequested", "MandateRequestClosed"]

    members, buyer = await asking(world)
    await members.grant()
    async with refused("MANDATE_REQUEST_OVER"):
        await world.licensing.WithdrawMandateRequest(
            pb.WithdrawMandateRequestRequest(name=members.asked.name), metadata=buyer.metadata
        )


async def test_taking_back_and_publishing_at_once_leave_one_outcome(world: World) -> None:
    for _ in range(3):
        members, buyer = await asking(world)
        await members.enact()

        async def take_back(members: Members = members, buyer: Person = buyer) -> bool:
            request = pb.WithdrawMandateRequestRequest(name=members.asked.name)
            try:
                await world.licensing.WithdrawMandateRequest(request, metadata=buyer.metadata)
            except Exception:
                return False
            return True

        taken, _ = await asyncio.gather(take_back(), members.publish(members.offer()))
        over = await world.mandate_request(buyer, members.asked.name)
        assert over.state == (WITHDRAWN if taken else CONTINUED) and bool(over.negotiation) != taken


async def test_requests_come_newest_first_in_pages(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    names = [(await world.ask_members(buyer, shelf.offering, wish=WISH)).name for _ in range(5)]
    for person in (buyer, shelf.steward):
        seen, token = [], ""
        while True:
            page = await world.licensing.ListMandateRequests(
                pb.ListMandateRequestsRequest(page_size=2, page_token=token), metadata=person.metadata
            )
            seen += [one.name for one in page.mandate_requests]
            token = page.next_page_token
            if not token:
                break
        assert seen == names[::-1]
    async with refused("PAGE_TOKEN_INVALID"):
        await world.licensing.ListMandateRequests(
            pb.ListMandateRequestsRequest(page_token="bm8"), metadata=buyer.metadata
        )


MONTHLY = pricing_pb2.PricePlan(interval=pricing_pb2.BILLING_INTERVAL_MONTH)


async def test_whoever_asked_for_a_price_once_is_not_bound_to_it_each_month(world: World) -> None:
    members, buyer = await asking(world)
    for state in ("SPONSORING", "VOTING", "AWAITING_SIGNATURE"):
        await members.move(state)
    await members.enact()
    await members.move("ENACTED")
    offering = members.offer(price_plan=MONTHLY)
    await members.publish(offering)
    over = await world.mandate_request(buyer, members.asked.name)
    negotiation = await world.negotiation(buyer, over.negotiation)
    assert over.state == CONTINUED and negotiation.state == pb.NEGOTIATION_STATE_OFFERED
    assert negotiation.price_plan == MONTHLY and negotiation.steps[-1].party == pb.PARTY_COOPERATIVE
    agreed = await world.accept(buyer, negotiation)
    assert (await world.license(buyer, agreed.license)).terms.price_plan == MONTHLY


async def test_whoever_started_from_a_monthly_price_asked_for_one(world: World) -> None:
    shelf, buyer = await world.shelf(plan=MONTHLY), await world.buyer()
    members = Members(world, shelf, await world.ask_members(buyer, shelf.offering, wish=WISH))
    await members.enact()
    await members.publish(members.offer(price_plan=MONTHLY))
    over = await world.mandate_request(buyer, members.asked.name)
    negotiation = await world.negotiation(buyer, over.negotiation)
    assert over.state == CONTINUED and negotiation.state == pb.NEGOTIATION_STATE_AGREED
    assert (await world.license(buyer, negotiation.license)).terms.price_plan == MONTHLY
