"""What cuts access off, and how fast; what a gateway believes, and what it checks itself."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from gateway_world import World, world

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.access_broker.v1 import events_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.signing import SigningKey
from rochdale_local.postgres import Postgres

BOUND_SECONDS = 2.0


@pytest_asyncio.fixture(scope="module")
async def market(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(postgres, tmp_path_factory.mktemp("trust")) as made:
        # Random, so that it stays large when compressed: some 16 MB, more than the sockets between us hold.
        rows = b"".join(secrets.token_hex(500).encode() + b",1\n" for _ in range(32_000))
        await made.add(b"noise,n\n" + rows)
        yield made


async def refused(market: World, chain: broker.GrantChain, token: str) -> str:
    """The reason why not; empty if the token opens its files."""
    answer = await market.files(chain, token)
    return "" if answer.status_code == 200 else str(answer.json()["errorCode"])


async def until_refused(market: World, chain: broker.GrantChain, token: str, seconds: float) -> str:
    async with asyncio.timeout(seconds):
        while not (reason := await refused(market, chain, token)):
            await asyncio.sleep(0.02)
    return reason


async def until_open(market: World, chain: broker.GrantChain, token: str, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while await refused(market, chain, token):
            await asyncio.sleep(0.05)


async def cut_while_reading(
    url: str, headers: dict[str, str], cut: Callable[[], Any], pause_seconds: float = 0.5
) -> float:
    """Reads a little, cuts access off, waits, reads on, and says how long it took until the stream broke off."""
    async with httpx.AsyncClient(timeout=20) as client, client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        size, received, begun = int(answer.headers["content-length"]), 0, 0.0
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            async for piece in answer.aiter_raw(65_536):
                received += len(piece)
                if not begun:
                    begun = time.monotonic()
                    await cut()
                    await asyncio.sleep(pause_seconds)
        assert 0 < received < size
        return time.monotonic() - begun


@pytest.mark.parametrize("kind", ["token", "grant", "key"])
@pytest.mark.parametrize("by_address", [False, True])
async def test_a_revocation_stops_a_download_under_way(market: World, kind: str, by_address: bool) -> None:
    chain = await market.grant(["noise", "n"])
    key = market.broker.key
    token = market.token(chain, jti=f"tok_{secrets.token_hex(8)}")
    if by_address:
        url, headers = (await market.query(token))[1][2]["file"]["url"], {}
    else:
        url = (await market.files(chain, token)).json()["files"][0]["url"]
        headers = {"authorization": f"Bearer {token}"}
    what = {
        "token": (broker.REVOCATION_KIND_TOKEN, _claims(token)["jti"]),
        "grant": (broker.REVOCATION_KIND_GRANT, chain.grant.name),
        "key": (broker.REVOCATION_KIND_SIGNING_KEY, key.key_id),
    }[kind]
    if kind == "key":
        # Its successor signs from now on, heartbeats included.
        market.broker.key, market.broker.upcoming = market.broker.upcoming, SigningKey.generate()
    took = await cut_while_reading(url, headers, lambda: market.broker.revoke(*what))
    assert took < BOUND_SECONDS
    # A revoked key may be unknown already, which comes to the same.
    reasons = {"token": ("TOKEN_REVOKED",), "grant": ("GRANT_REVOKED",), "key": ("TOKEN_REVOKED", "TOKEN_INVALID")}
    assert await refused(market, chain, token) in reasons[kind]
    assert (await market.http.get(url, headers=headers)).status_code == 401
    other = await market.grant(["n"])
    await until_open(market, other, market.token(other), 5)


def _claims(token: str) -> Any:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


async def test_a_silent_broker_closes_the_door_and_the_door_opens_by_itself(market: World) -> None:
    chain = await market.grant(["noise", "n"])
    token = market.token(chain)
    url = (await market.files(chain, token)).json()["files"][0]["url"]

    async def silence() -> None:
        market.broker.beating = False

    try:
        # The bound is two seconds in these tests, ten in production; then the reader reads on and finds nothing.
        took = await cut_while_reading(url, {"authorization": f"Bearer {token}"}, silence, pause_seconds=3)
        assert took < 4
        answer = await market.files(chain, token)
        assert (answer.status_code, answer.json()["errorCode"]) == (403, "FEED_SILENT")
        async with asyncio.timeout(5):
            while (health := await market.http.get("/health")).status_code != 503:
                await asyncio.sleep(0.05)
        assert health.json()["trouble"].startswith("feed")
    finally:
        market.broker.beating = True
    await until_open(market, chain, token, 2)


async def test_a_revocation_that_got_lost_is_fetched(market: World) -> None:
    chain = await market.grant(["n"])
    token = market.token(chain)
    assert not await refused(market, chain, token)
    await market.broker.revoke(broker.REVOCATION_KIND_GRANT, chain.grant.name, announced=False)
    assert await until_refused(market, chain, token, BOUND_SECONDS) == "GRANT_REVOKED"


async def test_a_revocation_that_cannot_be_fetched_closes_the_door(market: World) -> None:
    chain, other = await market.grant(["n"]), await market.grant(["n"])
    token, innocent = market.token(chain), market.token(other)
    assert not await refused(market, other, innocent)
    market.broker.failing = True
    await market.broker.revoke(broker.REVOCATION_KIND_GRANT, chain.grant.name, announced=False)
    assert await until_refused(market, other, innocent, 4) == "FEED_BEHIND"
    market.broker.failing = False
    await until_open(market, other, innocent, 3)
    assert await refused(market, chain, token) == "GRANT_REVOKED"


async def test_only_the_brokers_own_fresh_heartbeats_count(market: World) -> None:
    chain = await market.grant(["n"])
    token = market.token(chain)
    assert not await refused(market, chain, token)
    old = market.broker.heartbeat()
    market.broker.beating = False
    for _ in range(30):
        await market.broker.send(old)  # replayed
        await market.broker.send(market.broker.heartbeat(key=SigningKey.generate()))
        market.broker.clock_offset = -60.0
        await market.broker.send(market.broker.heartbeat())
        market.broker.clock_offset = 60.0
        await market.broker.send(market.broker.heartbeat())
        market.broker.clock_offset = 0.0
        await market.broker.send(b"\xff nonsense")
        await asyncio.sleep(0.1)
    assert await refused(market, chain, token) == "FEED_SILENT"
    market.broker.beating = True
    await until_open(market, chain, token, 2)


async def test_a_revocation_in_two_orders_and_twice_does_no_harm(market: World) -> None:
    chain = market.chain(["n"])
    # Revoked before it was heard of.
    await market.broker.revoke(broker.REVOCATION_KIND_GRANT, chain.grant.name)
    await market.broker.open(chain)
    await market.broker.publish(
        events_pb2.AccessRevoked(gateway=f"gateways/{market.cooperative}", revocation=market.broker.revocations[-1])
    )
    other = await market.grant(["n"])
    await until_open(market, other, market.token(other), 3)
    assert await refused(market, chain, market.token(chain)) == "GRANT_REVOKED"
    # Another cooperative's is not ours.
    foreign = broker.Revocation(sequence=1, kind=broker.REVOCATION_KIND_GRANT, subject=other.grant.name)
    await market.broker.publish(events_pb2.AccessRevoked(gateway="gateways/somebody-else", revocation=foreign))
    await asyncio.sleep(0.3)
    assert not await refused(market, other, market.token(other))


async def test_a_rotated_key_is_found_without_a_restart(market: World) -> None:
    chain = await market.grant(["n"])
    await asyncio.sleep(1.0)  # keys are fetched at most once a second
    market.broker.upcoming = SigningKey.generate()
    assert not await refused(market, chain, market.token(chain, key=market.broker.upcoming))


def _foreign_rule(chain: broker.GrantChain) -> None:
    name = chain.sharing_rule.name.replace("valley", "hills", 1)
    chain.sharing_rule.name = chain.terms.sharing_rule = chain.offering.tiers[0].sharing_rule = name


def _late(chain: broker.GrantChain) -> None:
    chain.sharing_rule.end_time.CopyFrom(to_timestamp(now() - dt.timedelta(hours=2)))


def _forbid(chain: broker.GrantChain) -> None:
    chain.sharing_rule.effect = governance_pb2.RULE_EFFECT_DENY


def _wider_than_rule(chain: broker.GrantChain) -> None:
    chain.sharing_rule.scope.datasets[0].columns[:] = ["n"]


def _wider_than_offering(chain: broker.GrantChain) -> None:
    chain.offering.scope.max_mode = scope_pb2.ACCESS_MODE_STREAM


def _wider_than_license(chain: broker.GrantChain) -> None:
    chain.grant.scope.datasets[0].columns.append("secret")


def _longer_than_license(chain: broker.GrantChain) -> None:
    chain.grant.end_time.seconds += 400 * 86_400


def _before_it_was_agreed(chain: broker.GrantChain) -> None:
    chain.grant.open_time.seconds -= 2 * 3600


def _other_buyer(chain: broker.GrantChain) -> None:
    chain.grant.holder = "organizations/mallory"


def _other_tier(chain: broker.GrantChain) -> None:
    chain.offering.tiers[0].categories[:] = [scope_pb2.BUYER_CATEGORY_COMPANY]


CHANGED = {
    "TERMS_INCONSISTENT": [_foreign_rule],
    "RULE_NOT_IN_FORCE": [_late],
    "RULE_FORBIDS": [_forbid],
    "LICENSE_OUTSIDE_RULE": [_wider_than_rule],
    "LICENSE_OUTSIDE_OFFERING": [_wider_than_offering],
    "GRANT_OUTSIDE_LICENSE": [_wider_than_license, _longer_than_license, _before_it_was_agreed],
    "CHAIN_INCONSISTENT": [_other_buyer],
    "OFFERING_ON_OTHER_RULE": [_other_tier],
}


@pytest.mark.parametrize(("reason", "change"), [(reason, one) for reason, all in CHANGED.items() for one in all])
async def test_a_chain_that_does_not_hold_is_never_served(
    market: World, caplog: pytest.LogCaptureFixture, reason: str, change: Callable[[broker.GrantChain], None]
) -> None:
    """Whatever the broker says: every hash is right, and the license still leaves what the members decided."""
    chain = await market.grant(["noise", "n"], change=change)
    assert await refused(market, chain, market.token(chain, detail={"columns": ["n"]})) == "GRANT_UNKNOWN"
    assert any(chain.grant.name in record.message and reason in record.message for record in caplog.records)


@pytest.mark.parametrize("document", ["terms", "sharing_rule", "offering"])
async def test_a_document_changed_after_it_was_hashed_is_found(market: World, document: str) -> None:
    chain = market.chain(["noise", "n"])
    getattr(chain, document).scope.purposes.append("Marketing")
    await market.broker.open(chain)
    assert await refused(market, chain, market.token(chain)) == "GRANT_UNKNOWN"
    # And one whose hash follows, but not the hashes above it.
    again = market.chain(["noise", "n"])
    getattr(again, document).scope.purposes.append("Marketing")
    terms = again.terms.SerializeToString()
    market.seal(again)
    again.terms.ParseFromString(terms)
    await market.broker.open(again)
    assert await refused(market, again, market.token(again)) == "GRANT_UNKNOWN"


async def test_a_restart_recovers_what_was_missed(market: World) -> None:
    before, cut = await market.grant(["n"]), await market.grant(["n"])
    tokens = {chain.grant.name: market.token(chain) for chain in (before, cut)}
    for chain in (before, cut):
        assert not await refused(market, chain, tokens[chain.grant.name])
    await market.stop()
    missed = await market.broker.open(market.chain(["n"]), announced=False)
    await market.broker.revoke(broker.REVOCATION_KIND_GRANT, cut.grant.name, announced=False)
    await market.start()
    assert not await refused(market, missed, market.token(missed))
    assert not await refused(market, before, tokens[before.grant.name])
    assert await refused(market, cut, tokens[cut.grant.name]) == "GRANT_REVOKED"
    assert market.broker.registered[-1].public_url == market.url


async def test_a_grant_ends_when_its_license_does(market: World) -> None:
    chain = await market.grant(["noise", "n"], ends_in=1.5)
    token = market.token(chain)
    url = (await market.query(token))[1][2]["file"]["url"]
    assert (await market.http.head(url)).status_code == 200
    assert await until_refused(market, chain, token, 3) == "TOKEN_EXPIRED"
    assert (await market.http.get(url)).status_code == 401
