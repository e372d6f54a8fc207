"""Webhooks: signed, repeated until heard, and broken on purpose."""

import time
from typing import Any

import pytest
import stripe
from stripe_world import World

from stripe_simulator import StripeSimulator
from stripe_simulator.webhooks import signature

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


async def test_an_event_tells_whose_request_it_was(world: World) -> None:
    intent = await world.intents.create_async({"amount": 500, "currency": "usd"}, {"idempotency_key": "k"})
    await world.told()
    event: Any = world.receiver.events[0]
    assert (event.data.object.id, event.livemode, event.request.idempotency_key) == (intent.id, False, "k")
    assert event.request.id == intent.last_response.request_id
    stored = await world.stripe.v1.events.retrieve_async(event.id)
    assert (event.pending_webhooks, stored.pending_webhooks) == (1, 0)


async def test_the_event_holds_the_object_as_it_was_then(world: World) -> None:
    await world.pay()
    await world.told()
    statuses = [event.data.object.status for event in world.receiver.events]
    assert statuses == ["requires_confirmation", "succeeded", "succeeded"]


async def test_a_receiver_that_fails_is_asked_again(world: World) -> None:
    world.receiver.statuses = [500, 302, 404]
    await world.intents.create_async({"amount": 500, "currency": "usd"})
    assert await world.told() == ["payment_intent.created"]
    assert world.receiver.attempts == 4


async def test_a_duplicate_arrives_twice_with_one_id(world: World) -> None:
    world.simulator.faults.add("webhook_duplicate", match="charge.succeeded")
    await world.pay()
    assert (await world.told()).count("charge.succeeded") == 2
    assert len({event.id for event in world.receiver.events}) == 3


async def test_reordered_events_change_places(world: World) -> None:
    world.simulator.faults.add("webhook_reorder", match="payment_intent.created")
    await world.pay()
    told = await world.told()
    assert told != PAID
    assert sorted(told) == sorted(PAID)


async def test_a_dropped_event_is_still_in_the_list(world: World) -> None:
    world.simulator.faults.add("webhook_drop", match="payment_intent.succeeded")
    await world.pay()
    assert await world.told() == PAID[:2]
    listed = await world.stripe.v1.events.list_async({"types": ["payment_intent.succeeded"]})
    assert len(listed.data) == 1
    assert len((await world.stripe.v1.events.list_async({"type": "payment_intent.*"})).data) == 2


async def test_a_delayed_event_comes_last(world: World) -> None:
    world.simulator.faults.add("webhook_delay", seconds=0.2, match="payment_intent.created")
    await world.pay()
    assert await world.told() == [*PAID[1:], PAID[0]]


@pytest.mark.parametrize("kind", ["webhook_tamper", "webhook_old_timestamp"])
async def test_a_forged_event_is_refused_and_the_true_one_heard(world: World, kind: str) -> None:
    world.simulator.faults.add(kind)
    await world.intents.create_async({"amount": 500, "currency": "usd"})
    assert await world.told() == ["payment_intent.created"]
    assert len(world.receiver.refused) == 1


async def test_an_event_may_overtake_its_answer(world: World) -> None:
    world.simulator.faults.add("slow", seconds=0.3)
    intent = await world.intents.create_async({"amount": 500, "currency": "usd"})
    assert world.receiver.events[0].data.object.id == intent.id


async def test_every_event_may_come_before_the_answer(world: World) -> None:
    world.simulator.faults.add("deliver_before_response", seconds=5)
    world.receiver.statuses = [500]
    intent = await world.pay()
    assert (intent.status, sorted(world.receiver.types())) == ("succeeded", sorted(PAID))


async def test_what_was_missed_is_read_again_oldest_first(world: World) -> None:
    world.simulator.faults.add("webhook_drop", count=9)
    await world.pay()
    await world.pay()
    assert await world.told() == []
    wanted = {"types": ["charge.succeeded", "payment_intent.succeeded"], "limit": 1}
    pages = await world.stripe.v1.events.list_async(wanted)
    newest = [event async for event in pages.auto_paging_iter()]
    assert [event.type for event in newest] == ["payment_intent.succeeded", "charge.succeeded"] * 2
    # From the last one that was heard on, as a sweep does it.
    later = await world.stripe.v1.events.list_async({**wanted, "limit": 100, "ending_before": newest[-1].id})
    assert [event.id for event in later.data] == [event.id for event in newest[:-1]]
    again = await world.stripe.v1.events.list_async({**wanted, "created": {"lt": newest[-1].created}})
    assert again.data == []


async def test_an_endpoint_hears_what_it_asked_for_with_its_own_secret(world: World) -> None:
    endpoints = world.stripe.v1.webhook_endpoints
    made = await endpoints.create_async({"url": "http://127.0.0.1:9/x", "enabled_events": ["charge.refunded"]})
    assert made.secret.startswith("whsec_")
    listed = await endpoints.list_async()
    assert [row.to_dict().get("secret") for row in listed.data] == [None, None]
    await world.pay()
    assert await world.told() == PAID
    assert (await endpoints.delete_async(made.id)).deleted
    assert len((await endpoints.list_async()).data) == 1


def test_a_webhook_without_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a secret"):
        StripeSimulator(webhook_url="http://127.0.0.1:1/", webhook_secret="")


async def test_the_clients_own_check_accepts_the_signature(world: World) -> None:
    body = b'{"id": "evt_1", "object": "event", "type": "x"}'
    now = int(time.time())
    assert world.stripe.construct_event(body, signature(body, "whsec_1", now), "whsec_1").id == "evt_1"
    with pytest.raises(stripe.SignatureVerificationError):
        world.stripe.construct_event(body, signature(body, "whsec_2", now), "whsec_1")
