"""Refunds that wait or fail, and payments that are authorized first and captured later."""

from typing import Any

import pytest
import stripe
from pytest import raises
from stripe_world import OpenWorld, World

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

HOUR = 3_600


async def held(world: World, amount: int = 1000, **more: Any) -> Any:
    return await world.pay(amount, capture_method="manual", allowed_payment_method_types=["card"], **more)


async def refunded(world: World, token: str) -> Any:
    intent = await world.pay(1000, token)
    return await world.stripe.v1.refunds.create_async({"payment_intent": intent.id})


async def test_a_refund_that_fails_later_gives_the_money_back_to_us(open_world: OpenWorld) -> None:
    world = await open_world(processing_seconds=HOUR)
    given = await refunded(world, "pm_card_refundFail")
    assert given.status == "succeeded"
    world.simulator.settle(debits_at_once=True)
    failed = await world.stripe.v1.refunds.retrieve_async(given.id, {"expand": ["failure_balance_transaction"]})
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    back = failed.failure_balance_transaction
    assert (back.type, back.net, back.source) == ("refund_failure", 1000, given.id)
    charge = await world.stripe.v1.charges.retrieve_async(given.charge)
    assert (charge.refunded, charge.amount_refunded) == (False, 0)
    assert (await world.told())[-4:] == ["charge.updated", "refund.updated", "charge.refund.updated", "refund.failed"]
    assert (await world.stripe.v1.refunds.create_async({"charge": given.charge})).amount == 1000


async def test_a_refund_that_waits_goes_through_in_time(open_world: OpenWorld) -> None:
    world = await open_world(processing_seconds=HOUR)
    given = await refunded(world, "pm_card_pendingRefund")
    assert (given.status, given.pending_reason) == ("pending", "processing")
    world.simulator.advance(HOUR)
    done = await world.stripe.v1.refunds.retrieve_async(given.id)
    assert (done.status, done.pending_reason) == ("succeeded", None)
    assert (await world.told())[-2:] == ["refund.updated", "charge.refund.updated"]


async def test_any_refund_fails_on_demand_and_only_once(world: World) -> None:
    given = await refunded(world, "pm_card_visa")
    failed = await world.bank(f"refunds/{given.id}/fail", reason="lost_or_stolen_card")
    assert (failed["status"], failed["failure_reason"]) == ("failed", "lost_or_stolen_card")
    again = await world.raw.post(f"/_simulator/refunds/{given.id}/fail", json={})
    assert (again.status_code, "cannot fail" in again.text) == (400, True)
    assert world.simulator.describe()["refunded_minor"] == {}


async def test_a_refund_keeps_notes(world: World) -> None:
    given = await refunded(world, "pm_card_visa")
    changed = await world.stripe.v1.refunds.update_async(given.id, {"metadata": {"order": "o1"}})
    assert changed.metadata["order"] == "o1"


async def test_what_is_held_is_captured_in_part_and_the_rest_is_free(world: World) -> None:
    intent = await held(world)
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("requires_capture", 1000, 0)
    assert (await world.stripe.v1.balance_transactions.list_async()).data == []
    with raises(stripe.InvalidRequestError) as refused:
        await world.intents.capture_async(intent.id, {"amount_to_capture": 1001})
    assert (refused.value.code, refused.value.param) == ("amount_too_large", "amount_to_capture")
    taken = await world.intents.capture_async(
        intent.id, {"amount_to_capture": 400, "expand": ["latest_charge.balance_transaction"]}
    )
    assert (taken.status, taken.amount_capturable, taken.amount_received) == ("succeeded", 0, 400)
    charge = taken.latest_charge
    assert (charge.amount, charge.amount_captured, charge.balance_transaction.amount) == (1000, 400, 400)
    assert await world.told() == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
    ]
    with raises(stripe.InvalidRequestError, match="greater than unrefunded amount"):
        await world.stripe.v1.refunds.create_async({"charge": charge.id, "amount": 401})
    assert (await world.stripe.v1.refunds.create_async({"charge": charge.id})).amount == 400


async def test_what_is_held_may_be_let_go(world: World) -> None:
    intent = await held(world)
    assert (await world.intents.cancel_async(intent.id)).status == "canceled"
    assert world.simulator.describe()["paid_minor"] == {"usd": 0}
    with raises(stripe.InvalidRequestError) as refused:
        await world.intents.capture_async(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"


async def test_what_is_held_for_a_week_is_let_go(world: World) -> None:
    intent = await held(world)
    world.simulator.advance(7 * 24 * HOUR)
    intent = await world.intents.retrieve_async(intent.id)
    assert (intent.status, intent.cancellation_reason) == ("canceled", "automatic")
    assert "charge.expired" in await world.told()


async def test_a_dispute_comes_only_after_the_capture(world: World) -> None:
    intent = await held(world, token="pm_card_createDispute")
    assert (await world.stripe.v1.disputes.list_async()).data == []
    await world.intents.capture_async(intent.id, {"amount_to_capture": 600})
    assert [row.amount for row in (await world.stripe.v1.disputes.list_async()).data] == [600]


async def test_a_bank_debit_cannot_be_held(world: World) -> None:
    with raises(stripe.InvalidRequestError, match="not allowed for this PaymentIntent"):
        await world.pay(token="pm_usBankAccount_success", capture_method="manual")


async def test_checkout_may_hold_too(world: World) -> None:
    price = {"currency": "usd", "unit_amount": 900, "product_data": {"name": "n"}}
    session = await world.sessions.create_async(
        {
            "mode": "payment",
            "success_url": "https://x.example/",
            "line_items": [{"price_data": price, "quantity": 1}],
            "payment_intent_data": {"capture_method": "manual"},
        }
    )
    await world.browser.post(session.url, data={"card_number": "4242424242424242"})
    session = await world.sessions.retrieve_async(session.id)
    assert (session.status, session.payment_status) == ("complete", "unpaid")
    await world.intents.capture_async(session.payment_intent)
    assert (await world.sessions.retrieve_async(session.id)).payment_status == "paid"
