"""Whoever runs the market edits every database they have, with every key they have, each time consistently from end to
end. The gateway of the cooperative refuses each, with a reason: what members did not sign opens nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from authority import Authority
from house import Person
from insider import Forgery, Insider
from walk import ACADEMIC, MarketPeople, NotYet, Purchase, eventually

from data_gateway.config import Config
from data_gateway.main import build
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.signing import SigningKey
from rochdale_local.market import OneProcess

OURS, RIVALS = "orchard", "quarry"
COLUMNS = b"zper,age,visits,cost\n"
MEMBERS = ["zper-1", "zper-2"]
ROWS = COLUMNS + b"".join(b"zper-%d,%d,3,40\n" % (1 + number % 2, 30 + number) for number in range(60))


@dataclass
class Crime:
    """A market with an honest purchase in it, the insider, and what a test may need of the honest side."""

    market: MarketPeople
    insider: Insider
    purchase: Purchase
    genuine: str
    door: str
    honest: Forgery
    steward: Person
    version: catalog.Version
    rivals_rule: governance.SharingRule
    authority: Authority

    async def gateway_knows(self, grant: str) -> tuple[str, str]:
        """How the gateway holds a grant, once it has heard of it: state and reason, from its own database."""
        database = f"data_gateway_{OURS}"

        async def known() -> tuple[str, str]:
            rows = await self.insider.run(
                database, "SELECT state, state_reason FROM served_grant WHERE id = $1", f"grants/{grant}"
            )
            if not rows:
                raise NotYet(grant)
            return rows[0]["state"], rows[0]["state_reason"]

        return await eventually(known, 20)

    async def ask(self, token: str, license: str) -> tuple[int, str]:
        """What the gateway answers to a buyer with this token: status and reason."""
        async with httpx.AsyncClient(timeout=10) as client:
            answer = await client.get(f"{self.door}/v1/{license}/files", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, answer.json().get("errorCode", "")

    async def restart_gateway(self, *, forget: bool = False, healthy: bool = True) -> None:
        """forget: without what it heard, as after the loss of its database. The files of its storage are the
        cooperative's own. healthy: whether it will be, once it has started."""
        room = self.market.market.gateways[OURS]
        runner = self.market.market.runner
        assert isinstance(runner, OneProcess)
        await runner.services.pop(room.name).stop()
        if forget:
            for table in ("served_grant", "known_rule", "revocation"):
                await self.insider.run(room.database, f"TRUNCATE {table} CASCADE")
            await self.insider.run(room.database, "UPDATE feed_position SET applied_sequence = 0")
        if healthy:
            await runner.start(room)
        else:
            settings: dict[str, Any] = room.settings
            service = await build(Config(**settings))
            await service.start()
            runner.services[room.name] = service


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Crime]:
    market = MarketPeople(tmp_path_factory.mktemp("hostile-operator"))
    await market.start()
    try:
        yield await committed(market)
    finally:
        await market.stop()


async def committed(market: MarketPeople) -> Crime:
    steward = await market.found(OURS, MEMBERS)
    version = await market.add_dataset(steward, "apples", ROWS, "zper")
    await market.consent(steward, f"cooperatives/{OURS}/datasets/apples", MEMBERS)
    offering = await market.offer(steward, version, {ACADEMIC: 0})
    rival = await market.found(RIVALS, ["r-1"])
    theirs = await market.offer(rival, await market.add_dataset(rival, "stones", ROWS, "zper"), {ACADEMIC: 0})
    purchase = Purchase(await market.licensee("honest-lab", ACADEMIC), offering.name)
    token = await market.buy(purchase)
    rivals_rule = await market.stub("governance").GetSharingRule(
        governance.GetSharingRuleRequest(name=theirs.tiers[0].sharing_rule)
    )
    insider = Insider(market)
    return Crime(
        market,
        insider,
        purchase,
        token.token,
        token.gateway_url,
        await insider.chain_of(purchase.license),
        steward,
        version,
        rivals_rule,
        market.assemblies[OURS].authority,
    )


