"""Cutting off: the feed without gaps, who may revoke what, and the heartbeat that says nothing was missed."""

import asyncio
import json
import time

from broker_market import Deal, Market, Site, until
from house import Person, refused

from access_broker import store
from access_broker.heartbeat import PREFIX, subject_for
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import events_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale_kit.clock import now
from rochdale_kit.database import Database
from rochdale_kit.signing import KeySet


async def opened(market: Market, site: Site, buyer: Person) -> Deal:
    deal = market.deal(site, buyer)
    assert (await market.activate(deal)).state == pb.GRANT_STATE_OPEN
    return deal


async def revoke(market: Market, person: Person, token_id: str) -> pb.RevokeTokenResponse:
    reply: pb.RevokeTokenResponse = await market.broker.RevokeToken(
        pb.RevokeTokenRequest(token_id=token_id), metadata=person.metadata
    )
    return reply


async def test_a_terminated_license_is_in_the_feed_of_its_gateway(market: Market, site: Site, buyer: Person) -> None:
    deal = await opened(market, site, buyer)
    grant, before = await market.grant_of(deal), (await market.feed(site)).last_sequence
    closed = await market.terminate(deal)
    assert closed.state_reason == "LICENSE_TERMINATED"

    async def told() -> events_pb2.AccessRevoked | None:
        heard = market.told(events_pb2.AccessRevoked)
        return next((event for event in heard if event.revocation.subject == grant.name), None)

    event = await until(told)
    feed = await market.feed(site, before)
    assert list(feed.revocations) == [event.revocation] and event.gateway == f"gateways/{site.id}"
    assert (event.revocation.sequence, event.revocation.kind) == (before + 1, pb.REVOCATION_KIND_GRANT)
    # It matters as long as a token of the grant could live.
    assert event.revocation.forget_time.seconds - event.revocation.revoke_time.seconds >= 86_400
    # The same again changes nothing.
    await market.terminate(deal)
    await opened(market, site, buyer)
    assert (await market.feed(site)).last_sequence == before + 1


async def test_suspended_then_ended_is_told_twice(market: Market, site: Site, buyer: Person) -> None:
    deal = await opened(market, site, buyer)
    grant, before = await market.grant_of(deal), (await market.feed(site)).last_sequence
    for _ in range(2):
        await market.tell(licensing_events.LicenseSuspended(license=deal.license))
    await market.grant_of(deal, pb.GRANT_STATE_SUSPENDED)
    await market.terminate(deal)
    await market.tell(licensing_events.LicenseSuspended(license=deal.license))
    await opened(market, site, buyer)
    assert (await market.grant_of(deal)).state == pb.GRANT_STATE_CLOSED
    assert [one.subject for one in (await market.feed(site, before)).revocations] == [grant.name] * 2


async def test_holder_cooperative_and_operator_revoke_a_token_and_nobody_else(
    market: Market, site: Site, buyer: Person
) -> None:
    deal = await opened(market, site, buyer)
    stranger, elsewhere = await market.house.buyer("passer-by"), await market.site("other-town")
    for person in (buyer, site.steward, await market.house.operator()):
        issued, before = await market.issue(buyer, deal), (await market.feed(site)).last_sequence
        for other in (stranger, elsewhere.steward):
            async with refused("NOT_FOUND", name=issued.token_id):
                await revoke(market, other, issued.token_id)
        first = await revoke(market, person, issued.token_id)
        assert await revoke(market, person, issued.token_id) == first
        (entry,) = (await market.feed(site, before)).revocations
        assert (entry.kind, entry.subject) == (pb.REVOCATION_KIND_TOKEN, issued.token_id)
        assert entry.forget_time == issued.expire_time and entry.revoke_time == first.revoke_time
    async with refused("NOT_FOUND"):
        await revoke(market, buyer, "tok_00000000000000000000000000")
    async with refused("ROLE_MISSING"):
        await market.broker.ListRevocations(pb.ListRevocationsRequest(), metadata=buyer.metadata)


