"""Customers, the payment methods kept for them, setting those up, and paying with them while nobody is there."""

from typing import Any

import pytest
import stripe
from pytest import raises
from stripe_world import World

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

BACK = "https://shop.example/back"
CARDS = {"allowed_payment_method_types": ["card"]}


async def customer(world: World, **more: Any) -> Any:
    return await world.stripe.v1.customers.create_async({"email": "ada@example.org", "name": "Ada", **more})


async def set_up(world: World, token: str = "pm_card_visa", **more: Any) -> Any:
    params = {"payment_method": token, "confirm": True, "return_url": BACK, **more}
    return await world.stripe.v1.setup_intents.create_async(params)


async def kept(world: World, token: str = "pm_card_visa") -> tuple[Any, str]:
    """A customer, and the method that was set up for them without a question asked."""
    buyer = await customer(world)
    setup = await set_up(world, token, customer=buyer.id)
    if setup.status == "requires_action":
        await world.browser.post(setup.next_action.redirect_to_url.url, data={"answer": "complete"})
        setup = await world.stripe.v1.setup_intents.retrieve_async(setup.id)
    assert setup.status == "succeeded"
    return buyer, setup.payment_method


async def renew(world: World, buyer: Any, method: str, **more: Any) -> Any:
    """A payment while nobody is there."""
    return await world.pay(2000, method, customer=buyer.id, off_session=True, **CARDS, **more)


async def owned(world: World, buyer: Any, **more: Any) -> list[str]:
    return [row.id for row in (await world.stripe.v1.customers.payment_methods.list_async(buyer.id, more)).data]


async def test_a_customer_is_changed_found_and_deleted(world: World) -> None:
    ada, bob = await customer(world), await customer(world, email="bob@example.org")
    changed = await world.stripe.v1.customers.update_async(
        ada.id, {"name": "Ada L.", "phone": "5", "metadata": {"a": "1"}}
    )
    assert (changed.name, changed.phone, changed.metadata["a"]) == ("Ada L.", "5", "1")
    found = await world.stripe.v1.customers.list_async({"email": "bob@example.org"})
    assert [row.id for row in found.data] == [bob.id]
    assert (await world.stripe.v1.customers.delete_async(bob.id)).deleted
    assert (await world.stripe.v1.customers.retrieve_async(bob.id)).deleted
    assert [row.id for row in (await world.stripe.v1.customers.list_async()).data] == [ada.id]
    with raises(stripe.InvalidRequestError, match="No such customer"):
        await world.pay(customer=bob.id)
    told = ["customer.created", "customer.created", "customer.updated", "customer.deleted"]
    assert await world.told() == told


async def test_a_method_is_kept_preferred_and_given_up(world: World) -> None:
    buyer, methods = await customer(world), world.stripe.v1.payment_methods
    card = await methods.attach_async("pm_card_visa", {"customer": buyer.id})
    debit = await methods.attach_async("pm_usBankAccount_success", {"customer": buyer.id})
    assert await owned(world, buyer) == [debit.id, card.id]
    assert await owned(world, buyer, type="card") == [card.id]
    assert [row.id for row in (await methods.list_async({"customer": buyer.id})).data] == [debit.id, card.id]
    preferred = {"invoice_settings": {"default_payment_method": card.id}}
    buyer = await world.stripe.v1.customers.update_async(buyer.id, preferred)
    assert buyer.invoice_settings.default_payment_method == card.id
    assert (await methods.detach_async(card.id)).customer is None
    buyer = await world.stripe.v1.customers.retrieve_async(buyer.id)
    assert buyer.invoice_settings.default_payment_method is None
    for refused in (methods.attach_async(card.id, {"customer": buyer.id}), world.pay(token=card.id)):
        with raises(stripe.InvalidRequestError, match="detached from a Customer"):
            await refused
    with raises(stripe.InvalidRequestError, match="does not have a payment method"):
        await world.stripe.v1.customers.update_async(buyer.id, preferred)
    assert {"payment_method.attached", "payment_method.detached"} <= set(await world.told())


async def test_a_method_is_its_customers_alone(world: World) -> None:
    ada, method = await kept(world)
    bob = await customer(world)
    with raises(stripe.InvalidRequestError, match="does not belong to the Customer you supplied"):
        await world.pay(token=method, customer=bob.id)
    with raises(stripe.InvalidRequestError, match="Please include the Customer"):
        await world.pay(token=method)
    with raises(stripe.InvalidRequestError, match="already been attached"):
        await world.stripe.v1.payment_methods.attach_async(method, {"customer": bob.id})
    with raises(stripe.InvalidRequestError, match="No such payment_method"):
        await world.stripe.v1.customers.payment_methods.retrieve_async(bob.id, method)
    assert (await world.pay(token=method, customer=ada.id)).status == "succeeded"


