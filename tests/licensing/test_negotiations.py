"""Counter-offers go both ways until both agree, one ends it, or nobody answers."""

import asyncio

import grpc
from house import Person, refused, request_id
from licensing_world import ACADEMIC, COMPANY, DAY, Shelf, World, euro

from rochdale.catalog.v1 import events_pb2 as catalog_events
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.refusals import refusal_of

REQUESTED, OFFERED = pb.NEGOTIATION_STATE_REQUESTED, pb.NEGOTIATION_STATE_OFFERED
ACCEPTED, AGREED = pb.NEGOTIATION_STATE_ACCEPTED, pb.NEGOTIATION_STATE_AGREED
TERMINATED = pb.NEGOTIATION_STATE_TERMINATED


async def haggling(world: World, **rule: object) -> tuple[Shelf, Person, pb.Negotiation]:
    """A company asks for less than the listed 1,200 euros."""
    shelf, buyer = await world.shelf(rule=rule), await world.buyer()
    return shelf, buyer, await world.ask(buyer, shelf.offering, wish=pb.Wish(price=euro(80_000)))


async def test_they_meet_in_the_middle(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    offered = await world.counter(shelf.steward, asked, price=euro(100_000), duration_seconds=60 * DAY)
    assert offered.state == OFFERED and offered.price == euro(100_000)
    again = await world.counter(buyer, offered, price=euro(90_000), duration_seconds=90 * DAY)
    assert again.state == REQUESTED
    agreed = await world.accept(shelf.steward, again)
    assert [(step.party, step.state) for step in agreed.steps] == [
        (pb.PARTY_BUYER, REQUESTED),
        (pb.PARTY_COOPERATIVE, OFFERED),
        (pb.PARTY_BUYER, REQUESTED),
        (pb.PARTY_COOPERATIVE, AGREED),
    ]
    assert len({asked.etag, offered.etag, again.etag, agreed.etag}) == 4
    license = await world.license(buyer, agreed.license)
    assert license.terms.price == euro(90_000) and license.terms.duration_seconds == 90 * DAY
    assert await world.told(license.name) == ["LicenseAgreed"]


async def test_the_buyer_takes_an_offer(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    offered = await world.counter(shelf.steward, asked, price=euro(100_000))
    agreed = await world.accept(buyer, offered)
    assert [(step.party, step.state) for step in agreed.steps[2:]] == [
        (pb.PARTY_BUYER, ACCEPTED),
        (pb.PARTY_MARKET, AGREED),
    ]


async def test_a_counter_without_a_price_keeps_it_and_takes_the_rest_from_the_offering(world: World) -> None:
    shelf, _, asked = await haggling(world)
    offered = await world.counter(shelf.steward, asked, columns=["age"])
    assert offered.price == euro(80_000) and list(offered.scope.datasets[0].columns) == ["age"]
    assert offered.scope.max_duration_seconds == shelf.offering.scope.max_duration_seconds


async def test_nobody_moves_out_of_turn(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    async with refused("NOT_YOUR_MOVE", state="NEGOTIATION_STATE_REQUESTED"):
        await world.counter(buyer, asked, price=euro(1))
    async with refused("NOT_YOUR_MOVE"):
        await world.accept(buyer, asked)
    offered = await world.counter(shelf.steward, asked, price=euro(100_000))
    async with refused("NOT_YOUR_MOVE", state="NEGOTIATION_STATE_OFFERED"):
        await world.accept(shelf.steward, offered)
    agreed = await world.accept(buyer, offered)
    async with refused("NOT_YOUR_MOVE", state="NEGOTIATION_STATE_AGREED"):
        await world.accept(buyer, agreed)


async def test_nobody_answers_what_they_have_not_seen(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    offered = await world.counter(shelf.steward, asked, price=euro(100_000))
    async with refused("NEGOTIATION_CHANGED", etag=offered.etag):
        await world.counter(buyer, asked, price=euro(90_000))
    # Asked again at 900, the cooperative cannot be surprised into agreeing to it with what it saw at 800.
    await world.counter(buyer, offered, price=euro(90_000))
    async with refused("NEGOTIATION_CHANGED"):
        await world.accept(shelf.steward, asked)


async def test_no_counter_leaves_the_rule_or_what_is_not_negotiable(world: World) -> None:
    shelf, _, asked = await haggling(world, floor_price=euro(0), max_duration_seconds=100 * DAY)
    async with refused("REQUEST_OUTSIDE_RULE", escapes="max_duration_seconds"):
        await world.counter(shelf.steward, asked, duration_seconds=101 * DAY)
    async with refused("REQUEST_OUTSIDE_OFFERING", escapes="columns"):
        await world.counter(shelf.steward, asked, columns=["name"])
    async with refused("CURRENCY_UNKNOWN"):
        await world.counter(shelf.steward, asked, price={"amount_minor": 1, "currency": "ZZZ"})


async def test_retries_get_the_first_answer(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    counter = pb.CounterRequest(
        request_id=request_id(), name=asked.name, etag=asked.etag, wish=pb.Wish(price=euro(100_000))
    )
    first = await world.licensing.Counter(counter, metadata=shelf.steward.metadata)
    assert await world.licensing.Counter(counter, metadata=shelf.steward.metadata) == first
    accept = pb.AcceptNegotiationRequest(request_id=request_id(), name=first.name, etag=first.etag)
    both = await asyncio.gather(*(world.licensing.AcceptNegotiation(accept, metadata=buyer.metadata) for _ in range(5)))
    assert all(one == both[0] for one in both)
    assert await world.told(both[0].license) == ["LicenseAgreed"]
    accept.etag = both[0].etag
    async with refused("REQUEST_ID_REUSED"):
        await world.licensing.AcceptNegotiation(accept, metadata=buyer.metadata)


async def test_two_stewards_answer_at_once_and_one_answer_counts(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    colleague = await world.house.colleague(shelf.steward)

    async def answer(steward: Person, cents: int | None) -> str:
        try:
            await (world.counter(steward, asked, price=euro(cents)) if cents else world.accept(steward, asked))
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason
        return "done"

    outcomes = await asyncio.gather(answer(shelf.steward, 100_000), answer(colleague, None), answer(colleague, 90_000))
    assert sorted(outcomes) == ["NEGOTIATION_CHANGED", "NEGOTIATION_CHANGED", "done"]
    assert len((await world.negotiation(buyer, asked.name)).steps) == 2


async def test_either_side_ends_it_once(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    ended = await world.call_off(shelf.steward, asked)
    assert ended.state == TERMINATED and ended.steps[-1].party == pb.PARTY_COOPERATIVE
    assert ended.steps[-1].message == "no" and not ended.HasField("expire_time") and not ended.license
    async with refused("NEGOTIATION_OVER", state="NEGOTIATION_STATE_TERMINATED"):
        await world.call_off(buyer, asked)
    async with refused("NOT_YOUR_MOVE"):
        await world.accept(shelf.steward, ended)


async def test_what_led_to_a_license_ends_with_the_license_only(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    agreed = await world.ask(buyer, shelf.offering)
    async with refused("NEGOTIATION_OVER", license=agreed.license):
        await world.call_off(buyer, agreed)


async def test_silence_ends_it(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    await world.age("negotiation", asked.name, "expire_time")
    async with refused("NOT_YOUR_MOVE"):
        # Either the loop was here already and the etag is another, or the deadline itself says no.
        try:
            await world.accept(shelf.steward, asked)
        except grpc.aio.AioRpcError as error:
            if refusal_of(error).reason != "NEGOTIATION_CHANGED":
                raise
            await world.accept(shelf.steward, await world.negotiation(buyer, asked.name))
    ended = await world.until_state(buyer, asked.name, TERMINATED)
    assert ended.steps[-1].party == pb.PARTY_MARKET and len(ended.steps) == 2


async def test_a_closed_offering_ends_in_no_license(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    await world.tell(catalog_events.OfferingClosed(offering=shelf.closed()))
    async with refused("OFFERING_CLOSED"):
        await world.accept(shelf.steward, asked)
    async with refused("OFFERING_CLOSED"):
        await world.counter(shelf.steward, asked, price=euro(100_000))
    assert (await world.negotiation(buyer, asked.name)).state == REQUESTED


async def test_a_buyer_that_became_another_is_not_sold_the_old_terms(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    await world.claim(buyer, COMPANY, "FR")
    async with refused("LICENSEE_NOT_ATTESTED"):
        await world.accept(shelf.steward, asked)
    await world.attest(buyer, ACADEMIC)
    async with refused("LICENSEE_CHANGED", licensee=asked.licensee):
        await world.accept(shelf.steward, asked)
    # New terms are made for who it is now: an academic in France.
    offered = await world.counter(shelf.steward, asked, duration_seconds=DAY)
    agreed = await world.accept(buyer, offered)
    terms = (await world.license(buyer, agreed.license)).terms
    assert terms.category == ACADEMIC and list(terms.scope.territories) == ["FR"]


async def test_the_last_license_may_go_while_two_negotiate(world: World) -> None:
    shelf, slow, quick = await world.shelf(max_licenses=1), await world.buyer(), await world.buyer()
    asked = await world.ask(slow, shelf.offering, wish=pb.Wish(price=euro(80_000)))
    await world.ask(quick, shelf.offering)
    async with refused("LICENSES_EXHAUSTED"):
        await world.accept(shelf.steward, asked)


async def test_somebody_elses_negotiation_does_not_exist(world: World) -> None:
    shelf, buyer, asked = await haggling(world)
    stranger, elsewhere = await world.buyer(), await world.shelf()
    for nosy in (stranger, elsewhere.steward):
        async with refused("NOT_FOUND") as there:
            await world.negotiation(nosy, asked.name)
        absent = asked.name[:-4] + "0000"
        async with refused("NOT_FOUND") as nowhere:
            await world.negotiation(nosy, absent)
        assert there[0].message.replace(asked.name, absent) == nowhere[0].message
        for call in (
            world.counter(nosy, asked, price=euro(1)),
            world.accept(nosy, asked),
            world.call_off(nosy, asked),
        ):
            async with refused("NOT_FOUND", name=asked.name):
                await call
        listed = await world.licensing.ListNegotiations(pb.ListNegotiationsRequest(), metadata=nosy.metadata)
        assert asked.name not in [negotiation.name for negotiation in listed.negotiations]
    for entitled in (buyer, shelf.steward, await world.house.operator()):
        assert await world.negotiation(entitled, asked.name) == asked


async def test_negotiations_come_newest_first_in_pages_and_by_state(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    made = [await world.ask(buyer, shelf.offering, wish=pb.Wish(price=euro(cents))) for cents in range(1, 6)]
    await world.call_off(buyer, made[2])
    seen, token = [], ""
    while True:
        page = await world.licensing.ListNegotiations(
            pb.ListNegotiationsRequest(page_size=2, page_token=token, state=REQUESTED), metadata=shelf.steward.metadata
        )
        seen += [negotiation.name for negotiation in page.negotiations]
        token = page.next_page_token
        if not token:
            break
    assert seen == [made[number].name for number in (4, 3, 1, 0)]
    page = await world.licensing.ListNegotiations(pb.ListNegotiationsRequest(page_size=1), metadata=buyer.metadata)
    assert page.negotiations[0].etag == made[4].etag and not page.negotiations[0].steps
    async with refused("PAGE_TOKEN_INVALID"):
        await world.licensing.ListNegotiations(
            pb.ListNegotiationsRequest(page_token=page.next_page_token), metadata=shelf.steward.metadata
        )
