"""Checkout Sessions from their creation to the money, paid by posting the hosted page's form."""

from typing import Any

import pytest
import stripe
from pytest import raises
from stripe_world import OpenWorld, World

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def order(**change: Any) -> Any:
    price = {"currency": "usd", "unit_amount": 12_500, "product_data": {"name": "RAND <HIE>, 12 months"}}
    return {
        "mode": "payment",
        "line_items": [{"price_data": price, "quantity": 2}],
        "success_url": "https://shop.example/paid?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://shop.example/back",
        "client_reference_id": "orders/1",
        "metadata": {"order": "orders/1"},
        "payment_intent_data": {"metadata": {"order": "orders/1"}},
        **change,
    }


async def test_a_buyer_pays_on_the_page_and_comes_back(world: World) -> None:
    session = await world.sessions.create_async(order())
    assert (session.status, session.payment_status, session.payment_intent) == ("open", "unpaid", None)
    assert (session.amount_total, session.id[:8]) == (25_000, "cs_test_")
    page = await world.browser.get(session.url)
    assert "RAND &lt;HIE&gt;" in page.text
    assert "$250.00" in page.text
    assert "<script" not in page.text
    paid = await world.browser.post(
        session.url, data={"card_number": "4242 4242 4242 4242", "email": "ada@example.org"}
    )
    assert (paid.status_code, paid.headers["location"]) == (303, f"https://shop.example/paid?session={session.id}")
    session = await world.sessions.retrieve_async(
        session.id, {"expand": ["payment_intent.latest_charge.balance_transaction", "line_items"]}
    )
    assert (session.status, session.payment_status, session.url) == ("complete", "paid", None)
    assert (session.client_reference_id, session.customer_details.email) == ("orders/1", "ada@example.org")
    assert session.line_items.data[0].price.unit_amount == 12_500
    intent = session.payment_intent
    assert (intent.status, intent.metadata["order"]) == ("succeeded", "orders/1")
    assert intent.latest_charge.balance_transaction.net == 25_000 - 755
    assert await world.told() == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]


async def test_paying_twice_in_two_tabs_is_one_charge(world: World) -> None:
    session = await world.sessions.create_async(order())
    for _ in range(2):
        assert (await world.browser.post(session.url, data={"card_number": "4242424242424242"})).status_code == 303
    assert world.simulator.describe()["charges"] == {"succeeded": 1}


async def test_a_declined_buyer_tries_again_with_another_card(world: World) -> None:
    session = await world.sessions.create_async(order())
    refused = await world.browser.post(session.url, data={"pay_with": "declined_card"})
    assert refused.status_code == 402
    assert "Your card was declined." in refused.text
    nonsense = await world.browser.post(session.url, data={"card_number": "<b>1"})
    assert (nonsense.status_code, "<b>1" in nonsense.text) == (402, False)
    session = await world.sessions.retrieve_async(session.id)
    assert (session.status, session.payment_status) == ("open", "unpaid")
    first = session.payment_intent
    assert (await world.browser.post(session.url, data={"card_number": "4242424242424242"})).status_code == 303
    assert (await world.sessions.retrieve_async(session.id)).payment_intent == first
    assert world.simulator.describe()["charges"] == {"failed": 1, "succeeded": 1}
    assert "payment_intent.payment_failed" in await world.told()


async def test_a_card_whose_bank_asks_goes_by_its_page(world: World) -> None:
    session = await world.sessions.create_async(order())
    asked = await world.browser.post(session.url, data={"card_number": "4000002760003184"})
    assert asked.status_code == 303
    failed = await world.browser.post(asked.headers["location"], data={"answer": "fail"})
    assert failed.headers["location"].startswith(session.url)
    asked = await world.browser.post(session.url, data={"card_number": "4000002760003184"})
    paid = await world.browser.post(asked.headers["location"], data={"answer": "complete"})
    assert paid.headers["location"] == f"https://shop.example/paid?session={session.id}"
    assert (await world.sessions.retrieve_async(session.id)).payment_status == "paid"


