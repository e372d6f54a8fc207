"""Proving live grants again: what was changed by hand in any database is refused at once or found, and cut off."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
from authority import Authority
from broker_market import Deal, Market, Site, until
from house import Person, refused

from access_broker import main, proving
from access_broker.config import Config
from access_broker.store.tables import grant_table
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import events_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import hash_of_grant, hash_of_offering, hash_of_rule
from rochdale_kit.clock import now
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.database import Database
from rochdale_kit.signing import SigningKey, canonical_hash

DENY = governance_pb2.RULE_EFFECT_DENY


@pytest_asyncio.fixture(scope="module")
async def database(market: Market) -> AsyncIterator[Database]:
    database = Database(await market.house.database_url("access_broker"))
    yield database
    await database.close()


async def prove(market: Market, person: Person, license: str = "") -> pb.ProofReport:
    report: pb.ProofReport = await market.broker.ProveGrants(
        pb.ProveGrantsRequest(license=license), metadata=person.metadata
    )
    return report


async def opened(market: Market, site: Site, buyer: Person) -> Deal:
    deal = market.deal(site, buyer)
    assert (await market.activate(deal)).state == pb.GRANT_STATE_OPEN
    return deal


async def edit(database: Database, deal: Deal, **values: object) -> None:
    """What an operator could do by hand."""
    async with database.begin() as connection:
        statement = grant_table.update().where(grant_table.c.license == deal.license.name).values(**values)
        assert (await connection.execute(statement)).rowcount == 1


async def row(database: Database, deal: Deal) -> Any:
    async with database.read() as connection:
        return (
            await connection.execute(sa.select(grant_table).where(grant_table.c.license == deal.license.name))
        ).one()


async def test_what_holds_is_proved_and_nothing_happens(market: Market, own: Site, buyer: Person) -> None:
    deals = [await opened(market, own, buyer) for _ in range(3)]
    report = await prove(market, own.steward)
    assert (report.proved_count, report.unanswered_count, list(report.failures)) == (3, 0, [])
    assert report.name.startswith("proofReports/") and report.begin_time.seconds <= report.end_time.seconds
    assert (await prove(market, own.steward, deals[0].license.name)).proved_count == 1
    assert (await market.feed(own)).last_sequence == 0
    stranger = await market.site("doubter")
    async with refused("NOT_FOUND", name=deals[0].license.name):
        await prove(market, stranger.steward, deals[0].license.name)
    assert (await prove(market, stranger.steward)).proved_count == 0
    async with refused("ROLE_MISSING"):
        await prove(market, buyer)


async def longer_end(database: Database, deal: Deal) -> None:
    await edit(database, deal, end_time=now() + dt.timedelta(days=3_000))


async def longer_end_and_its_hash(database: Database, deal: Deal) -> None:
    await edit(database, deal, end_time=now() + dt.timedelta(days=3_000))
    kept = await row(database, deal)
    grant = pb.Grant(
        name=f"grants/{kept.id}",
        license=kept.license,
        terms_hash=kept.terms_hash,
        holder=f"organizations/{kept.holder}",
        gateway=f"gateways/{kept.cooperative}",
        scope=deal.terms.scope,
    )
    grant.open_time.FromDatetime(kept.open_time)
    grant.end_time.FromDatetime(kept.end_time)
    await edit(database, deal, grant_hash=hash_of_grant(grant))


async def other_holder(database: Database, deal: Deal) -> None:
    await edit(database, deal, holder="somebody-else")


async def wider_terms(database: Database, deal: Deal) -> None:
    terms = licensing_pb2.LicenseTerms.FromString((await row(database, deal)).terms)
    terms.scope.datasets[0].columns.append("name")
    await edit(database, deal, terms=terms.SerializeToString(), terms_hash=canonical_hash(terms))


async def spoiled_terms(database: Database, deal: Deal) -> None:
    await edit(database, deal, terms=b"\xff\xff\xff")


async def impossible_time(database: Database, deal: Deal) -> None:
    terms = licensing_pb2.LicenseTerms.FromString((await row(database, deal)).terms)
    terms.scope.not_before.seconds = 10**15
    await edit(database, deal, terms=terms.SerializeToString())


@pytest.mark.parametrize(
    "by_hand", [impossible_time, longer_end, longer_end_and_its_hash, other_holder, wider_terms, spoiled_terms]
)
async def test_a_grant_changed_in_the_brokers_own_database_is_found(
    market: Market, own: Site, buyer: Person, database: Database, by_hand: Callable[[Database, Deal], Any]
) -> None:
    deal, witness = await opened(market, own, buyer), await opened(market, own, buyer)
    grant = await market.grant_of(deal)
    await by_hand(database, deal)
    if by_hand not in (other_holder, spoiled_terms):
        # Not even before the night: nothing is signed over such a row.
        async with refused("GRANT_NOT_OPEN", state_reason="GRANT_HASH_MISMATCH"):
            await market.issue(buyer, deal)
        chains = await market.broker.ListGrantChains(pb.ListGrantChainsRequest(), metadata=own.gateway.metadata)
        assert [chain.terms.license for chain in chains.chains] == [witness.license.name]
    report = await prove(market, own.steward)
    assert [(one.grant, one.license, one.reason) for one in report.failures] == [
        (grant.name, deal.license.name, "GRANT_HASH_MISMATCH")
    ]
    assert report.proved_count == 2 and report.failures[0].cooperative == f"cooperatives/{own.id}"
    assert [entry.subject for entry in (await market.feed(own)).revocations] == [grant.name]

    async def told() -> bool:
        return report.failures[0] in [event.failure for event in market.told(events_pb2.ProofFailed)]

    await until(told)
    assert (await row(database, deal)).state == pb.GRANT_STATE_CLOSED
    assert (await row(database, witness)).state == pb.GRANT_STATE_OPEN
    assert not (await prove(market, own.steward)).failures


def rule_widened(market: Market, site: Site, deal: Deal) -> str:
    deal.rule.scope.categories.append(scope_pb2.BUYER_CATEGORY_LARGE_PLATFORM)
    deal.rule.rule_hash = hash_of_rule(deal.rule)
    return "RULE_HASH_MISMATCH"


def rule_resigned(market: Market, site: Site, deal: Deal) -> str:
    deal.rule.signature.CopyFrom(Authority(site.id).signed_rule(deal.rule).signature)
    return "RULE_SIGNATURE_INVALID"


def rule_gone(market: Market, site: Site, deal: Deal) -> str:
    market.shelf.rules.pop((deal.rule.name, 1))
    return "RULE_UNKNOWN"


def offering_cheaper(market: Market, site: Site, deal: Deal) -> str:
    deal.offering.tiers[0].price.amount_minor = 1
    deal.offering.offering_hash = hash_of_offering(deal.offering)
    return "OFFERING_HASH_MISMATCH"


def offering_unsigned(market: Market, site: Site, deal: Deal) -> str:
    deal.offering.signature.value = bytes(64)
    return "OFFERING_SIGNATURE_INVALID"


def offering_gone(market: Market, site: Site, deal: Deal) -> str:
    market.shelf.offerings.pop(deal.offering.name)
    return "OFFERING_UNKNOWN"


def keys_exchanged(market: Market, site: Site, deal: Deal) -> str:
    market.shelf.cooperatives[site.authority.name] = Authority(site.id).document()
    return "RULE_SIGNATURE_INVALID"


def prohibition_backdated(market: Market, site: Site, deal: Deal) -> str:
    # Signed, in force when the license was agreed, and nobody had told licensing.
    market.deny(site, deal)
    return "RULE_DENIES"


@pytest.mark.parametrize(
    "by_hand",
    [
        rule_widened,
        rule_resigned,
        rule_gone,
        offering_cheaper,
        offering_unsigned,
        offering_gone,
        keys_exchanged,
        prohibition_backdated,
    ],
)
async def test_what_was_changed_at_the_sources_is_found(
    market: Market, own: Site, buyer: Person, by_hand: Callable[[Market, Site, Deal], str]
) -> None:
    deal = await opened(market, own, buyer)
    await market.issue(buyer, deal)
    reason = by_hand(market, own, deal)
    (failure,) = (await prove(market, own.steward)).failures
    assert failure.reason == reason and failure.message
    closed = await market.grant_of(deal, pb.GRANT_STATE_CLOSED)
    assert closed.state_reason == reason
    async with refused("GRANT_NOT_OPEN", state="CLOSED", state_reason=reason):
        await market.issue(buyer, deal)


async def test_who_cannot_be_asked_cuts_nobody_off(market: Market, own: Site, buyer: Person) -> None:
    deal = await opened(market, own, buyer)
    for away in (market.shelf, market.shelf.desk):
        away.down = True
        try:
            report = await prove(market, own.steward)
        finally:
            away.down = False
        assert (report.proved_count, report.unanswered_count, list(report.failures)) == (0, 1, [])
    assert (await market.grant_of(deal)).state == pb.GRANT_STATE_OPEN
    assert (await prove(market, own.steward)).proved_count == 1


async def test_an_answer_nobody_can_read_keeps_no_other_license_from_its_proof(
    market: Market, own: Site, buyer: Person
) -> None:
    spoiled, witness = await opened(market, own, buyer), await opened(market, own, buyer)
    spoiled.rule.scope.not_before.seconds = 10**15
    report = await prove(market, own.steward)
    assert (report.proved_count, report.unanswered_count, list(report.failures)) == (1, 1, [])
    for deal in (spoiled, witness):
        assert (await market.grant_of(deal)).state == pb.GRANT_STATE_OPEN


def rotate(market: Market, site: Site, compromised: bool) -> None:
    document, old = market.shelf.cooperatives[site.authority.name], site.authority.key
    new = SigningKey.generate()
    document.signing_keys.append(introduce(document.name, new, now(), old, compromised))


async def test_old_rules_hold_after_a_rotation_and_not_after_a_theft(market: Market, own: Site, buyer: Person) -> None:
    deal = await opened(market, own, buyer)
    rotate(market, own, compromised=False)
    assert not (await prove(market, own.steward)).failures
    assert (await market.grant_of(deal)).state == pb.GRANT_STATE_OPEN
    later = await opened(market, own, buyer)
    market.shelf.cooperatives[own.authority.name].signing_keys.pop()
    rotate(market, own, compromised=True)
    report = await prove(market, own.steward)
    assert {one.license: one.reason for one in report.failures} == {
        deal.license.name: "RULE_SIGNATURE_INVALID",
        later.license.name: "RULE_SIGNATURE_INVALID",
    }


async def test_reports_tell_each_cooperative_only_its_own(market: Market, own: Site, buyer: Person) -> None:
    neighbor, operator = await market.site("neighbor"), await market.house.operator()
    mine, theirs = await opened(market, own, buyer), await opened(market, neighbor, buyer)
    for deal in (mine, theirs):
        market.shelf.offerings.pop(deal.offering.name)
    everything = await prove(market, operator)
    assert {one.license for one in everything.failures} >= {mine.license.name, theirs.license.name}

    async def listed(person: Person) -> list[pb.ProofReport]:
        found: list[pb.ProofReport] = []
        request = pb.ListProofReportsRequest(page_size=2)
        while True:
            reply = await market.broker.ListProofReports(request, metadata=person.metadata)
            found += reply.proof_reports
            if not reply.next_page_token:
                return found
            request.page_token = reply.next_page_token

    assert (await listed(operator))[0] == everything
    for site, deal in ((own, mine), (neighbor, theirs)):
        (shown,) = [report for report in await listed(site.steward) if report.name == everything.name]
        assert [one.license for one in shown.failures] == [deal.license.name]
        assert (shown.proved_count, shown.unanswered_count) == (0, 0)
    alone = await prove(market, neighbor.steward)
    assert alone.name in [report.name for report in await listed(neighbor.steward)]
    assert alone.name not in [report.name for report in await listed(own.steward)]
    async with refused("ROLE_MISSING"):
        await listed(buyer)


async def test_every_night_one_replica_proves_all(
    market: Market, own: Site, buyer: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    deal = await opened(market, own, buyer)
    market.shelf.offerings.pop(deal.offering.name)
    monkeypatch.setattr(proving, "FIRST_AFTER_SECONDS", 0.05)
    async with database.engine.connect() as other:
        await other.execution_options(isolation_level="AUTOCOMMIT")
        await other.execute(sa.text("SELECT pg_advisory_lock(1846)"))
        second = await build(market)
        async with second.running():
            await asyncio.sleep(0.5)
            assert (await market.grant_of(deal)).state == pb.GRANT_STATE_OPEN
            await other.execute(sa.text("SELECT pg_advisory_unlock(1846)"))
            closed = await market.grant_of(deal, pb.GRANT_STATE_CLOSED)
    assert closed.state_reason == "OFFERING_UNKNOWN"


async def build(market: Market) -> Any:
    """A second replica, impatient."""
    return await main.build(
        Config(
            database_url=await market.house.database_url("access_broker"),
            nats_url=market.house.nats.url(),
            identity_address=market.house.services["identity"].grpc_address,
            proof_interval_seconds=1,
            **market.broker_settings(),
        )
    )