async def test_a_method_used_without_being_kept_is_used_up(world: World) -> None:
    buyer = await customer(world)
    intent = await world.pay(customer=buyer.id)
    assert await owned(world, buyer) == []
    with raises(stripe.InvalidRequestError, match="It may not be used again"):
        await world.pay(token=intent.payment_method, customer=buyer.id)


async def test_paying_may_keep_the_method(world: World) -> None:
    buyer = await customer(world)
    intent = await world.pay(customer=buyer.id, setup_future_usage="off_session", transfer_group="order_1")
    assert await owned(world, buyer) == [intent.payment_method]
    charge = await world.stripe.v1.charges.retrieve_async(intent.latest_charge)
    assert (charge.transfer_group, charge.customer) == ("order_1", buyer.id)
    assert (await renew(world, buyer, intent.payment_method)).status == "succeeded"


async def test_setting_up_keeps_the_method(world: World) -> None:
    buyer, method = await kept(world)
    assert await owned(world, buyer) == [method]
    assert await world.told() == [
        "customer.created",
        "setup_intent.created",
        "payment_method.attached",
        "setup_intent.succeeded",
    ]


async def test_setting_up_in_steps_and_giving_up(world: World) -> None:
    setups = world.stripe.v1.setup_intents
    buyer = await customer(world)
    setup = await setups.create_async({"customer": buyer.id, **CARDS})
    assert (setup.status, setup.usage) == ("requires_payment_method", "off_session")
    with raises(stripe.InvalidRequestError, match="missing a payment method") as refused:
        await setups.confirm_async(setup.id)
    assert refused.value.code == "setup_intent_unexpected_state"
    setup = await setups.update_async(setup.id, {"payment_method": "pm_card_visa", "metadata": {"a": "1"}})
    assert (setup.status, setup.metadata["a"]) == ("requires_confirmation", "1")
    assert (await setups.cancel_async(setup.id)).status == "canceled"
    with raises(stripe.InvalidRequestError, match="already canceled"):
        await setups.cancel_async(setup.id)
    with raises(stripe.InvalidRequestError, match="No such setupintent: 'seti_x'"):
        await setups.retrieve_async("seti_x")
    assert [row.id for row in (await setups.list_async({"customer": buyer.id})).data] == [setup.id]


async def test_a_bank_asks_before_a_card_is_kept(world: World) -> None:
    buyer = await customer(world)
    setup = await set_up(world, "pm_card_authenticationRequired", customer=buyer.id)
    assert (setup.status, setup.next_action.type) == ("requires_action", "redirect_to_url")
    page = setup.next_action.redirect_to_url.url
    assert "keep this card" in (await world.browser.get(page)).text
    back = await world.browser.post(page, data={"answer": "fail"})
    assert f"setup_intent={setup.id}" in back.headers["location"]
    assert "redirect_status=failed" in back.headers["location"]
    setup = await world.stripe.v1.setup_intents.retrieve_async(setup.id)
    assert (setup.status, setup.last_setup_error.code) == (
        "requires_payment_method",
        "setup_intent_authentication_failure",
    )
    assert await owned(world, buyer) == []


async def test_a_declined_card_is_not_kept(world: World) -> None:
    buyer = await customer(world)
    with raises(stripe.CardError) as declined:
        await set_up(world, "pm_card_chargeDeclined", customer=buyer.id)
    error: Any = declined.value.error
    assert (declined.value.http_status, error.code, error.decline_code) == (402, "card_declined", "generic_decline")
    setup = await world.stripe.v1.setup_intents.retrieve_async(error.setup_intent.id)
    assert (setup.status, setup.last_setup_error.code) == ("requires_payment_method", "card_declined")
    with raises(stripe.CardError):
        await world.stripe.v1.payment_methods.attach_async("pm_card_chargeDeclined", {"customer": buyer.id})
    with raises(stripe.CardError):
        await customer(world, payment_method="pm_card_chargeDeclined")
    assert (await owned(world, buyer), world.simulator.describe()["customers"]) == ([], 1)


