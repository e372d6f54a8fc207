"""From LicenseActivated to a grant: exactly one, and only if the whole chain holds."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from broker_market import DAY, YEAR, Deal, Market, Site, until
from house import Person, refused

from access_broker import main
from access_broker.config import Config
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import events_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import hash_of_grant
from rochdale_kit.database import Database, parked_table
from rochdale_kit.signing import GRANT_PREFIX, KeySet, verify_hash


async def test_a_license_becomes_a_grant_and_its_gateway_hears_the_whole_chain(
    market: Market, site: Site, buyer: Person
) -> None:
    deal = market.deal(site, buyer)
    grant = await market.activate(deal)
    assert grant.state == pb.GRANT_STATE_OPEN and grant.state_reason == ""
    assert grant.holder == f"organizations/{buyer.organization}" and grant.gateway == f"gateways/{site.id}"
    assert grant.scope == deal.terms.scope and grant.terms_hash == deal.license.terms_hash
    assert grant.end_time == deal.license.end_time and grant.grant_hash == hash_of_grant(grant)

    async def told() -> pb.GrantChain | None:
        chains = [event.chain for event in market.told(events_pb2.GrantOpened)]
        return next((chain for chain in chains if chain.grant.name == grant.name), None)

    chain = await until(told)
    assert (chain.grant, chain.terms) == (grant, deal.terms)
    assert (chain.sharing_rule, chain.offering) == (deal.rule, deal.offering)
    assert chain.license_signature == deal.license.signature
    keys = KeySet.from_jwks((await market.broker.GetKeySet(pb.GetKeySetRequest())).jwks_json)
    assert verify_hash(keys, chain.grant_signature, GRANT_PREFIX, grant.grant_hash)
    reply = await market.broker.ListGrantChains(pb.ListGrantChainsRequest(), metadata=site.gateway.metadata)
    assert chain in reply.chains


async def test_twenty_arrivals_at_two_replicas_open_one_grant(market: Market, site: Site, buyer: Person) -> None:
    second = await main.build(
        Config(
            database_url=await market.house.database_url("access_broker"),
            nats_url=market.house.nats.url(),
            identity_address=market.house.services["identity"].grpc_address,
            **market.broker_settings(),
        )
    )
    async with second.running():
        deals = [market.deal(site, buyer) for _ in range(4)]
        for deal in deals:
            market.shelve(deal)
        await asyncio.gather(
            *(market.tell(licensing_events.LicenseActivated(license=deal.license)) for deal in deals for _ in range(20))
        )
        grants = [await market.grant_of(deal) for deal in deals]
        # One more of each, behind the others in the stream, has nothing left to do either.
        last = await market.activate(market.deal(site, buyer))
        assert [await market.grant_of(deal) for deal in deals] == grants

        async def all_told() -> bool:
            return last.name in [event.chain.grant.name for event in market.told(events_pb2.GrantOpened)]

        await until(all_told)
    names = [event.chain.grant.name for event in market.told(events_pb2.GrantOpened)]
    assert all(names.count(grant.name) == 1 for grant in grants)


def rule_narrowed(deal: Deal) -> None:
    # Agreed an hour ago; the rule had ended a second before.
    deal.rule.state = governance_pb2.RULE_STATE_ENDED
    deal.rule.end_time.seconds = deal.terms.agree_time.seconds - 1


def rule_ended_at_that_moment(deal: Deal) -> None:
    deal.rule.end_time.CopyFrom(deal.terms.agree_time)


def rule_begun_too_late(deal: Deal) -> None:
    deal.rule.effective_time.seconds = deal.terms.agree_time.seconds
    deal.rule.effective_time.nanos = 1
    deal.seal()


def rule_only_proposed(deal: Deal) -> None:
    deal.rule.ClearField("effective_time")
    deal.seal()


def rule_forbids(deal: Deal) -> None:
    deal.rule.effect = governance_pb2.RULE_EFFECT_DENY
    deal.seal()


def rule_narrower(deal: Deal) -> None:
    del deal.rule.scope.datasets[0].columns[-1]
    deal.seal()


def price_below_the_rule(deal: Deal) -> None:
    for price in (deal.terms.price, deal.terms.scope.floor_price):
        price.amount_minor = 999
    deal.seal()


def rule_rewritten(deal: Deal) -> None:
    deal.rule.scope.max_duration_seconds += 1


def rule_rewritten_with_its_hash(deal: Deal) -> None:
    cited = deal.terms.rule_hash
    deal.rule.scope.max_duration_seconds += 1
    deal.seal()
    deal.terms.rule_hash = cited
    deal.seal_license()


def other_revision(deal: Deal) -> None:
    deal.terms.rule_revision = 2
    deal.seal()


def revision_zero(deal: Deal) -> None:
    deal.terms.rule_revision = 0
    deal.seal()


def terms_edited(deal: Deal) -> None:
    deal.terms.duration_seconds += 1


def terms_of_another_license(deal: Deal) -> None:
    deal.terms.license = "licenses/lic_00000000000000000000000000"
    deal.seal()


def terms_for_another_category(deal: Deal) -> None:
    deal.terms.category = scope_pb2.BUYER_CATEGORY_ACADEMIC
    deal.seal()


def terms_with_two_prices(deal: Deal) -> None:
    deal.terms.price.amount_minor += 1
    deal.seal()


def terms_longer_than_their_scope(deal: Deal) -> None:
    deal.terms.duration_seconds = YEAR + 1
    deal.seal()


def terms_without_emergency(deal: Deal) -> None:
    deal.terms.emergency_suspension = False
    deal.seal()


def rule_of_another_cooperative(deal: Deal) -> None:
    deal.rule.name = deal.rule.name.replace("cooperatives/", "cooperatives/x")
    deal.terms.sharing_rule = deal.offering.tiers[0].sharing_rule = deal.rule.name
    deal.seal()


def data_of_another_cooperative(deal: Deal) -> None:
    for one in (deal.rule, deal.offering, deal.terms):
        one.scope.datasets[0].dataset = "cooperatives/elsewhere/datasets/claims"
    deal.seal()


def no_dataset(deal: Deal) -> None:
    del deal.terms.scope.datasets[:]
    deal.seal()


def offering_unknown(deal: Deal) -> None:
    deal.terms.offering = deal.terms.offering[:-4] + "0000"
    deal.seal()


def offering_rewritten(deal: Deal) -> None:
    deal.offering.tiers[0].price.amount_minor = 1


def offering_on_another_rule(deal: Deal) -> None:
    deal.offering.tiers[0].sharing_rule = deal.rule.name[:-4] + "0000"
    deal.seal()


def offering_narrower(deal: Deal) -> None:
    deal.offering.scope.max_mode = scope_pb2.ACCESS_MODE_STREAM
    deal.seal()


def offering_of_other_versions(deal: Deal) -> None:
    deal.offering.scope.datasets[0].first_version = 2
    deal.seal()


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (rule_narrowed, "RULE_NOT_IN_FORCE"),
        (rule_ended_at_that_moment, "RULE_NOT_IN_FORCE"),
        (rule_begun_too_late, "RULE_NOT_IN_FORCE"),
        (rule_only_proposed, "RULE_NOT_IN_FORCE"),
        (rule_forbids, "RULE_FORBIDS"),
        (rule_narrower, "LICENSE_OUTSIDE_RULE"),
        (price_below_the_rule, "LICENSE_OUTSIDE_RULE"),
        (rule_rewritten, "RULE_HASH_MISMATCH"),
        (rule_rewritten_with_its_hash, "RULE_HASH_MISMATCH"),
        (other_revision, "RULE_UNKNOWN"),
        (revision_zero, "RULE_UNKNOWN"),
        (terms_edited, "TERMS_HASH_MISMATCH"),
        (terms_of_another_license, "TERMS_INCONSISTENT"),
        (terms_for_another_category, "TERMS_INCONSISTENT"),
        (terms_with_two_prices, "TERMS_INCONSISTENT"),
        (terms_longer_than_their_scope, "TERMS_INCONSISTENT"),
        (terms_without_emergency, "TERMS_INCONSISTENT"),
        (rule_of_another_cooperative, "TERMS_INCONSISTENT"),
        (data_of_another_cooperative, "TERMS_INCONSISTENT"),
        (no_dataset, "SCOPE_ILL_FORMED"),
        (offering_unknown, "OFFERING_UNKNOWN"),
        (offering_rewritten, "OFFERING_HASH_MISMATCH"),
        (offering_on_another_rule, "OFFERING_ON_OTHER_RULE"),
        (offering_narrower, "LICENSE_OUTSIDE_OFFERING"),
        (offering_of_other_versions, "LICENSE_OUTSIDE_OFFERING"),
    ],
)
async def test_a_license_that_does_not_hold_is_void_and_never_gives_a_token(
    market: Market, site: Site, buyer: Person, bend: Callable[[Deal], None], reason: str
) -> None:
    deal = market.deal(site, buyer)
    bend(deal)
    grant = await market.activate(deal)
    assert (grant.state, grant.state_reason) == (pb.GRANT_STATE_VOID, reason)
    assert not grant.HasField("open_time")
    async with refused("GRANT_NOT_OPEN", state="VOID", state_reason=reason):
        await market.issue(buyer, deal)
    # It stays visible to both sides, and ending it changes nothing: nothing was ever given.
    for person in (buyer, site.steward):
        seen = await market.broker.GetGrant(pb.GetGrantRequest(name=grant.name), metadata=person.metadata)
        assert seen == grant
    before = (await market.feed(site)).last_sequence
    await market.tell(licensing_events.LicenseTerminated(license=market.ended(deal)))
    await market.activate(market.deal(site, buyer))
    assert await market.grant_of(deal) == grant
    assert (await market.feed(site)).last_sequence == before
    # One of them forbids, and would forbid what the other tests agree on.
    market.shelf.rules.pop((deal.rule.name, deal.rule.revision))


async def test_price_and_duration_may_be_negotiated_away_from_the_offering(
    market: Market, site: Site, buyer: Person
) -> None:
    deal = market.deal(site, buyer)
    deal.offering.scope.max_duration_seconds = DAY
    for price in (deal.terms.price, deal.terms.scope.floor_price):
        price.amount_minor = 1_000
    assert (await market.activate(deal.seal())).state == pb.GRANT_STATE_OPEN


async def test_a_rule_that_ended_after_the_agreement_still_holds_it(market: Market, site: Site, buyer: Person) -> None:
    deal = market.deal(site, buyer)
    deal.rule.state = governance_pb2.RULE_STATE_ENDED
    deal.rule.end_time.seconds = deal.terms.agree_time.seconds + 1
    assert (await market.activate(deal)).state == pb.GRANT_STATE_OPEN


async def test_the_grant_ends_with_the_first_of_all_ends(market: Market, site: Site, buyer: Person) -> None:
    deal = market.deal(site, buyer)
    deal.license.end_time.seconds += 5 * DAY
    assert (await market.activate(deal)).end_time.seconds == deal.license.activate_time.seconds + 30 * DAY


async def test_an_outage_of_governance_is_waited_out(market: Market, site: Site, buyer: Person) -> None:
    deal = market.deal(site, buyer)
    market.shelve(deal)
    market.shelf.down, asked = True, market.shelf.asked
    try:
        await market.tell(licensing_events.LicenseActivated(license=deal.license))

        async def tried_twice() -> bool:
            return market.shelf.asked >= asked + 2

        await until(tried_twice)
        assert await market.grants_of(deal) == []
    finally:
        market.shelf.down = False
    assert (await market.grant_of(deal)).state == pb.GRANT_STATE_OPEN


async def test_a_license_that_ended_before_it_began_opens_nothing(market: Market, site: Site, buyer: Person) -> None:
    deal, witness = market.deal(site, buyer), market.deal(site, buyer)
    market.shelve(deal)
    await market.tell(licensing_events.LicenseTerminated(license=market.ended(deal)))
    await market.tell(licensing_events.LicenseActivated(license=deal.license))
    await market.tell(licensing_events.LicenseSuspended(license=deal.license))
    await market.activate(witness)
    assert await market.grants_of(deal) == []
    async with refused("NOT_FOUND"):
        await market.issue(buyer, deal)


async def test_a_suspension_heard_first_waits_for_the_beginning(market: Market, site: Site, buyer: Person) -> None:
    deal = market.deal(site, buyer)
    market.shelve(deal)
    await market.tell(licensing_events.LicenseSuspended(license=deal.license))
    await market.tell(licensing_events.LicenseActivated(license=deal.license))
    grant = await market.grant_of(deal, pb.GRANT_STATE_SUSPENDED)
    assert grant.state_reason == "LICENSE_SUSPENDED"


@pytest.mark.parametrize("where", ["name", "licensor", "licensee"])
async def test_a_license_nobody_could_be_found_by_is_parked_and_the_next_one_goes_on(
    market: Market, site: Site, buyer: Person, where: str
) -> None:
    deal = market.deal(site, buyer)
    if where == "name":
        deal.license.name = deal.terms.license = "licenses/../../etc/passwd"
    else:
        setattr(deal.terms, where, f"{getattr(deal.terms, where)}/x")
    deal.seal()
    await market.tell(licensing_events.LicenseActivated(license=deal.license))
    await market.activate(market.deal(site, buyer))
    body = licensing_events.LicenseActivated(license=deal.license).SerializeToString()
    database = Database(await market.house.database_url("access_broker"))
    async with database.read() as connection:
        table = parked_table
        rows = (await connection.execute(sa.select(table.c.reason).where(table.c.body == body))).all()
    await database.close()
    assert [row.reason for row in rows] == ["EVENT_ILL_FORMED"]


async def test_nobody_sees_the_grants_of_others(market: Market, site: Site, buyer: Person) -> None:
    deal = market.deal(site, buyer)
    grant = await market.activate(deal)
    operator = await market.house.operator()
    stranger, elsewhere = await market.house.buyer("stranger"), await market.site("elsewhere")
    for person in (stranger, elsewhere.steward, elsewhere.gateway):
        async with refused("NOT_FOUND", name=grant.name):
            await market.broker.GetGrant(pb.GetGrantRequest(name=grant.name), metadata=person.metadata)
        reply = await market.broker.ListGrants(
            pb.ListGrantsRequest(license=deal.license.name), metadata=person.metadata
        )
        assert not reply.grants
    for person in (buyer, site.steward, site.gateway, operator):
        seen = await market.broker.GetGrant(pb.GetGrantRequest(name=grant.name), metadata=person.metadata)
        assert seen == grant
    chains = await market.broker.ListGrantChains(pb.ListGrantChainsRequest(), metadata=elsewhere.gateway.metadata)
    assert not chains.chains
    async with refused("ROLE_MISSING"):
        await market.broker.ListGrantChains(pb.ListGrantChainsRequest(), metadata=site.steward.metadata)


async def test_grants_and_chains_come_in_pages_each_once(market: Market) -> None:
    site, buyer = await market.site("pages"), await market.house.buyer("pager")
    names = [(await market.activate(market.deal(site, buyer))).name for _ in range(5)]

    async def pages(call: Any, request: Any, field: str, person: Person) -> list[Any]:
        found: list[Any] = []
        while True:
            reply = await call(request, metadata=person.metadata)
            assert len(getattr(reply, field)) <= 2
            found += getattr(reply, field)
            if not reply.next_page_token:
                return found
            request.page_token = reply.next_page_token

    grants = await pages(market.broker.ListGrants, pb.ListGrantsRequest(page_size=2), "grants", buyer)
    assert [grant.name for grant in grants] == names[::-1]
    request = pb.ListGrantChainsRequest(page_size=2)
    chains = await pages(market.broker.ListGrantChains, request, "chains", site.gateway)
    assert [chain.grant.name for chain in chains] == names
    async with refused("PAGE_TOKEN_INVALID"):
        await market.broker.ListGrants(pb.ListGrantsRequest(page_token=request.page_token), metadata=buyer.metadata)
