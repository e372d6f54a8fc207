"""PaymentIntents, charges, refunds and their books, seen through the unmodified stripe library."""

from typing import Any

import pytest
import stripe
from pytest import raises
from stripe_world import OpenWorld, World

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


async def test_a_card_is_charged_once_and_the_fee_is_in_the_books(world: World) -> None:
    intent = await world.pay(25_000, metadata={"order": "o1"})
    assert (intent.status, intent.amount_received, intent.metadata["order"]) == ("succeeded", 25_000, "o1")
    charge = await world.stripe.v1.charges.retrieve_async(
        intent.latest_charge, {"expand": ["balance_transaction", "payment_intent.latest_charge"]}
    )
    books = charge.balance_transaction
    assert (charge.paid, charge.metadata["order"]) == (True, "o1")
    assert (books.amount, books.fee, books.net, books.status) == (25_000, 755, 24_245, "pending")
    assert charge.payment_intent.latest_charge.id == charge.id
    assert await world.told() == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


async def test_creating_then_confirming_reads_the_same_as_both_at_once(world: World) -> None:
    made = await world.intents.create_async(
        {"amount": 500, "currency": "EUR", "allowed_payment_method_types": ["card"]}
    )
    assert (made.status, made.currency) == ("requires_payment_method", "eur")
    paid = await world.intents.confirm_async(made.id, {"payment_method": "pm_card_mastercard"})
    assert (await world.intents.retrieve_async(made.id)).status == paid.status == "succeeded"
    with raises(stripe.InvalidRequestError, match="already succeeded") as refused:
        await world.intents.confirm_async(made.id)
    assert refused.value.code == "payment_intent_unexpected_state"


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    ],
)
async def test_a_declined_card_leaves_a_failed_charge_and_an_open_intent(
    world: World, token: str, code: Any, decline_code: str
) -> None:
    with raises(stripe.CardError) as declined:
        await world.pay(token=token)
    error: Any = declined.value.error
    assert (declined.value.http_status, error.code, error.decline_code) == (402, code, decline_code)
    intent = await world.intents.retrieve_async(error.payment_intent.id, {"expand": ["latest_charge"]})
    assert (intent.status, intent.latest_charge.status) == ("requires_payment_method", "failed")
    assert intent.last_payment_error.decline_code == decline_code
    assert await world.told() == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]
    paid = await world.intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert (paid.status, paid.last_payment_error) == ("succeeded", None)


async def test_a_bank_asks_first_and_the_buyer_comes_back(world: World) -> None:
    intent = await world.pay(token="pm_card_authenticationRequired", return_url="https://shop.example/back?x=1")
    assert (intent.status, intent.next_action.type) == ("requires_action", "redirect_to_url")
    page = intent.next_action.redirect_to_url.url
    assert "Complete authentication" in (await world.browser.get(page)).text
    back = await world.browser.post(page, data={"answer": "complete"})
    assert back.status_code == 303
    assert back.headers["location"].startswith(f"https://shop.example/back?x=1&payment_intent={intent.id}&")
    assert (await world.intents.retrieve_async(intent.id)).status == "succeeded"
    assert (await world.browser.post(page, data={"answer": "complete"})).status_code == 410
    assert "payment_intent.requires_action" in await world.told()


async def test_a_failed_authentication_charges_nothing(world: World) -> None:
    intent = await world.pay(token="pm_card_authenticationRequired", return_url="https://shop.example/back")
    back = await world.browser.post(intent.next_action.redirect_to_url.url, data={"answer": "fail"})
    assert "redirect_status=failed" in back.headers["location"]
    intent = await world.intents.retrieve_async(intent.id)
    assert (intent.status, intent.latest_charge) == ("requires_payment_method", None)
    assert intent.last_payment_error.code == "payment_intent_authentication_failure"


async def test_a_stranger_cannot_authenticate_without_the_secret(world: World) -> None:
    intent = await world.pay(token="pm_card_authenticationRequired", return_url="https://shop.example/back")
    answer = await world.browser.post(f"{world.url}/authenticate/{intent.id}?key=guess", data={"answer": "complete"})
    assert answer.status_code == 404
    assert (await world.intents.retrieve_async(intent.id)).status == "requires_action"


async def test_off_session_a_card_that_needs_its_holder_is_declined(world: World) -> None:
    with raises(stripe.CardError) as declined:
        await world.pay(token="pm_card_authenticationRequired", off_session=True)
    assert declined.value.code == "authentication_required"


async def test_a_bank_debit_processes_and_then_succeeds_or_fails(open_world: OpenWorld) -> None:
    world = await open_world(processing_seconds=3600)
    good = await world.pay(token="pm_usBankAccount_success")
    bad = await world.pay(token="pm_usBankAccount_insufficientFunds")
    never = await world.pay(token="pm_usBankAccount_processing")
    assert good.status == bad.status == never.status == "processing"
    assert (await world.raw.post("/_simulator/settle")).json() == {"settled": 2}
    statuses = [(await world.intents.retrieve_async(ident)).status for ident in (good.id, bad.id, never.id)]
    assert statuses == ["succeeded", "requires_payment_method", "processing"]
    assert {"payment_intent.processing", "charge.pending", "charge.failed"} <= set(await world.told())


