"""The members' rules as licensing heard them: the last word before every signature, in whatever order they were told."""

import asyncio

import grpc
import pytest
from house import refused
from licensing_world import ACADEMIC, COMPANY, World, euro

from rochdale.catalog.v1 import events_pb2 as catalog_events
from rochdale.governance.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import now
from rochdale_kit.refusals import refusal_of


async def test_a_narrowing_between_request_and_acceptance_binds(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    asked = await world.ask(buyer, shelf.offering, wish=pb.Wish(price=euro(80_000)))
    await shelf.narrow(floor_price=euro(90_000))
    async with refused("REQUEST_OUTSIDE_RULE", escapes="floor_price"):
        await world.accept(shelf.steward, asked)
    offered = await world.counter(shelf.steward, asked, price=euro(90_000))
    agreed = await world.accept(buyer, offered)
    terms = (await world.license(buyer, agreed.license)).terms
    assert (terms.rule_revision, terms.rule_hash) == (2, shelf.rule.rule_hash)


async def test_an_ended_rule_allows_nothing(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    asked = await world.ask(buyer, shelf.offering, wish=pb.Wish(price=euro(80_000)))
    await shelf.end(shelf.rule)
    for call in (
        world.accept(shelf.steward, asked),
        world.counter(shelf.steward, asked, price=euro(90_000)),
        world.ask(buyer, shelf.offering),
    ):
        async with refused("RULE_NOT_IN_FORCE", sharing_rule=shelf.rule.name):
            await call


async def test_a_denial_wins_over_every_allowance(world: World) -> None:
    shelf, company, academic = await world.shelf(), await world.buyer(COMPANY), await world.buyer(ACADEMIC)
    asked = await world.ask(company, shelf.offering, wish=pb.Wish(price=euro(80_000)))
    await shelf.deny(categories=[COMPANY])
    async with refused("REQUEST_OUTSIDE_RULE", escapes="deny"):
        await world.ask(company, shelf.offering)
    async with refused("REQUEST_OUTSIDE_RULE", escapes="deny"):
        await world.accept(shelf.steward, asked)
    assert (await world.ask(academic, shelf.offering)).license


async def test_a_denial_cannot_be_sold_under(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    shelf.rule = await shelf.deny()
    await shelf.publish()
    async with refused("RULE_NOT_IN_FORCE"):
        await world.ask(buyer, shelf.offering)


async def test_another_cooperatives_denial_is_its_own(world: World) -> None:
    shelf, other, buyer = await world.shelf(), await world.shelf(), await world.buyer()
    await other.deny()
    assert (await world.ask(buyer, shelf.offering)).license


@pytest.mark.parametrize("twice", [False, True])
async def test_revisions_told_backwards_and_twice_end_where_the_next_begins(world: World, twice: bool) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    shelf.rule = shelf.new_rule()
    first = shelf.rule
    shelf.rule = second = shelf.next_rule(territories=["DE"])
    shelf.rule = third = shelf.next_rule(territories=["FR"])
    for _ in range(1 + twice):
        await world.tell(events_pb2.RuleNarrowed(sharing_rule=third))
        await world.tell(events_pb2.RuleNarrowed(sharing_rule=second))
        await world.tell(events_pb2.RuleEnacted(sharing_rule=first))
    await shelf.publish()
    async with refused("REQUEST_OUTSIDE_RULE", escapes="territories"):
        await world.ask(buyer, shelf.offering)
    french = await world.ask(await world.buyer(territory="FR"), shelf.offering)
    assert (await world.license(shelf.steward, french.license)).terms.rule_revision == 3


async def test_an_end_once_known_is_not_forgotten(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    await shelf.end(shelf.rule)
    await world.tell(events_pb2.RuleEnacted(sharing_rule=shelf.rule))
    async with refused("RULE_NOT_IN_FORCE"):
        await world.ask(buyer, shelf.offering)


async def test_a_closing_heard_before_the_publication_still_closes(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    shelf.offering = shelf.new_offering()
    await world.tell(catalog_events.OfferingClosed(offering=shelf.closed()))
    await world.tell(catalog_events.OfferingPublished(offering=shelf.offering))
    async with refused("OFFERING_CLOSED"):
        await world.ask(buyer, shelf.offering)


async def test_signatures_race_a_narrowing_and_none_is_signed_after_it(world: World) -> None:
    shelf = await world.shelf(tiers=[((ACADEMIC, COMPANY), euro(0))])
    buyers = [await world.buyer() for _ in range(6)]
    narrowed = shelf.next_rule(territories=["FR"])

    async def ask(number: int) -> pb.Negotiation | str:
        await asyncio.sleep(number * 0.004)
        try:
            return await world.ask(buyers[number], shelf.offering)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason

    async def narrow() -> None:
        await asyncio.sleep(0.01)
        narrowed.effective_time.FromDatetime(now())
        shelf.authority.signed_rule(narrowed)
        await world.tell(events_pb2.RuleNarrowed(sharing_rule=narrowed))

    *outcomes, _ = await asyncio.gather(*map(ask, range(6)), narrow())
    for outcome in outcomes:
        if isinstance(outcome, pb.Negotiation):
            terms = (await world.license(shelf.steward, outcome.license)).terms
            # What was signed under the first revision was signed before licensing had heard of the second; the broker
            # finds those few that were signed after it took effect.
            assert terms.rule_revision == 1
        else:
            assert outcome == "REQUEST_OUTSIDE_RULE"
    async with refused("REQUEST_OUTSIDE_RULE"):
        await world.ask(buyers[0], shelf.offering)