Forge = Callable[[Crime, Forgery], Awaitable[object]]


def widen(scope: scope_pb2.SharingScope) -> None:
    """For everything, everywhere, by everybody's worst enemy."""
    scope.purposes[:] = ["Purpose"]
    scope.actions.append(scope_pb2.USE_ACTION_COMMERCIALIZE_MODEL)
    scope.max_mode = scope_pb2.ACCESS_MODE_DOWNLOAD


async def license_by_hand(crime: Crime, made: Forgery) -> None:
    widen(made.scope)
    crime.insider.cite(made)


async def license_by_licensings_key(crime: Crime, made: Forgery) -> None:
    widen(made.scope)
    await crime.insider.sign(crime.insider.cite(made))


async def offering_by_hand(crime: Crime, made: Forgery) -> None:
    """Another price than the stewards published, inside the rule."""
    made.offering.tiers[0].price.amount_minor += 5
    await everywhere(crime, made)


async def everywhere(crime: Crime, made: Forgery) -> None:
    """Rule, offering and license, hashed again, and so written into every copy that any service keeps."""
    insider = crime.insider
    await insider.sign(insider.rehash(made))
    id = made.rule.name.rsplit("/", 1)[1]
    await insider.run("governance", "ALTER TABLE sharing_rule DISABLE TRIGGER USER")
    await insider.run(
        "governance",
        "UPDATE sharing_rule SET scope = $2, rule_hash = $3, expire_time = $4 WHERE id = $1",
        id,
        made.rule.scope.SerializeToString(),
        made.rule.rule_hash,
        from_timestamp(made.rule.expire_time),
    )
    for package in ("licensing", "catalog"):
        statement = "UPDATE sharing_rule SET body = $2 WHERE name = $1"
        await insider.run(package, statement, made.rule.name, made.rule.SerializeToString())
    body = made.offering.SerializeToString()
    await insider.run("licensing", "UPDATE offering SET body = $2 WHERE name = $1", made.offering.name, body)
    await insider.run(
        "catalog", "UPDATE offering SET body = $2 WHERE id = $1", made.offering.name.rsplit("/", 1)[1], body
    )


async def rule_by_hand(crime: Crime, made: Forgery) -> None:
    for scope in (made.rule.scope, made.offering.scope, made.scope):
        widen(scope)
    await everywhere(crime, made)


async def rule_by_a_key_of_ones_own(crime: Crime, made: Forgery) -> None:
    await rule_by_hand(crime, made)
    own = Authority(OURS)
    own.signed_rule(made.rule)
    own.signed_offering(made.offering)
    await crime.insider.sign(crime.insider.cite(made))


async def rivals_rule(crime: Crime, made: Forgery) -> None:
    """Genuine, voted and signed: by another cooperative's members."""
    made.rule.CopyFrom(crime.rivals_rule)
    made.offering.tiers[0].sharing_rule = made.rule.name
    await crime.insider.sign(crime.insider.rehash(made))


async def rivals_rule_under_our_name(crime: Crime, made: Forgery) -> None:
    name = made.rule.name
    made.rule.CopyFrom(crime.rivals_rule)
    made.rule.name = name
    for part in made.rule.scope.datasets:
        part.dataset = made.scope.datasets[0].dataset
    await crime.insider.sign(crime.insider.rehash(made))


async def rivals_license(crime: Crime, made: Forgery) -> None:
    """A license of another cooperative, for the gateway of ours."""
    made.terms.licensor = f"cooperatives/{RIVALS}"
    await crime.insider.sign(made)


async def expired_rule(crime: Crime, made: Forgery) -> None:
    """One that members did sign, and that ended by itself long ago."""
    begin = from_timestamp(made.rule.effective_time)
    past = crime.authority.rule(
        made.rule.scope, begin, name=made.rule.name, expire=begin + dt.timedelta(milliseconds=1)
    )
    made.rule.CopyFrom(past)
    made.offering.rule_hashes[:] = [past.rule_hash]
    await crime.insider.sign(crime.insider.cite(made))