async def test_a_debit_settles_by_itself_in_time(world: World) -> None:
    params = {
        "amount": 700,
        "currency": "eur",
        "confirm": True,
        "allowed_payment_method_types": ["sepa_debit"],
        "payment_method_data": {
            "type": "sepa_debit",
            "sepa_debit": {"iban": "AT61 1904 3002 3457 3201"},
            "billing_details": {"name": "Ada", "email": "ada@example.org"},
        },
    }
    intent = await world.intents.create_async(params)
    assert intent.status == "processing"
    while world.simulator.describe()["charges"]["succeeded"] == 0:
        await world.browser.get(f"{world.url}/_simulator/state")
    assert "payment_intent.succeeded" in await world.told()


async def test_canceling_is_final(world: World) -> None:
    intent = await world.intents.create_async({"amount": 500, "currency": "usd"})
    canceled = await world.intents.cancel_async(intent.id, {"cancellation_reason": "abandoned"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "abandoned")
    for act in (world.intents.cancel_async(intent.id), world.intents.confirm_async(intent.id)):
        with raises(stripe.InvalidRequestError) as refused:
            await act
        assert refused.value.code == "payment_intent_unexpected_state"
    assert await world.told() == ["payment_intent.created", "payment_intent.canceled"]


async def test_metadata_is_merged_and_unset(world: World) -> None:
    intent = await world.intents.create_async({"amount": 500, "currency": "usd", "metadata": {"a": "1", "b": "2"}})
    intent = await world.intents.update_async(intent.id, {"metadata": {"b": "", "c": "3"}, "description": "d"})
    assert (intent.metadata.to_dict(), intent.description) == ({"a": "1", "c": "3"}, "d")
    assert (await world.intents.update_async(intent.id, {"metadata": ""})).metadata.to_dict() == {}


async def test_refunds_never_exceed_the_charge(world: World) -> None:
    intent = await world.pay(1000)
    refunds = world.stripe.v1.refunds
    first = await refunds.create_async({"payment_intent": intent.id, "amount": 400, "reason": "requested_by_customer"})
    with raises(stripe.InvalidRequestError, match="greater than unrefunded amount") as refused:
        await refunds.create_async({"charge": intent.latest_charge, "amount": 601})
    assert refused.value.param == "amount"
    rest = await refunds.create_async({"charge": intent.latest_charge})
    assert (first.amount, rest.amount) == (400, 600)
    with raises(stripe.InvalidRequestError) as refused:
        await refunds.create_async({"charge": intent.latest_charge})
    assert refused.value.code == "charge_already_refunded"
    assert (await refunds.retrieve_async(rest.id)).status == "succeeded"
    charge = await world.stripe.v1.charges.retrieve_async(intent.latest_charge)
    assert (charge.refunded, charge.amount_refunded) == (True, 1000)
    books = await world.stripe.v1.balance_transactions.list_async({"type": "refund"})
    assert sorted(row.net for row in books.data) == [-600, -400]
    assert (await world.told()).count("charge.refunded") == 2


async def test_lists_come_in_pages_newest_first(world: World) -> None:
    made = [(await world.intents.create_async({"amount": 100 + n, "currency": "usd"})).id for n in range(5)]
    first = await world.intents.list_async({"limit": 2})
    assert ([row.id for row in first.data], first.has_more) == (made[:2:-1], True)
    assert [row.id async for row in first.auto_paging_iter()] == made[::-1]
    assert (await world.intents.list_async({"created": {"gt": 99_999_999_999}})).data == []


async def test_customers_belong_to_their_payments(world: World) -> None:
    customer = await world.stripe.v1.customers.create_async({"email": "ada@example.org", "name": "Ada"})
    intent = await world.pay(customer=customer.id)
    await world.pay()
    assert [row.id for row in (await world.intents.list_async({"customer": customer.id})).data] == [intent.id]
    expanded = await world.intents.retrieve_async(intent.id, {"expand": ["customer", "payment_method"]})
    assert (expanded.customer.email, expanded.payment_method.card.last4) == ("ada@example.org", "4242")
    with raises(stripe.InvalidRequestError, match="No such customer") as refused:
        await world.pay(customer="cus_nobody")
    assert (refused.value.http_status, refused.value.param) == (400, "customer")


async def test_money_becomes_available_after_two_days(open_world: OpenWorld) -> None:
    now = [1_800_000_000.0]
    world = await open_world(clock=lambda: now[0])
    await world.pay()
    books = world.stripe.v1.balance_transactions
    row = (await books.list_async()).data[0]
    assert (row.created, row.status) == (1_800_000_000, "pending")
    now[0] += 2 * 86_400
    assert (await books.retrieve_async(row.id)).status == "available"
