"""Asking for a license: agreed at once at the listed price, counted, and never twice."""

import asyncio
from typing import Any

import grpc
import pytest
from house import refused, request_id
from licensing_world import ACADEMIC, COMPANY, DAY, World, euro

from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit import scope as scopes
from rochdale_kit.refusals import refusal_of
from rochdale_kit.signing import canonical_hash


async def test_at_the_listed_price_it_is_agreed_at_once_and_every_step_says_by_whom(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    negotiation = await world.ask(buyer, shelf.offering, message="hello")
    assert [(step.number, step.party, step.state) for step in negotiation.steps] == [
        (1, pb.PARTY_BUYER, pb.NEGOTIATION_STATE_REQUESTED),
        (2, pb.PARTY_MARKET, pb.NEGOTIATION_STATE_OFFERED),
        (3, pb.PARTY_MARKET, pb.NEGOTIATION_STATE_ACCEPTED),
        (4, pb.PARTY_MARKET, pb.NEGOTIATION_STATE_AGREED),
    ]
    assert negotiation.steps[0].message == "hello" and negotiation.cooperative == f"cooperatives/{shelf.cooperative}"
    assert await world.negotiation(buyer, negotiation.name) == negotiation
    assert await world.told(negotiation.license) == ["LicenseAgreed"]


async def test_the_terms_say_everything_and_hash_to_what_they_say(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    negotiation = await world.ask(buyer, shelf.offering, wish=pb.Wish(duration_seconds=7 * DAY, columns=["age"]))
    license = await world.license(buyer, negotiation.license)
    terms = license.terms
    assert license.state == pb.LICENSE_STATE_AGREED and license.negotiation == negotiation.name
    assert not license.HasField("activate_time") and not license.HasField("end_time")
    assert license.terms_hash == canonical_hash(terms)
    assert (terms.license, terms.licensor, terms.licensee) == (
        license.name,
        f"cooperatives/{shelf.cooperative}",
        f"licensees/{buyer.organization}",
    )
    assert (terms.offering, terms.offering_hash) == (shelf.offering.name, shelf.offering.offering_hash)
    assert (terms.sharing_rule, terms.rule_revision, terms.rule_hash) == (shelf.rule.name, 1, shelf.rule.rule_hash)
    assert terms.category == COMPANY and terms.emergency_suspension
    assert terms.price == terms.scope.floor_price == euro(120_000)
    assert terms.duration_seconds == terms.scope.max_duration_seconds == 7 * DAY
    assert not scopes.escapes(shelf.rule.scope, terms.scope)


async def test_a_free_license_is_agreed_and_still_waits_for_its_order(world: World) -> None:
    shelf, academic = await world.shelf(), await world.buyer(ACADEMIC)
    negotiation = await world.ask(academic, shelf.offering)
    assert negotiation.price == euro(0) and negotiation.state == pb.NEGOTIATION_STATE_AGREED


async def test_naming_the_listed_price_is_asking_for_nothing_else(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    negotiation = await world.ask(buyer, shelf.offering, wish=pb.Wish(price=euro(120_000)))
    assert negotiation.state == pb.NEGOTIATION_STATE_AGREED


@pytest.mark.parametrize("cents", [100_000, 150_000])
async def test_another_price_higher_or_lower_is_for_the_cooperative_to_answer(world: World, cents: int) -> None:
    shelf = await world.shelf(rule={"floor_price": euro(100_000)}, tiers=[((COMPANY,), euro(120_000))])
    buyer = await world.buyer()
    negotiation = await world.ask(buyer, shelf.offering, wish=pb.Wish(price=euro(cents)), message="please")
    assert negotiation.state == pb.NEGOTIATION_STATE_REQUESTED and not negotiation.license
    assert [step.party for step in negotiation.steps] == [pb.PARTY_BUYER]
    assert negotiation.HasField("expire_time")


async def test_below_the_floor_the_rule_says_no(world: World) -> None:
    shelf = await world.shelf(rule={"floor_price": euro(100_000)}, tiers=[((COMPANY,), euro(120_000))])
    buyer = await world.buyer()
    async with refused("REQUEST_OUTSIDE_RULE", escapes="floor_price"):
        await world.ask(buyer, shelf.offering, wish=pb.Wish(price=euro(99_999)))


async def test_another_currency_is_no_price_here(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    async with refused("CURRENCY_UNKNOWN", currency="ZZZ"):
        await world.ask(buyer, shelf.offering, wish=pb.Wish(price=Money(amount_minor=1, currency="ZZZ")))
    async with refused("REQUEST_OUTSIDE_RULE", escapes="floor_price"):
        await world.ask(buyer, shelf.offering, wish=pb.Wish(price=Money(amount_minor=900_000, currency="USD")))
    async with refused("REQUEST_INVALID"):
        await world.ask(buyer, shelf.offering, wish=pb.Wish(price=Money(amount_minor=-1, currency="EUR")))


async def test_longer_than_offered_is_negotiable_up_to_the_rule_and_only_with_a_price(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    async with refused("REQUEST_OUTSIDE_OFFERING", escapes="max_duration_seconds"):
        await world.ask(buyer, shelf.offering, wish=pb.Wish(duration_seconds=60 * DAY))
    longer = pb.Wish(duration_seconds=60 * DAY, price=euro(200_000))
    assert (await world.ask(buyer, shelf.offering, wish=longer)).state == pb.NEGOTIATION_STATE_REQUESTED
    async with refused("REQUEST_OUTSIDE_RULE", escapes="max_duration_seconds"):
        longest = pb.Wish(duration_seconds=366 * DAY, price=euro(200_000))
        await world.ask(buyer, shelf.offering, wish=longest)


async def test_a_price_buys_nothing_the_offering_does_not_hold(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    narrow = await shelf.publish(
        datasets=[
            {"dataset": f"cooperatives/{shelf.cooperative}/datasets/visits", "first_version": 1, "columns": ["age"]}
        ]
    )
    async with refused("REQUEST_OUTSIDE_OFFERING", escapes="columns"):
        await world.ask(buyer, narrow, wish=pb.Wish(columns=["site"], price=euro(999_999)))


async def test_the_same_request_twice_is_one_license(world: World) -> None:
    shelf, buyer, id = await world.shelf(), await world.buyer(), request_id()
    both = await asyncio.gather(*(world.ask(buyer, shelf.offering, request_id=id) for _ in range(8)))
    assert all(one == both[0] for one in both)
    listed = await world.licensing.ListLicenses(pb.ListLicensesRequest(), metadata=buyer.metadata)
    assert [license.name for license in listed.licenses] == [both[0].license]
    assert await world.told(both[0].license) == ["LicenseAgreed"]
    async with refused("REQUEST_ID_REUSED", request_id=id):
        await world.ask(buyer, shelf.offering, request_id=id, wish=pb.Wish(columns=["age"]))


async def test_a_refused_request_leaves_nothing_and_its_id_may_come_again(world: World) -> None:
    shelf, buyer, id = await world.shelf(), await world.buyer(attested=False), request_id()
    async with refused("LICENSEE_NOT_ATTESTED"):
        await world.ask(buyer, shelf.offering, request_id=id)
    await world.attest(buyer, COMPANY)
    assert (await world.ask(buyer, shelf.offering, request_id=id)).license
    listed = await world.licensing.ListNegotiations(pb.ListNegotiationsRequest(), metadata=buyer.metadata)
    assert len(listed.negotiations) == 1 and not listed.negotiations[0].steps


@pytest.mark.parametrize("where", ["offering", "rule"])
async def test_buyers_racing_for_the_last_licenses_win_exactly_as_many_as_there_are(world: World, where: str) -> None:
    limited: dict[str, Any] = {"max_licenses": 2}
    if where == "offering":
        shelf = await world.shelf(**limited)
        offerings = [shelf.offering]
    else:
        # The members said how many, and a second offering under their rule does not double it.
        shelf = await world.shelf(rule=limited, **limited)
        offerings = [shelf.offering, await shelf.publish(**limited)]
    buyers = [await world.buyer() for _ in range(6)]

    async def ask(number: int) -> str:
        try:
            await world.ask(buyers[number], offerings[number % len(offerings)])
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason
        return "AGREED"

    outcomes = await asyncio.gather(*map(ask, range(6)))
    assert sorted(outcomes) == ["AGREED"] * 2 + ["LICENSES_EXHAUSTED"] * 4


async def test_a_license_that_ended_makes_room(world: World) -> None:
    shelf, first, second = await world.shelf(max_licenses=1), await world.buyer(), await world.buyer()
    taken = await world.ask(first, shelf.offering)
    async with refused("LICENSES_EXHAUSTED", name=shelf.offering.name, max_licenses="1"):
        await world.ask(second, shelf.offering)
    await world.terminate(first, taken.license)
    assert (await world.ask(second, shelf.offering)).license


async def test_an_offering_whose_window_is_over_sells_nothing(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    over = await shelf.publish(not_after={"seconds": 1_700_000_000})
    async with refused("OFFERING_CLOSED", offering=over.name):
        await world.ask(buyer, over)


async def test_a_steward_does_not_buy(world: World) -> None:
    shelf = await world.shelf()
    async with refused("ROLE_MISSING"):
        await world.ask(shelf.steward, shelf.offering)
