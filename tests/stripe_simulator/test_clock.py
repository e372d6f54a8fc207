"""The simulator's time: it moves on when asked, never back, does what falls due in order, and is remembered."""

from pathlib import Path
from typing import Any

import pytest
from stripe_connect import DAY, NOON, advance, has, ready
from stripe_world import OpenWorld, World

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
async def world(open_world: OpenWorld) -> World:
    return await open_world(clock=lambda: NOON, processing_seconds=4 * DAY)


async def test_pending_money_becomes_available_when_time_passes(world: World) -> None:
    await world.pay(1_000)
    assert await has(world) == (0, 941)
    await advance(world, 2 * DAY - 1)
    assert await has(world) == (0, 941)
    assert (await advance(world, 1)) == {"now": int(NOON) + 2 * DAY, "advanced_seconds": 2 * DAY, "done": 0}
    assert await has(world) == (941, 0)


async def test_what_falls_due_on_the_way_happens_at_its_own_time(world: World) -> None:
    debit = await world.pay(token="pm_usBankAccount_success")
    item = {"price_data": {"currency": "usd", "unit_amount": 900, "product_data": {"name": "n"}}, "quantity": 1}
    session = await world.sessions.create_async(
        {"mode": "payment", "success_url": "https://x.example/", "line_items": [item]}
    )
    assert (await advance(world, 30 * DAY))["done"] == 2
    assert (await world.intents.retrieve_async(debit.id)).status == "succeeded"
    assert (await world.sessions.retrieve_async(session.id)).status == "expired"
    events = (await world.stripe.v1.events.list_async({"limit": 100})).data
    times = {row.type: row.created - int(NOON) for row in events}
    assert (times["checkout.session.expired"], times["charge.succeeded"]) == (DAY, 4 * DAY)
    assert [row.created for row in events] == sorted((row.created for row in events), reverse=True)
    assert await has(world) == (941, 0)


async def test_time_never_goes_back(world: World) -> None:
    for asked in (-1, 1.5, "3", None, 10**12, True):
        answer = await world.raw.post("/_simulator/clock", json={"advance_seconds": asked})
        assert answer.status_code == 400, asked
    assert (await world.raw.post("/_simulator/clock", json={})).status_code == 400
    assert (await world.raw.post("/_simulator/clock", content="{}")).status_code == 415
    assert (await world.raw.get("/_simulator/clock")).json()["now"] == int(NOON)


async def test_keys_are_forgotten_after_a_day_of_that_time(world: World) -> None:
    send: Any = {"url": "/v1/customers", "data": {"name": "Ada"}, "headers": {"Idempotency-Key": "k"}}
    first = (await world.raw.post(**send)).json()
    await advance(world, DAY - 1)
    assert (await world.raw.post(**send)).json() == first
    await advance(world, 1)
    assert list(world.simulator._store.rows("idempotency")) == []
    assert (await world.raw.post(**send)).json()["id"] != first["id"]


async def test_a_key_belongs_to_one_account(world: World) -> None:
    await world.pay(5_000, token="pm_card_bypassPending")
    account = await ready(world)
    await world.stripe.v1.transfers.create_async({"amount": 900, "currency": "usd", "destination": account})
    params = {"amount": 100, "currency": "usd"}
    here = {"stripe_account": account, "idempotency_key": "k"}
    ours = await world.stripe.v1.payouts.create_async(params, {"idempotency_key": "k"})
    theirs = await world.stripe.v1.payouts.create_async(params, here)
    assert ours.id != theirs.id
    assert (await world.stripe.v1.payouts.create_async(params, here)).id == theirs.id


async def test_a_restart_remembers_the_time_and_what_is_on_its_way(open_world: OpenWorld, tmp_path: Path) -> None:
    settings: Any = {"state_path": tmp_path / "state.jsonl", "clock": lambda: NOON}
    world = await open_world(**settings)
    await world.pay(5_000, token="pm_card_bypassPending")
    account = await ready(world)
    transfers = world.stripe.v1.transfers
    transfer = await transfers.create_async({"amount": 900, "currency": "usd", "destination": account})
    here = {"stripe_account": account}
    payout = await world.stripe.v1.payouts.create_async({"amount": 400, "currency": "usd"}, here)
    await advance(world, DAY)
    before = world.simulator.describe()
    await world.told()
    await world.simulator.stop()
    again = await open_world(**settings)
    assert (await again.raw.get("/_simulator/clock")).json()["advanced_seconds"] == DAY
    assert {**again.simulator.describe(), "webhook_endpoints": 1} == {**before, "undelivered_webhooks": 0}
    assert await has(again, account) == (500, 0)
    await advance(again, DAY)
    assert (await again.stripe.v1.payouts.retrieve_async(payout.id, options=here)).status == "paid"
    assert (await again.stripe.v1.transfers.retrieve_async(transfer.id)).amount == 900
