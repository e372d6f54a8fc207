"""What a quote says, how long it holds, and what nobody can make of it."""

import pytest
from house import refused, request_id
from licensing_world import ACADEMIC, COMPANY, DAY, World, euro

from rochdale.catalog.v1 import events_pb2 as catalog_events
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.signing import canonical_hash


async def test_the_same_offering_is_free_for_an_academic_and_priced_for_a_company(world: World) -> None:
    shelf, company, academic = await world.shelf(), await world.buyer(COMPANY), await world.buyer(ACADEMIC)
    assert (await world.quote(company, shelf.offering)).price == euro(120_000)
    assert (await world.quote(academic, shelf.offering)).price == euro(0)


async def test_a_quote_is_for_the_buyer_as_it_is_and_says_so_in_its_hash(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer(territory="FR")
    wish = pb.Wish(
        purposes=["AcademicResearch", "AcademicResearch"],
        actions=[scope_pb2.USE_ACTION_ANALYZE],
        columns=["age"],
        mode=scope_pb2.ACCESS_MODE_STREAM,
        duration_seconds=DAY,
        price=euro(5),
    )
    quote = await world.quote(buyer, shelf.offering, wish=wish)
    scope = quote.scope
    assert list(scope.categories) == [COMPANY] and list(scope.territories) == ["FR"]
    assert list(scope.purposes) == ["AcademicResearch"] and list(scope.datasets[0].columns) == ["age"]
    assert scope.max_mode == scope_pb2.ACCESS_MODE_STREAM and scope.max_duration_seconds == DAY
    # A price in the wish is ignored: a quote is what the cooperative asks.
    assert quote.price == scope.floor_price == euro(120_000)
    assert quote.quote_hash == canonical_hash(quote, "offering", "scope", "price")
    assert list(scope.duties) == list(shelf.offering.scope.duties)


@pytest.mark.parametrize(
    ("wish", "dimension"),
    [
        (pb.Wish(purposes=["Marketing"]), "purposes"),
        (pb.Wish(purposes=["no such thing"]), "purposes"),
        (pb.Wish(actions=[scope_pb2.USE_ACTION_COMMERCIALIZE_MODEL]), "actions"),
        (pb.Wish(columns=["name"]), "columns"),
        (pb.Wish(mode=99), "max_mode"),  # type: ignore[arg-type] # a mode of a newer contract
        (pb.Wish(duration_seconds=31 * DAY), "max_duration_seconds"),
    ],
)
async def test_a_wish_beyond_the_offering_is_named_by_dimension(world: World, wish: pb.Wish, dimension: str) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    async with refused("REQUEST_OUTSIDE_OFFERING", escapes=dimension):
        await world.quote(buyer, shelf.offering, wish=wish)
    async with refused("REQUEST_OUTSIDE_OFFERING", escapes=dimension):
        await world.ask(buyer, shelf.offering, wish=wish)


async def test_columns_of_several_datasets_cannot_be_told_apart(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    datasets = [
        scope_pb2.DatasetScope(
            dataset=f"cooperatives/{shelf.cooperative}/datasets/{name}", first_version=1, columns=["age"]
        )
        for name in ("visits", "trips")
    ]
    await shelf.enact(datasets=datasets)
    await shelf.publish(datasets=datasets)
    assert len((await world.quote(buyer, shelf.offering)).scope.datasets) == 2
    async with refused("REQUEST_OUTSIDE_OFFERING", escapes="columns", datasets="2"):
        await world.quote(buyer, shelf.offering, wish=pb.Wish(columns=["age"]))


async def test_where_the_buyer_sits_and_what_it_is_decide(world: World) -> None:
    shelf = await world.shelf()
    async with refused("REQUEST_OUTSIDE_OFFERING", escapes="territories"):
        await world.quote(await world.buyer(territory="US"), shelf.offering)
    async with refused("CATEGORY_NOT_OFFERED", category="BUYER_CATEGORY_SME"):
        await world.quote(await world.buyer(scope_pb2.BUYER_CATEGORY_SME), shelf.offering)
    everywhere = await world.shelf(rule={"territories": ["WORLD"]}, territories=["WORLD"])
    quote = await world.quote(await world.buyer(territory="US"), everywhere.offering)
    assert list(quote.scope.territories) == ["US"]


async def test_nothing_is_quoted_that_is_closed_or_not_there(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    unheard = shelf.new_offering()
    async with refused("NOT_FOUND", name=unheard.name):
        await world.quote(buyer, unheard)
    await world.tell(catalog_events.OfferingClosed(offering=shelf.closed()))
    async with refused("OFFERING_CLOSED", offering=shelf.offering.name, close_reason="STEWARD"):
        await world.quote(buyer, shelf.offering)


async def test_a_quote_holds_the_market_to_its_word(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    quote = await world.quote(buyer, shelf.offering, wish=pb.Wish(columns=["age"], price=euro(5)))
    negotiation = await world.ask(buyer, shelf.offering, quote=quote.name)
    assert negotiation.state == pb.NEGOTIATION_STATE_AGREED
    assert negotiation.scope == quote.scope and negotiation.price == quote.price


async def test_a_quote_is_its_owners_only(world: World) -> None:
    shelf, buyer, thief = await world.shelf(), await world.buyer(), await world.buyer()
    quote = await world.quote(buyer, shelf.offering)
    async with refused("NOT_FOUND", name=quote.name):
        await world.ask(thief, shelf.offering, quote=quote.name)


async def test_a_quote_ends_after_a_day(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    quote = await world.quote(buyer, shelf.offering)
    await world.age("quote", quote.name, "expire_time")
    async with refused("QUOTE_EXPIRED", quote=quote.name):
        await world.ask(buyer, shelf.offering, quote=quote.name)


async def test_a_quote_cannot_be_bent(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    quoted = shelf.offering
    quote = await world.quote(buyer, quoted)
    async with refused("QUOTE_MISMATCH", quote=quote.name):
        await world.ask(buyer, quoted, quote=quote.name, wish=pb.Wish(columns=["age"]))
    other = await shelf.publish()
    async with refused("QUOTE_MISMATCH", quote=quote.name):
        await world.ask(buyer, other, quote=quote.name)
    # Quoted as a company, now an academic: the free price was never quoted.
    await world.attest(buyer, ACADEMIC)
    async with refused("QUOTE_MISMATCH", quote=quote.name):
        await world.ask(buyer, quoted, quote=quote.name)


async def test_a_quote_outlives_neither_the_offering_nor_the_rule(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    quote = await world.quote(buyer, shelf.offering)
    await shelf.narrow(territories=["FR"])
    async with refused("REQUEST_OUTSIDE_RULE", escapes="territories"):
        await world.ask(buyer, shelf.offering, quote=quote.name)
    await world.tell(catalog_events.OfferingClosed(offering=shelf.closed()))
    async with refused("OFFERING_CLOSED"):
        await world.ask(buyer, shelf.offering, quote=quote.name)


async def test_a_retry_gets_the_same_quote(world: World) -> None:
    shelf, buyer, id = await world.shelf(), await world.buyer(), request_id()
    first = await world.quote(buyer, shelf.offering, request_id=id)
    assert await world.quote(buyer, shelf.offering, request_id=id) == first
    async with refused("REQUEST_ID_REUSED"):
        await world.quote(buyer, shelf.offering, request_id=id, wish=pb.Wish(columns=["age"]))