async def expired_rule_prolonged(crime: Crime, made: Forgery) -> None:
    made.rule.expire_time.CopyFrom(to_timestamp(dt.datetime.now(dt.UTC) + dt.timedelta(days=900)))
    await everywhere(crime, made)


async def no_vote(crime: Crime, made: Forgery) -> None:
    made.rule.ClearField("proposal")
    made.rule.ClearField("tally_hash")
    await everywhere(crime, made)


async def grant_prolonged(crime: Crime, made: Forgery) -> None:
    """The broker's own row lasts longer than what was agreed, by more than any suspension could bring."""
    made.longer = dt.timedelta(days=31)
    await crime.insider.sign(made)


FORGERIES: dict[str, tuple[Forge, str]] = {
    "a license widened": (license_by_hand, "LICENSE_SIGNATURE_INVALID"),
    "a license widened, signed with licensing's key": (license_by_licensings_key, "LICENSE_OUTSIDE_RULE"),
    "an offering at another price": (offering_by_hand, "OFFERING_SIGNATURE_INVALID"),
    "license, offering and rule widened": (rule_by_hand, "RULE_SIGNATURE_INVALID"),
    "all of it, signed with a key made for it": (rule_by_a_key_of_ones_own, "RULE_SIGNATURE_INVALID"),
    "a rule without a vote": (no_vote, "RULE_NOT_VOTED"),
    "another cooperative's rule": (rivals_rule, "TERMS_INCONSISTENT"),
    "another cooperative's rule under our name": (rivals_rule_under_our_name, "RULE_SIGNATURE_INVALID"),
    "another cooperative's license": (rivals_license, "NOT_OURS"),
    "an expired rule": (expired_rule, "RULE_EXPIRED"),
    "an expired rule prolonged": (expired_rule_prolonged, "RULE_SIGNATURE_INVALID"),
    "a grant prolonged": (grant_prolonged, "GRANT_OUTSIDE_LICENSE"),
}


async def test_what_members_did_not_sign_opens_nothing(crime: Crime) -> None:
    """One after another, so that the copies of every service are those of this forgery; then the gateway starts again, is
    told by the broker itself, and a token signed by the broker itself is shown to it."""
    insider = crime.insider
    assert await crime.ask(crime.genuine, crime.purchase.license) == (200, "")
    for name, (forge, reason) in FORGERIES.items():
        made = await insider.renamed(crime.honest)
        await forge(crime, made)
        grant = await insider.plant(crime.honest, made)
        await crime.restart_gateway()
        assert await crime.gateway_knows(grant) == ("REFUSED", reason), name
        assert await crime.ask(await insider.token(crime.genuine, made), made.license.name) == (403, "GRANT_UNKNOWN"), (
            name
        )


async def test_what_members_allowed_the_market_can_give_away_and_nothing_else(crime: Crime) -> None:
    """The control: the same hands and keys, and nothing bent. What no signature of the members protects is the price."""
    made = await crime.insider.renamed(crime.honest)
    await crime.insider.sign(made)
    grant = await crime.insider.plant(crime.honest, made)
    await crime.restart_gateway()
    assert await crime.gateway_knows(grant) == ("OPEN", "")
    assert await crime.ask(await crime.insider.token(crime.genuine, made), made.license.name) == (200, "")