@pytest.mark.parametrize(("choice", "end"), [("bank", "succeeded"), ("bank_fails", "failed")])
async def test_a_bank_debit_completes_now_and_pays_or_fails_later(open_world: OpenWorld, choice: str, end: str) -> None:
    world = await open_world(processing_seconds=3600)
    session = await world.sessions.create_async(order())
    assert (await world.browser.post(session.url, data={"pay_with": choice})).status_code == 303
    session = await world.sessions.retrieve_async(session.id)
    assert (session.status, session.payment_status) == ("complete", "unpaid")
    await world.raw.post("/_simulator/settle")
    session = await world.sessions.retrieve_async(session.id)
    assert session.payment_status == ("paid" if end == "succeeded" else "unpaid")
    assert (await world.told())[-1] == f"checkout.session.async_payment_{end}"


async def test_an_expired_session_cannot_be_paid(world: World) -> None:
    session = await world.sessions.create_async(order())
    await world.browser.post(session.url, data={"pay_with": "declined_card"})
    expired = await world.sessions.expire_async(session.id)
    assert (expired.status, expired.url) == ("expired", None)
    assert (await world.browser.post(session.url, data={"card_number": "4242424242424242"})).status_code == 410
    with raises(stripe.InvalidRequestError, match="status of expired"):
        await world.sessions.expire_async(session.id)
    assert (await world.intents.retrieve_async(expired.payment_intent)).status == "canceled"
    assert (await world.told())[-2:] == ["payment_intent.canceled", "checkout.session.expired"]


async def test_a_session_expires_by_the_clock(open_world: OpenWorld) -> None:
    now = [1_800_000_000.0]
    world = await open_world(clock=lambda: now[0])
    session = await world.sessions.create_async(order(expires_at=1_800_000_000 + 1800))
    now[0] += 1801
    assert (await world.browser.get(session.url)).status_code == 410
    assert world.simulator.settle() in (0, 1)  # the simulator's own loop may have been first
    assert (await world.sessions.retrieve_async(session.id)).status == "expired"
    assert await world.told() == ["checkout.session.expired"]


async def test_the_intent_of_a_session_answers_to_the_session_alone(world: World) -> None:
    session = await world.sessions.create_async(order())
    await world.browser.post(session.url, data={"pay_with": "declined_card"})
    intent = (await world.sessions.retrieve_async(session.id)).payment_intent
    with raises(stripe.InvalidRequestError, match="belongs to the Checkout Session"):
        await world.intents.cancel_async(intent)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"mode": "subscription"}, "mode"),
        ({"success_url": "javascript:alert(1)"}, "success_url"),
        ({"line_items": []}, "line_items"),
        ({"line_items": [{"price": "price_1", "quantity": 1}]}, "line_items[0][price]"),
        ({"automatic_tax": {"enabled": True}}, "automatic_tax"),
        ({"expires_at": 5}, "expires_at"),
        ({"payment_intent_data": {"on_behalf_of": "acct_1"}}, "payment_intent_data[on_behalf_of]"),
    ],
)
async def test_a_session_that_cannot_be_is_refused(world: World, change: Any, param: str) -> None:
    with raises(stripe.InvalidRequestError) as refused:
        await world.sessions.create_async(order(**change))
    assert refused.value.param == param


@pytest.mark.parametrize(("currency", "amount"), [("zzz", 1000), ("usd", 49), ("usd", -1)])
async def test_a_session_over_impossible_money_is_refused(world: World, currency: str, amount: int) -> None:
    price = {"currency": currency, "unit_amount": amount, "product_data": {"name": "x"}}
    with raises(stripe.InvalidRequestError):
        await world.sessions.create_async(order(line_items=[{"price_data": price, "quantity": 1}]))


async def test_sessions_are_listed(world: World) -> None:
    ids = [(await world.sessions.create_async(order())).id for _ in range(2)]
    await world.sessions.expire_async(ids[0])
    assert [row.id for row in (await world.sessions.list_async({"status": "open"})).data] == ids[1:]
    items = await world.sessions.line_items.list_async(ids[0])
    assert items.data[0].amount_total == 25_000
