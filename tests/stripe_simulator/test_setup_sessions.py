"""Checkout in setup mode: a card is kept on the hosted page and charged later without its holder."""

from typing import Any

import pytest
import stripe
from stripe_world import World


async def open_page(world: World, **more: Any) -> Any:
    customer = await world.stripe.v1.customers.create_async({"name": "acme"})
    return await world.sessions.create_async(
        {
            "mode": "setup",
            "customer": customer.id,
            "allowed_payment_method_types": ["card"],
            "success_url": "https://shop.example/saved",
            "metadata": {"setup": "set_1"},
            **more,
        }
    )


async def look(world: World, session: Any) -> Any:
    return await world.sessions.retrieve_async(session.id, {"expand": ["setup_intent.payment_method"]})


async def test_a_card_is_saved_on_the_page_and_charged_later(world: World) -> None:
    session = await open_page(world)
    assert (session.mode, session.payment_status, session.amount_total) == ("setup", "no_payment_required", None)
    assert "Save card" in (await world.browser.get(session.url)).text
    answer = await world.browser.post(session.url, data={"card_number": "4242424242424242"})
    assert (answer.status_code, answer.headers["location"]) == (303, "https://shop.example/saved")
    found = await look(world, session)
    method = found.setup_intent.payment_method
    assert (found.status, found.setup_intent.status, method.card.last4) == ("complete", "succeeded", "4242")
    assert method.customer == session.customer
    paid = await world.pay(
        token=method.id, customer=session.customer, off_session=True, allowed_payment_method_types=["card"]
    )
    assert paid.status == "succeeded"


async def test_the_cards_bank_is_asked_first(world: World) -> None:
    session = await open_page(world)
    asked = await world.browser.post(session.url, data={"card_number": "4000002760003184"})
    assert (await look(world, session)).status == "open"
    answer = await world.browser.post(asked.headers["location"], data={"answer": "complete"})
    assert answer.headers["location"] == "https://shop.example/saved"
    assert (await look(world, session)).setup_intent.status == "succeeded"


async def test_a_declined_card_leaves_the_page_open(world: World) -> None:
    session = await open_page(world)
    answer = await world.browser.post(session.url, data={"card_number": "4000000000000002"})
    assert (answer.status_code, "declined" in answer.text) == (402, True)
    assert (await look(world, session)).status == "open"


async def test_an_expired_page_keeps_nothing(world: World) -> None:
    session = await open_page(world)
    await world.sessions.expire_async(session.id)
    found = await look(world, session)
    assert (found.status, found.setup_intent.status) == ("expired", "canceled")
    assert (await world.browser.post(session.url, data={"card_number": "4242424242424242"})).status_code == 410


@pytest.mark.parametrize(
    ("more", "param"),
    [({"submit_type": "pay"}, "submit_type"), ({"payment_intent_data": {"description": "x"}}, "payment_intent_data")],
)
async def test_nothing_is_paid_in_setup_mode(world: World, more: dict[str, Any], param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await open_page(world, **more)
    assert refused.value.param == param