async def test_numbers_have_no_gap_and_no_double_whatever_races_or_fails(market: Market, buyer: Person) -> None:
    site = await market.site("races")
    deal = await opened(market, site, buyer)
    tokens = [(await market.issue(buyer, deal)).token_id for _ in range(40)]
    database = Database(await market.house.database_url("access_broker"))

    async def fail() -> None:
        async with database.begin() as connection:
            await store.insert_revocation(connection, site.id, pb.REVOCATION_KIND_TOKEN, "tok_never", now(), None)
            await asyncio.sleep(0.002)
            raise RuntimeError("rolled back")

    work = [revoke(market, buyer, token) for token in tokens + tokens[:10]]
    results = await asyncio.gather(*work, *(fail() for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, RuntimeError) for result in results) == 10
    assert not any(isinstance(result, Exception) for result in results[:50])
    await database.close()

    found: list[pb.Revocation] = []
    while True:
        reply = await market.broker.ListRevocations(
            pb.ListRevocationsRequest(after_sequence=len(found), page_size=7), metadata=site.gateway.metadata
        )
        assert reply.last_sequence == 40
        if not reply.revocations:
            break
        found += reply.revocations
    assert [entry.sequence for entry in found] == list(range(1, 41))
    assert {entry.subject for entry in found} == set(tokens)

    async def all_told() -> bool:
        mine = [event for event in market.told(events_pb2.AccessRevoked) if event.gateway == f"gateways/{site.id}"]
        # In the order of the feed, so that a gateway which hears them sees no gap that is none.
        return [event.revocation.sequence for event in mine] == list(range(1, 41))

    await until(all_told)


async def test_a_heartbeat_a_second_says_the_last_number_and_is_signed(market: Market, buyer: Person) -> None:
    site = await market.site("heart")
    beats: list[events_pb2.SignedHeartbeat] = []

    async def hear(message: object) -> None:
        data: bytes = message.data  # type: ignore[attr-defined]
        beats.append(events_pb2.SignedHeartbeat.FromString(data))

    subscription = await market.nats.subscribe(subject_for(site.id), cb=hear)
    deal = await opened(market, site, buyer)
    await revoke(market, buyer, (await market.issue(buyer, deal)).token_id)
    revoked = time.time_ns()

    def moment(signed: events_pb2.SignedHeartbeat) -> int:
        return events_pb2.Heartbeat.FromString(signed.heartbeat).broker_time.ToNanoseconds()

    async def three_since() -> bool:
        return sum(moment(signed) > revoked for signed in beats) >= 3

    await until(three_since)
    await subscription.unsubscribe()
    assert subject_for(site.id) == f"rochdale.access_broker.v1.heartbeat.{site.id}"
    keys = await market.broker.GetKeySet(pb.GetKeySetRequest())
    key_set = KeySet.from_jwks(keys.jwks_json)
    assert PREFIX == b"rochdale-heartbeat-v1" and len(json.loads(keys.jwks_json)["keys"]) >= 2
    for signed in beats:
        assert key_set.verify(signed.key_id, signed.signature, PREFIX + signed.heartbeat)
        assert not key_set.verify(signed.key_id, signed.signature, signed.heartbeat)
        beat = events_pb2.Heartbeat.FromString(signed.heartbeat)
        assert beat.gateway == f"gateways/{site.id}"
        # Whatever was recorded by the time a heartbeat names is counted in it.
        assert beat.last_sequence == 1 or moment(signed) < revoked
    assert [moment(signed) for signed in beats] == sorted({moment(signed) for signed in beats})
    # Not kept: a gateway that was away asks for its feed instead of hearing yesterday's "nothing was missed".
    stream = await market.nats.jetstream().stream_info("access_broker", subjects_filter=">")
    assert not any("heartbeat" in subject for subject in stream.state.subjects or {})