async def test_a_license_widened_where_it_stands(crime: Crime) -> None:
    """The gateway holds the grant as it was; told of it anew, as after the loss of its database, it refuses."""
    market, insider = crime.market, crime.insider
    offering = await market.offer(crime.steward, crime.version, {ACADEMIC: 0})
    purchase = Purchase(await market.licensee("lab-to-be-widened", ACADEMIC), offering.name)
    token = (await market.buy(purchase)).token
    made = await insider.chain_of(purchase.license)
    grant = made.grant.name.removeprefix("grants/")
    widen(made.scope)
    insider.cite(made)
    await insider.run("licensing", "ALTER TABLE license DISABLE TRIGGER USER")
    await insider.run(
        "licensing",
        "UPDATE license SET terms = $2, terms_hash = $3 WHERE id = $1",
        purchase.license.removeprefix("licenses/"),
        made.terms.SerializeToString(),
        made.license.terms_hash,
    )
    columns = insider.sealed(made)
    setting = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, start=2))
    await insider.run("access_broker", f"UPDATE access_grant SET {setting} WHERE id = $1", grant, *columns.values())

    await crime.restart_gateway()
    assert await crime.ask(await insider.token(token, made), purchase.license) == (401, "TOKEN_INVALID")
    assert await crime.ask(token, purchase.license) == (200, ""), "what was agreed goes on"
    await crime.restart_gateway(forget=True)
    assert await crime.gateway_knows(grant) == ("REFUSED", "LICENSE_SIGNATURE_INVALID")
    assert await crime.ask(await insider.token(token, made), purchase.license) == (403, "GRANT_UNKNOWN")
    assert await crime.ask(token, purchase.license) == (403, "GRANT_UNKNOWN")


async def test_a_rule_that_members_ended_is_not_brought_back(crime: Crime) -> None:
    market, insider = crime.market, crime.insider
    offering = await market.offer(crime.steward, crime.version, {ACADEMIC: 0})
    purchase = Purchase(await market.licensee("lab-of-the-past", ACADEMIC), offering.name)
    await market.buy(purchase)
    honest = await insider.chain_of(purchase.license)
    rule = honest.rule.name
    await market.assemblies[OURS].narrow(honest.rule, None)

    async def heard() -> None:
        rows = await insider.run(f"data_gateway_{OURS}", "SELECT rule FROM known_rule WHERE name = $1", rule)
        if not any(governance.SharingRule.FromString(row["rule"]).HasField("end_time") for row in rows):
            raise NotYet(rule)

    await eventually(heard, 20)
    await insider.run("governance", "ALTER TABLE sharing_rule DISABLE TRIGGER USER")
    await insider.run(
        "governance",
        "UPDATE sharing_rule SET state = $2, end_time = NULL, end_signature = NULL WHERE id = $1",
        rule.rsplit("/", 1)[1],
        governance.RULE_STATE_IN_FORCE,
    )
    made = await insider.renamed(honest)
    await insider.sign(made)
    grant = await insider.plant(honest, made)
    await crime.restart_gateway()
    assert await crime.gateway_knows(grant) == ("REFUSED", "RULE_NOT_IN_FORCE")
    assert await crime.ask(await insider.token(crime.genuine, made), made.license.name) == (403, "GRANT_UNKNOWN")


@pytest.mark.parametrize("forget", [False, True], ids=["restarted", "its database lost"])
async def test_another_line_of_keys_opens_nothing(crime: Crime, forget: bool) -> None:
    """Governance shows keys of the insider's own making as the cooperative's: nobody is served until it shows the right
    ones again. The pin is in the gateway's own storage."""
    insider = crime.insider
    (row,) = await insider.run("governance", "SELECT signing_keys FROM cooperative WHERE id = $1", OURS)
    own = introduce(f"cooperatives/{OURS}", SigningKey.generate(), dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
    statement = "UPDATE cooperative SET signing_keys = $2 WHERE id = $1"
    try:
        await insider.run("governance", statement, OURS, [own.SerializeToString()])
        await crime.restart_gateway(forget=forget, healthy=False)

        async def asked() -> None:
            if (answer := await crime.ask(crime.genuine, crime.purchase.license)) != (403, "COOPERATIVE_KEY_INVALID"):
                raise NotYet(answer)

        await eventually(asked, 20)
    finally:
        await insider.run("governance", statement, OURS, row["signing_keys"])
    await crime.restart_gateway()
    assert await crime.ask(crime.genuine, crime.purchase.license) == (200, "")