async def test_a_card_that_is_kept_and_then_declined(world: World) -> None:
    buyer = await customer(world)
    card = await world.stripe.v1.payment_methods.attach_async("pm_card_chargeCustomerFail", {"customer": buyer.id})
    with raises(stripe.CardError) as declined:
        await renew(world, buyer, card.id)
    error: Any = declined.value.error
    assert (declined.value.http_status, error.code, error.decline_code) == (402, "card_declined", "generic_decline")
    assert error.payment_intent.status == "requires_payment_method"
    assert error.payment_intent.last_payment_error.payment_method.id == card.id
    assert await owned(world, buyer) == [card.id]


async def test_a_card_that_always_asks_is_declined_off_session_and_paid_when_its_holder_comes(world: World) -> None:
    buyer, method = await kept(world, "pm_card_authenticationRequired")
    with raises(stripe.CardError) as declined:
        await renew(world, buyer, method)
    error: Any = declined.value.error
    assert (declined.value.http_status, error.code) == (402, "authentication_required")
    assert error.decline_code == "authentication_required"
    intent = error.payment_intent
    assert (intent.status, intent.last_payment_error.code) == ("requires_payment_method", "authentication_required")
    intent = await world.intents.confirm_async(intent.id, {"payment_method": method, "return_url": BACK})
    assert intent.status == "requires_action"
    await world.browser.post(intent.next_action.redirect_to_url.url, data={"answer": "complete"})
    assert (await world.intents.retrieve_async(intent.id)).status == "succeeded"


@pytest.mark.parametrize(
    "token", ["pm_card_authenticationRequiredOnSetup", "pm_card_authenticationRequiredSetupForOffSession"]
)
async def test_a_card_that_was_set_up_asks_no_more(world: World, token: str) -> None:
    buyer, method = await kept(world, token)
    assert (await renew(world, buyer, method)).status == "succeeded"


async def test_a_card_kept_without_asking_its_bank_is_declined_off_session(world: World) -> None:
    buyer = await customer(world)
    token = "pm_card_authenticationRequiredOnSetup"
    card = await world.stripe.v1.payment_methods.attach_async(token, {"customer": buyer.id})
    with raises(stripe.CardError) as declined:
        await renew(world, buyer, card.id)
    assert declined.value.code == "authentication_required"


async def test_off_session_goes_with_confirm(world: World) -> None:
    with raises(stripe.InvalidRequestError, match="unless `confirm`"):
        await world.intents.create_async({"amount": 500, "currency": "usd", "off_session": True})


async def test_checkout_keeps_the_card_for_a_customer_it_makes(world: World) -> None:
    price = {"currency": "usd", "unit_amount": 900, "product_data": {"name": "n"}}
    session = await world.sessions.create_async(
        {
            "mode": "payment",
            "success_url": "https://x.example/",
            "line_items": [{"price_data": price, "quantity": 1}],
            "payment_intent_data": {"setup_future_usage": "off_session", "transfer_group": "order_1"},
        }
    )
    await world.browser.post(session.url, data={"card_number": "4242424242424242", "email": "ada@example.org"})
    session = await world.sessions.retrieve_async(session.id, {"expand": ["customer", "payment_intent"]})
    assert (session.status, session.customer.email) == ("complete", "ada@example.org")
    assert session.payment_intent.transfer_group == "order_1"
    method = session.payment_intent.payment_method
    assert await owned(world, session.customer) == [method]
    assert (await renew(world, session.customer, method)).status == "succeeded"


async def test_an_intent_is_given_its_customer_and_method_later(world: World) -> None:
    buyer, method = await kept(world)
    intent = await world.intents.create_async({"amount": 500, "currency": "usd", **CARDS})
    intent = await world.intents.update_async(intent.id, {"customer": buyer.id, "payment_method": method})
    assert (intent.customer, intent.status) == (buyer.id, "requires_confirmation")
    assert (await world.intents.confirm_async(intent.id)).status == "succeeded"
    with raises(stripe.InvalidRequestError, match="could not be updated"):
        await world.intents.update_async(intent.id, {"payment_method": method})


async def test_a_deleted_customers_methods_are_given_up_and_old_payments_still_name_them(world: World) -> None:
    buyer, method = await kept(world)
    intent = await renew(world, buyer, method)
    await world.stripe.v1.customers.delete_async(buyer.id)
    assert (await world.stripe.v1.payment_methods.retrieve_async(method)).customer is None
    assert (await world.intents.retrieve_async(intent.id, {"expand": ["customer"]})).customer.deleted
    with raises(stripe.InvalidRequestError, match="No such customer"):
        await renew(world, buyer, method)
