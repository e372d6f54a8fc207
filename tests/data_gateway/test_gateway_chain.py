"""Somebody owns the market's databases and its NATS: what the gateway refuses all the same, because it checks itself."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from authority import Authority
from gateway_partners import seal_grant
from gateway_world import World, world

from data_gateway.cooperative_key import OwnKeys
from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.governance.v1 import events_pb2, governance_pb2
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.signing import LICENSE_PREFIX, SigningKey, canonical_hash, sign_hash
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def market(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(postgres, tmp_path_factory.mktemp("chain")) as made:
        await made.add(b"n,secret\n" + b"1,2\n" * 100)
        yield made


async def reason(market: World, chain: broker.GrantChain, token: str = "") -> str:
    answer = await market.files(chain, token or market.token(chain, detail={"columns": ["n"]}))
    return "" if answer.status_code == 200 else str(answer.json()["errorCode"])


async def until(market: World, chain: broker.GrantChain, expected: str, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while (found := await reason(market, chain)) != expected:
            assert found in ("", expected, "GRANT_UNKNOWN", "RULE_DENIES"), found
            await asyncio.sleep(0.05)


async def refused(market: World, chain: broker.GrantChain, why: str, caplog: pytest.LogCaptureFixture) -> None:
    await market.broker.open(chain)
    assert await reason(market, chain) == "GRANT_UNKNOWN"
    async with asyncio.timeout(5):
        while not any(chain.grant.name in one.message and why in one.message for one in caplog.records):
            await asyncio.sleep(0.02)


def sign_license_again(market: World, chain: broker.GrantChain, key: SigningKey | None = None) -> None:
    """As whoever has licensing's database would, who has its key or not; and the broker's, which follows."""
    hashed = canonical_hash(chain.terms)
    if key is not None:
        chain.license_signature.CopyFrom(sign_hash(key, LICENSE_PREFIX, hashed))
    chain.grant.terms_hash = hashed
    seal_grant(chain, market.broker.key)


async def test_a_license_widened_by_hand(market: World, caplog: pytest.LogCaptureFixture) -> None:
    chain = market.chain(["n"])
    for scope in (chain.terms.scope, chain.grant.scope):
        scope.datasets[0].columns.append("secret")
    sign_license_again(market, chain)
    await refused(market, chain, "LICENSE_SIGNATURE_INVALID", caplog)
    # And by whoever has licensing's key too: the cooperative signed less.
    sign_license_again(market, chain, market.governance.licensing)
    await refused(market, chain, "LICENSE_OUTSIDE_RULE", caplog)


async def test_a_rule_that_somebody_else_signed(market: World, caplog: pytest.LogCaptureFixture) -> None:
    other = Authority(market.cooperative)
    chain = market.chain(["n"])
    other.signed_rule(chain.sharing_rule)
    await refused(market, chain, "RULE_SIGNATURE_INVALID", caplog)
    # Another cooperative's own rule, true in every letter.
    foreign = Authority("hills-health")
    swapped = market.chain(["n"])
    rule = foreign.rule(swapped.sharing_rule.scope, now() - dt.timedelta(days=2))
    swapped.sharing_rule.CopyFrom(rule)
    swapped.terms.sharing_rule, swapped.terms.rule_hash = rule.name, rule.rule_hash
    sign_license_again(market, swapped, market.governance.licensing)
    await refused(market, swapped, "TERMS_INCONSISTENT", caplog)
    offered = market.chain(["n"])
    Authority(market.cooperative).signed_offering(offered.offering)
    await refused(market, offered, "OFFERING_SIGNATURE_INVALID", caplog)


async def test_a_rule_that_had_expired(market: World, caplog: pytest.LogCaptureFixture) -> None:
    def expire(chain: broker.GrantChain) -> None:
        chain.sharing_rule.expire_time.CopyFrom(to_timestamp(now() - dt.timedelta(hours=2)))

    await refused(market, market.chain(["n"], change=expire), "RULE_EXPIRED", caplog)


async def test_an_ended_rule_replayed_without_its_end(market: World, caplog: pytest.LogCaptureFixture) -> None:
    chain = market.chain(["n"])
    authority = market.governance.authority
    ended = authority.ended(chain.sharing_rule, now() - dt.timedelta(hours=2))
    await market.governance.publish(events_pb2.RuleNarrowed(sharing_rule=ended))
    # A narrowing ends the revision before it, whose own end nobody shows.
    narrowed = market.chain(["n"])
    later = authority.rule(
        narrowed.sharing_rule.scope, now() - dt.timedelta(hours=3), name=narrowed.sharing_rule.name, revision=2
    )
    await market.governance.publish(events_pb2.RuleNarrowed(sharing_rule=later))
    # An end that nobody signed ends nothing.
    held = await market.grant(["n"])
    unsigned = governance_pb2.SharingRule()
    unsigned.CopyFrom(held.sharing_rule)
    unsigned.end_time.CopyFrom(to_timestamp(now() - dt.timedelta(hours=2)))
    await market.governance.publish(events_pb2.RuleNarrowed(sharing_rule=unsigned))
    await asyncio.sleep(0.5)
    assert await reason(market, held) == ""
    await refused(market, chain, "RULE_NOT_IN_FORCE", caplog)
    await refused(market, narrowed, "RULE_NOT_IN_FORCE", caplog)
    # It is remembered over a restart, whatever governance lists by then.
    await market.stop()
    await market.start()
    again = market.chain(["n"])
    again.sharing_rule.CopyFrom(chain.sharing_rule)
    again.terms.sharing_rule = again.offering.tiers[0].sharing_rule = chain.sharing_rule.name
    market.seal(again)
    await refused(market, again, "RULE_NOT_IN_FORCE", caplog)


async def test_an_open_grant_falls_when_its_rule_is_heard_to_have_ended(market: World) -> None:
    chain = await market.grant(["n"])
    assert await reason(market, chain) == ""
    ended = market.governance.authority.ended(chain.sharing_rule, now() - dt.timedelta(hours=2))
    await market.governance.publish(events_pb2.RuleNarrowed(sharing_rule=ended))
    await until(market, chain, "GRANT_UNKNOWN")


async def test_a_grant_that_the_broker_did_not_sign(market: World, caplog: pytest.LogCaptureFixture) -> None:
    chain = market.chain(["n"])
    seal_grant(chain, SigningKey.generate())
    await refused(market, chain, "GRANT_SIGNATURE_INVALID", caplog)
    longer = market.chain(["n"])
    longer.grant.end_time.seconds += 3600
    await refused(market, longer, "GRANT_HASH_MISMATCH", caplog)


async def test_a_token_cites_its_grant_and_no_other(market: World) -> None:
    chain, other = await market.grant(["n"]), await market.grant(["n"])
    assert await reason(market, chain, market.token(chain)) == ""
    for hashed in (..., other.grant.grant_hash, "0" * 64, 5):
        assert await reason(market, chain, market.token(chain, detail={"grant_hash": hashed})) == "TOKEN_INVALID"


async def test_an_emergency_stops_access_at_once_and_lets_it_go_on(market: World) -> None:
    chain, beside = await market.grant(["n"]), await market.grant(["n"], dataset="other")
    assert await reason(market, chain) == ""
    rule = market.governance.authority.rule(
        chain.grant.scope,
        now(),
        effect=governance_pb2.RULE_EFFECT_DENY,
        emergency=True,
        expire=now() + dt.timedelta(seconds=3),
    )
    rule.ClearField("signature")
    await market.governance.publish(events_pb2.RuleEnacted(sharing_rule=rule))
    await until(market, chain, "RULE_DENIES", 2)
    assert await reason(market, beside) != "RULE_DENIES"
    await until(market, chain, "")
    # The members' own prohibition lets signed licenses run to their term, unless they say that they may be recalled.
    recalled = await market.broker.open(
        market.chain(["n"], change=lambda one: setattr(one.terms, "member_recall", True))
    )
    denial = market.governance.authority.rule(chain.grant.scope, now(), effect=governance_pb2.RULE_EFFECT_DENY)
    await market.governance.publish(events_pb2.RuleEnacted(sharing_rule=denial))
    await until(market, recalled, "RULE_DENIES")
    assert await reason(market, chain) == ""


async def test_a_prohibition_in_force_at_the_agreement(market: World, caplog: pytest.LogCaptureFixture) -> None:
    chain = market.chain(["secret"])
    denial = market.governance.authority.rule(
        chain.terms.scope, now() - dt.timedelta(hours=5), effect=governance_pb2.RULE_EFFECT_DENY
    )
    await market.governance.publish(events_pb2.RuleEnacted(sharing_rule=denial))
    await asyncio.sleep(0.5)
    await market.broker.open(chain)
    token = market.token(chain, detail={"columns": ["secret"]})
    assert await reason(market, chain, token) == "GRANT_UNKNOWN"
    assert any("RULE_DENIES" in record.message and chain.grant.name in record.message for record in caplog.records)


async def test_keys_are_followed_from_the_pinned_one_and_no_other(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(postgres, tmp_path_factory.mktemp("pin")) as market:
        await market.add(b"n\n" + b"1\n" * 10)
        first = market.governance.authority.key
        kept = json.loads((market.folder / "storage" / "cooperative_key.json").read_text())
        assert kept["pin"] == first.key_id
        assert any(first.key_id in one.message and "COOPERATIVE_KEY" in one.message for one in caplog.records)
        chain = await market.grant(["n"])
        assert await reason(market, chain) == ""

        # The cooperative's next key, introduced by the one before; the old one's signatures stay good.
        following = SigningKey.generate()
        line = [market.governance.document.signing_keys[0]]
        line.append(introduce(market.governance.authority.name, following, now() - dt.timedelta(minutes=1), first))
        market.governance.document = governance_pb2.Cooperative(
            name=market.governance.authority.name, signing_keys=line
        )
        await market.governance.publish(events_pb2.CooperativeKeyAdded(cooperative=market.governance.document))
        market.governance.authority.key = following
        narrow = market.chain(["n"])
        Authority(market.cooperative, first).signed_rule(narrow.sharing_rule)  # in force before the new key was
        narrow.terms.rule_hash = narrow.sharing_rule.rule_hash
        sign_license_again(market, narrow, market.governance.licensing)
        await asyncio.sleep(0.5)
        await market.broker.open(narrow)
        await until(market, narrow, "")

        # Somebody with governance's database shows keys of their own.
        stranger = Authority(market.cooperative)
        forged = market.governance.document = stranger.document()
        await market.governance.publish(events_pb2.CooperativeKeyAdded(cooperative=forged))
        async with asyncio.timeout(5):
            while await reason(market, chain) != "COOPERATIVE_KEY_INVALID":
                await asyncio.sleep(0.05)
            while (health := (await market.http.get("/health")).json())["status"] == "SERVING":
                await asyncio.sleep(0.05)
        assert health["trouble"].startswith("cooperative's key")
        assert any("another way" in one.message for one in caplog.records)

        # The real line again, and serving goes on by itself.
        market.governance.document = governance_pb2.Cooperative(
            name=market.governance.authority.name, signing_keys=line
        )
        await market.governance.publish(events_pb2.CooperativeKeyAdded(cooperative=market.governance.document))
        async with asyncio.timeout(10):
            while await reason(market, chain):
                await asyncio.sleep(0.1)


def test_a_pin_from_the_settings_wins_over_what_is_shown(tmp_path: Path) -> None:
    authority, stranger = Authority("valley"), Authority("valley")
    later = SigningKey.generate()
    line = [authority.introduced(), introduce(authority.name, later, now(), authority.key)]
    cooperative = governance_pb2.Cooperative(name=authority.name, signing_keys=line)
    pinned = OwnKeys("valley", later.key_id, tmp_path / "one.json")
    pinned.take(cooperative)
    assert not pinned.trouble and pinned.keys.latest_id == later.key_id
    for shown in (stranger.document(), authority.document()):
        other = OwnKeys("valley", later.key_id, tmp_path / "other.json")
        other.take(shown)
        assert later.key_id in other.trouble and not other.keys
    # A shorter line than the one known hides nothing; a restart knows what was known.
    again = OwnKeys("valley", "", tmp_path / "one.json")
    again.load()
    again.take(authority.document())
    assert not again.trouble and again.keys.latest_id == later.key_id
    (tmp_path / "one.json").write_text("{}")
    with pytest.raises(SystemExit, match="trusts"):
        OwnKeys("valley", "", tmp_path / "one.json").load()
