"""Prices that are due again, and by use: shown before they are agreed, agreed as they were published, never negotiated."""

from house import refused
from licensing_world import DAY, World, euro

from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import pricing_pb2
from rochdale_kit.chain import flaw_of_offering
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.signing import canonical_hash

MONTHLY = pricing_pb2.PricePlan(
    interval=pricing_pb2.BILLING_INTERVAL_MONTH,
    metered=[pricing_pb2.MeteredPrice(meter=pricing_pb2.METER_GIGABYTE, unit_price="2.5", included="10", cap="1000")],
)
YEARLY = pricing_pb2.PricePlan(interval=pricing_pb2.BILLING_INTERVAL_YEAR)


async def test_a_license_is_agreed_at_the_plan_it_was_quoted(world: World) -> None:
    shelf, buyer = await world.shelf(plan=MONTHLY), await world.buyer()
    quote = await world.quote(buyer, shelf.offering)
    assert (quote.price, quote.price_plan) == (euro(120_000), MONTHLY)
    assert quote.quote_hash == canonical_hash(quote, "offering", "scope", "price", "price_plan")
    negotiation = await world.ask(buyer, shelf.offering, quote=quote.name)
    assert (negotiation.state, negotiation.price_plan) == (pb.NEGOTIATION_STATE_AGREED, MONTHLY)
    license = await world.license(buyer, negotiation.license)
    assert license.terms.price_plan == MONTHLY and license.terms_hash == canonical_hash(license.terms)
    keys = CooperativeKeys.follow(shelf.authority.name, shelf.authority.document().signing_keys)
    assert flaw_of_offering(license.terms, shelf.offering, keys) is None
    # Its first period is paid, and that begins all of it.
    await world.pay(license)
    assert (await world.license(buyer, license.name)).state == pb.LICENSE_STATE_ACTIVE


async def test_what_is_due_once_says_nothing_of_a_plan(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    assert not (await world.quote(buyer, shelf.offering)).HasField("price_plan")
    negotiation = await world.ask(buyer, shelf.offering)
    license = await world.license(buyer, negotiation.license)
    assert not negotiation.HasField("price_plan") and not license.terms.HasField("price_plan")


async def test_a_price_is_negotiated_and_its_plan_is_not(world: World) -> None:
    shelf, buyer = await world.shelf(plan=MONTHLY), await world.buyer()
    negotiation = await world.ask(buyer, shelf.offering, wish=pb.Wish(price=euro(90_000)))
    assert (negotiation.state, negotiation.price_plan) == (pb.NEGOTIATION_STATE_REQUESTED, MONTHLY)
    offered = await world.counter(shelf.steward, negotiation, price=euro(100_000))
    assert (offered.price, offered.price_plan) == (euro(100_000), MONTHLY)
    agreed = await world.accept(buyer, offered)
    terms = (await world.license(buyer, agreed.license)).terms
    assert (terms.price, terms.price_plan) == (euro(100_000), MONTHLY)


async def test_no_license_is_shorter_than_what_is_paid_for(world: World) -> None:
    shelf, buyer = await world.shelf(plan=MONTHLY), await world.buyer()
    short = pb.Wish(duration_seconds=27 * DAY)
    async with refused("DURATION_BELOW_PERIOD", period_seconds=str(28 * DAY), duration_seconds=str(27 * DAY)):
        await world.quote(buyer, shelf.offering, wish=short)
    async with refused("DURATION_BELOW_PERIOD"):
        await world.ask(buyer, shelf.offering, wish=short)
    negotiation = await world.ask(buyer, shelf.offering, wish=pb.Wish(price=euro(1), duration_seconds=28 * DAY))
    async with refused("DURATION_BELOW_PERIOD"):
        await world.counter(shelf.steward, negotiation, duration_seconds=27 * DAY, price=euro(5))
    # An offering that its catalog should have refused is refused here too.
    yearly = await world.shelf(plan=YEARLY)
    async with refused("DURATION_BELOW_PERIOD"):
        await world.ask(buyer, yearly.offering)


async def test_an_order_for_use_or_a_later_period_begins_nothing(world: World) -> None:
    shelf, buyer = await world.shelf(plan=MONTHLY), await world.buyer()
    license = await world.license(buyer, (await world.ask(buyer, shelf.offering)).license)
    for kind in ("PERIOD", "USAGE"):
        # Not even one that has another amount is a mismatch: it bills something else than the start.
        assert await world.pay(license, kind=f"ORDER_KIND_{kind}", amount=euro(17)) == ""
        assert await world.cancel_order(license, kind=f"ORDER_KIND_{kind}") == ""
    assert (await world.license(buyer, license.name)).state == pb.LICENSE_STATE_AGREED
    await world.pay(license, kind="ORDER_KIND_LICENSE")
    active = await world.license(buyer, license.name)
    await world.pay(license, kind="ORDER_KIND_PERIOD")
    assert await world.license(buyer, license.name) == active
    assert await world.told(license.name) == ["LicenseAgreed", "LicenseActivated"]
