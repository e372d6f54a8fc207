"""What the simulator and Stripe's own test mode both promise, asked of each through the unmodified stripe library.

Stripe is asked when STRIPE_TEST_KEY holds a test key; whatever is not asked of it says why in its skip. Leaves out what
only the simulator can be made to do, which its other tests try.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stripe
from pytest import raises
from stripe_connect import ready
from stripe_shapes import misfits
from stripe_world import World

from stripe_simulator import StripeSimulator

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

PATIENCE_SECONDS = 60.0
HERE = {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}


def checked_key(key: str | None) -> str:
    """The key to ask Stripe's test mode with; a live key is refused before anything is sent."""
    if not key:
        pytest.skip("STRIPE_TEST_KEY is not set, so Stripe's own test mode was not asked.")
    if not key.startswith("sk_test_"):
        # Not a word of the key itself: it may be somebody's live key.
        pytest.fail("STRIPE_TEST_KEY is not a key of Stripe's test mode (sk_test_…); nothing was sent.")
    return key


class Shop:
    """One side of the contract: a client of the simulator, or of Stripe's test mode."""

    def __init__(self, key: str, url: str | None) -> None:
        self.url = url
        self._http = stripe.HTTPXClient(verify_ssl_certs=url is None)
        client: Any = stripe.StripeClient(
            key,
            base_addresses={"api": url} if url else None,
            http_client=self._http,
            max_network_retries=0,
        )
        self.v1: Any = client.v1

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call] # the library's own omission

    def only_simulator(self, why: str) -> str:
        """The simulator's address; skips on Stripe's side, saying why."""
        if self.url is None:
            pytest.skip(f"Not asked of Stripe: {why}")
        return self.url

    async def pay(self, amount: int = 1000, method: str = "pm_card_visa", **more: Any) -> Any:
        params = {"amount": amount, "currency": "usd", "confirm": True, "payment_method": method, **HERE, **more}
        return await self.v1.payment_intents.create_async(params)

    async def customer(self) -> Any:
        return await self.v1.customers.create_async({"name": "Contract test"})

    async def kept(self, token: str) -> tuple[str, str]:
        """A customer with a card that was attached and never set up."""
        buyer = await self.customer()
        card = await self.v1.payment_methods.attach_async(token, {"customer": buyer.id})
        return buyer.id, card.id


@pytest.fixture(params=["simulator", "stripe"])
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    if request.param == "stripe":
        asked = Shop(checked_key(os.environ.get("STRIPE_TEST_KEY")), None)
        yield asked
    else:
        simulator = StripeSimulator(processing_seconds=0.05)
        asked = Shop("sk_test_contract", await simulator.start())
        yield asked
        await simulator.stop()
    await asked.close()


async def eventually(read: Callable[[], Awaitable[Any]], fits: Callable[[Any], Any]) -> Any:
    """What `read` gives once it fits: Stripe does much of its work after it has answered."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await read()
            if fits(found):
                return found
            await asyncio.sleep(0.05)


async def test_a_charge_is_in_the_books(shop: Shop) -> None:
    intent = await shop.pay(2500, metadata={"order": "o1"}, transfer_group="order_o1")
    assert (intent.status, intent.amount_received, intent.metadata["order"]) == ("succeeded", 2500, "o1")

    async def charge() -> Any:
        return await shop.v1.charges.retrieve_async(intent.latest_charge, {"expand": ["balance_transaction"]})

    paid = await eventually(charge, lambda found: found.balance_transaction)
    assert (paid.paid, paid.captured, paid.disputed, paid.transfer_group) == (True, True, False, "order_o1")
    books = paid.balance_transaction
    assert (books.type, books.reporting_category, books.source) == ("charge", "charge", paid.id)
    assert books.net == books.amount - books.fee
    assert sum(fee.amount for fee in books.fee_details) == books.fee


async def test_the_same_key_is_the_same_payment(shop: Shop) -> None:
    options = {"idempotency_key": f"contract:{uuid4()}"}
    params = {"amount": 900, "currency": "usd"}
    first = await shop.v1.payment_intents.create_async(params, options)
    again = await shop.v1.payment_intents.create_async(params, options)
    assert again.id == first.id
    assert again.last_response.headers["idempotent-replayed"] == "true"
    with raises(stripe.IdempotencyError):
        await shop.v1.payment_intents.create_async({**params, "amount": 901}, options)


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
    ],
)
async def test_a_decline_leaves_an_open_intent(shop: Shop, token: str, code: str, decline_code: str) -> None:
    with raises(stripe.CardError) as declined:
        await shop.pay(method=token)
    error: Any = declined.value.error
    assert (declined.value.http_status, error.code, error.decline_code) == (402, code, decline_code)
    assert error.payment_intent.status == "requires_payment_method"
    charge = await shop.v1.charges.retrieve_async(error.charge)
    assert (charge.status, charge.failure_code, charge.balance_transaction) == ("failed", code, None)
    paid = await shop.v1.payment_intents.confirm_async(error.payment_intent.id, {"payment_method": "pm_card_visa"})
    assert paid.status == "succeeded"


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"amout": 5}, "amout", "parameter_unknown"),
        ({"amount": 1}, None, "amount_too_small"),
        ({"currency": "zzz"}, "currency", None),
        ({"payment_method": "pm_nothing"}, "payment_method", "resource_missing"),
        ({"customer": "cus_nobody"}, "customer", "resource_missing"),
    ],
)
async def test_a_wrong_parameter_is_refused(shop: Shop, change: Any, param: Any, code: Any) -> None:
    params: Any = {"amount": 900, "currency": "usd", **change}
    with raises(stripe.InvalidRequestError) as refused:
        await shop.v1.payment_intents.create_async(params)
    assert refused.value.http_status == 400
    assert refused.value.code == code
    assert param is None or refused.value.param == param


async def test_what_is_not_there_is_missing(shop: Shop) -> None:
    for noun, ident in (
        (shop.v1.payment_intents, "pi_nothing"),
        (shop.v1.disputes, "du_nothing"),
        (shop.v1.setup_intents, "seti_nothing"),
        (shop.v1.refunds, "re_nothing"),
    ):
        with raises(stripe.InvalidRequestError, match=f"No such .*: '{ident}'") as refused:
            await noun.retrieve_async(ident)
        assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


async def test_canceling_is_final(shop: Shop) -> None:
    intent = await shop.v1.payment_intents.create_async({"amount": 900, "currency": "usd", **HERE})
    canceled = await shop.v1.payment_intents.cancel_async(intent.id, {"cancellation_reason": "abandoned"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "abandoned")
    with raises(stripe.InvalidRequestError) as refused:
        await shop.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert refused.value.code == "payment_intent_unexpected_state"


async def test_what_is_held_is_captured_in_part(shop: Shop) -> None:
    intent = await shop.pay(1000, capture_method="manual")
    assert (intent.status, intent.amount_capturable) == ("requires_capture", 1000)
    with raises(stripe.InvalidRequestError) as refused:
        await shop.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 1001})
    assert refused.value.code == "amount_too_large"
    taken = await shop.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 400})
    assert (taken.status, taken.amount_received, taken.amount_capturable) == ("succeeded", 400, 0)
    charge = await shop.v1.charges.retrieve_async(taken.latest_charge)
    assert (charge.amount, charge.amount_captured) == (1000, 400)


async def test_a_card_set_up_once_pays_while_nobody_is_there(shop: Shop) -> None:
    buyer = await shop.customer()
    setup = await shop.v1.setup_intents.create_async(
        {"customer": buyer.id, "payment_method": "pm_card_visa", "confirm": True, **HERE}
    )
    assert (setup.status, setup.usage) == ("succeeded", "off_session")
    kept = await shop.v1.customers.payment_methods.list_async(buyer.id)
    assert [row.id for row in kept.data] == [setup.payment_method]
    paid = await shop.pay(method=setup.payment_method, customer=buyer.id, off_session=True)
    assert (paid.status, paid.customer) == ("succeeded", buyer.id)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("pm_card_authenticationRequiredOnSetup", "authentication_required"),
        ("pm_card_chargeCustomerFail", "card_declined"),
    ],
)
async def test_a_renewal_is_declined_and_its_holder_may_still_pay(shop: Shop, token: str, code: str) -> None:
    buyer, card = await shop.kept(token)
    with raises(stripe.CardError) as declined:
        await shop.pay(method=card, customer=buyer, off_session=True)
    error: Any = declined.value.error
    assert (declined.value.http_status, error.code, error.payment_intent.status) == (
        402,
        code,
        "requires_payment_method",
    )
    intent = await shop.v1.payment_intents.retrieve_async(error.payment_intent.id)
    assert intent.last_payment_error.payment_method.id == card
    paid = await shop.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert paid.status == "succeeded"


async def test_a_bank_that_asks_wants_its_holder(shop: Shop) -> None:
    back = "https://shop.example/back"
    always = {"enabled": True, "allow_redirects": "always"}
    intent = await shop.pay(method="pm_card_authenticationRequired", return_url=back, automatic_payment_methods=always)
    assert (intent.status, intent.next_action.type) == ("requires_action", "redirect_to_url")
    assert intent.next_action.redirect_to_url.return_url == back


async def test_a_declined_card_is_not_kept(shop: Shop) -> None:
    buyer = await shop.customer()
    with raises(stripe.CardError) as declined:
        await shop.v1.payment_methods.attach_async("pm_card_chargeDeclined", {"customer": buyer.id})
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    with raises(stripe.CardError) as declined:
        params = {"customer": buyer.id, "payment_method": "pm_card_chargeDeclined", "confirm": True, **HERE}
        await shop.v1.setup_intents.create_async(params)
    error: Any = declined.value.error
    assert (error.code, error.setup_intent.status) == ("card_declined", "requires_payment_method")


async def test_a_method_is_its_customers_alone(shop: Shop) -> None:
    buyer, card = await shop.kept("pm_card_visa")
    other = await shop.customer()
    for customer in ({}, {"customer": other.id}):
        with raises(stripe.InvalidRequestError, match=r"belongs? to"):
            await shop.pay(method=card, **customer)
    assert (await shop.v1.payment_methods.detach_async(card)).customer is None
    with raises(stripe.InvalidRequestError):
        await shop.v1.payment_methods.attach_async(card, {"customer": buyer})


async def test_a_setup_needs_a_method_and_may_be_given_up(shop: Shop) -> None:
    setup = await shop.v1.setup_intents.create_async(HERE)
    with raises(stripe.InvalidRequestError, match="missing a payment method") as refused:
        await shop.v1.setup_intents.confirm_async(setup.id)
    assert refused.value.code == "setup_intent_unexpected_state"
    assert (await shop.v1.setup_intents.cancel_async(setup.id)).status == "canceled"


async def test_a_deleted_customer_stays_known_as_deleted(shop: Shop) -> None:
    buyer = await shop.customer()
    changed = await shop.v1.customers.update_async(buyer.id, {"metadata": {"a": "1", "b": "2"}})
    changed = await shop.v1.customers.update_async(buyer.id, {"metadata": {"a": ""}, "name": "B"})
    assert (changed.metadata.to_dict(), changed.name) == ({"b": "2"}, "B")
    assert (await shop.v1.customers.delete_async(buyer.id)).deleted
    assert (await shop.v1.customers.retrieve_async(buyer.id)).deleted
    with raises(stripe.InvalidRequestError) as refused:
        await shop.pay(customer=buyer.id)
    assert refused.value.code == "resource_missing"


async def test_refunds_never_exceed_the_charge(shop: Shop) -> None:
    intent = await shop.pay(1000)
    refunds = shop.v1.refunds
    first = await refunds.create_async({"payment_intent": intent.id, "amount": 400})
    assert (first.amount, first.status) == (400, "succeeded")
    with raises(stripe.InvalidRequestError, match="greater than unrefunded amount"):
        await refunds.create_async({"payment_intent": intent.id, "amount": 601})
    assert (await refunds.create_async({"payment_intent": intent.id})).amount == 600
    with raises(stripe.InvalidRequestError) as refused:
        await refunds.create_async({"payment_intent": intent.id})
    assert refused.value.code == "charge_already_refunded"
    charge = await shop.v1.charges.retrieve_async(intent.latest_charge)
    assert (charge.refunded, charge.amount_refunded) == (True, 1000)


@pytest.mark.parametrize(
    ("token", "first", "last"),
    [("pm_card_refundFail", "succeeded", "failed"), ("pm_card_pendingRefund", "pending", "succeeded")],
)
async def test_a_refund_ends_later(shop: Shop, token: str, first: str, last: str) -> None:
    intent = await shop.pay(1000, token)
    given = await shop.v1.refunds.create_async({"payment_intent": intent.id})
    assert given.status == first
    ended = await eventually(lambda: shop.v1.refunds.retrieve_async(given.id), lambda found: found.status == last)
    charge = await shop.v1.charges.retrieve_async(given.charge)
    assert charge.refunded is (last == "succeeded")
    if last == "failed":
        assert ended.failure_reason
        back = await shop.v1.balance_transactions.retrieve_async(ended.failure_balance_transaction)
        assert (back.type, back.amount) == ("refund_failure", 1000)


async def dispute_of(shop: Shop, intent: Any) -> Any:
    listed = await eventually(
        lambda: shop.v1.disputes.list_async({"payment_intent": intent.id}), lambda found: found.data
    )
    return listed.data[0]


async def answered(shop: Shop, dispute: Any, text: str, status: str) -> Any:
    await shop.v1.disputes.update_async(dispute.id, {"evidence": {"uncategorized_text": text}, "submit": True})
    return await eventually(lambda: shop.v1.disputes.retrieve_async(dispute.id), lambda found: found.status == status)


async def test_a_dispute_takes_the_money_and_is_won(shop: Shop) -> None:
    intent = await shop.pay(5000, "pm_card_createDispute")
    dispute = await dispute_of(shop, intent)
    assert (dispute.amount, dispute.charge, dispute.reason) == (5000, intent.latest_charge, "fraudulent")
    assert (dispute.status, dispute.is_charge_refundable) == ("needs_response", False)
    assert dispute.evidence_details.due_by > dispute.created
    taken = dispute.balance_transactions[0]
    assert (taken.type, taken.reporting_category, taken.source) == ("adjustment", "dispute", dispute.id)
    assert taken.amount < 0 < taken.fee
    assert taken.net == taken.amount - taken.fee
    with raises(stripe.InvalidRequestError) as refused:
        await shop.v1.refunds.create_async({"payment_intent": intent.id})
    assert refused.value.code == "charge_disputed"
    won = await answered(shop, dispute, "winning_evidence", "won")
    back = won.balance_transactions[1]
    assert (back.reporting_category, back.amount) == ("dispute_reversal", -taken.amount)
    assert (await shop.v1.charges.retrieve_async(won.charge)).disputed


async def test_a_dispute_is_lost_by_its_evidence_or_by_giving_up(shop: Shop) -> None:
    lost = await dispute_of(shop, await shop.pay(5000, "pm_card_createDisputeProductNotReceived"))
    assert lost.reason == "product_not_received"
    lost = await answered(shop, lost, "losing_evidence", "lost")
    assert len(lost.balance_transactions) == 1
    with raises(stripe.InvalidRequestError, match="already closed"):
        await shop.v1.disputes.close_async(lost.id)
    given_up = await dispute_of(shop, await shop.pay(5000, "pm_card_createDispute"))
    assert (await shop.v1.disputes.close_async(given_up.id)).status == "lost"


async def test_an_inquiry_takes_no_money(shop: Shop) -> None:
    inquiry = await dispute_of(shop, await shop.pay(5000, "pm_card_createDisputeInquiry"))
    assert (inquiry.status, inquiry.balance_transactions) == ("warning_needs_response", [])
    assert (inquiry.payment_method_details.card.case_type, inquiry.is_charge_refundable) == ("inquiry", True)


async def test_missed_events_are_read_again_page_by_page(shop: Shop) -> None:
    buyer = await shop.customer()
    for number in range(3):
        await shop.v1.customers.update_async(buyer.id, {"name": f"Number {number}"})
    params = {"types": ["customer.created", "customer.updated"], "created": {"gte": buyer.created}, "limit": 2}

    async def told() -> list[Any]:
        listed = await shop.v1.events.list_async(params)
        return [event async for event in listed.auto_paging_iter() if event.data.object.id == buyer.id]

    events = await eventually(told, lambda found: len(found) == 4)
    assert {event.type for event in events} == {"customer.created", "customer.updated"}
    assert all(event.request.id and not event.livemode for event in events)


async def test_a_checkout_waits_and_is_ended(shop: Shop) -> None:
    price = {"currency": "usd", "unit_amount": 900, "product_data": {"name": "Contract test"}}
    session = await shop.v1.checkout.sessions.create_async(
        {
            "mode": "payment",
            "success_url": "https://shop.example/done",
            "line_items": [{"price_data": price, "quantity": 2}],
            "payment_intent_data": {"setup_future_usage": "off_session", "transfer_group": "order_o1"},
        }
    )
    assert (session.status, session.payment_status, session.amount_total) == ("open", "unpaid", 1800)
    assert session.url.startswith("http")
    assert (await shop.v1.checkout.sessions.expire_async(session.id)).status == "expired"


async def test_a_checkout_is_paid_by_a_browser(shop: Shop) -> None:
    shop.only_simulator("its Checkout page is a script that no request of ours can fill in.")
    price = {"currency": "usd", "unit_amount": 900, "product_data": {"name": "Contract test"}}
    session = await shop.v1.checkout.sessions.create_async(
        {
            "mode": "payment",
            "success_url": "https://shop.example/done",
            "line_items": [{"price_data": price, "quantity": 1}],
        }
    )
    async with httpx.AsyncClient(trust_env=False) as browser:
        paid = await browser.post(session.url, data={"card_number": "4242424242424242"})
    assert (paid.status_code, paid.headers["location"]) == (303, "https://shop.example/done")


async def test_a_bank_may_dispute_more_than_was_paid(shop: Shop) -> None:
    url = shop.only_simulator("its test mode disputes the amount of the charge and no other.")
    intent = await shop.pay(5000)
    async with httpx.AsyncClient(base_url=url, trust_env=False) as bank:
        await bank.post("/_simulator/disputes", json={"charge": intent.latest_charge, "amount": 5120})
    assert (await dispute_of(shop, intent)).amount == 5120


async def test_every_answer_is_as_the_library_declares(world: World) -> None:
    """Not asked of Stripe, which sends what it does not declare; asked of everything the simulator can make."""
    buyer = await world.stripe.v1.customers.create_async({"email": "ada@example.org", "payment_method": "pm_card_visa"})
    gone = await world.stripe.v1.customers.create_async({})
    await world.stripe.v1.customers.delete_async(gone.id)
    for token in ("pm_card_createDispute", "pm_card_createDisputeInquiry", "pm_usBankAccount_success"):
        await world.pay(5000, token)
    await world.pay(5000, "pm_card_authenticationRequired", return_url="https://x.example/")
    await world.pay(5000, capture_method="manual")
    held = await world.pay(5000, "pm_card_refundFail")
    await world.stripe.v1.refunds.create_async({"payment_intent": held.id})
    await world.stripe.v1.refunds.create_async({"payment_intent": (await world.pay(5000, "pm_card_pendingRefund")).id})
    for token in ("pm_card_visa", "pm_card_authenticationRequired", "pm_card_chargeDeclined"):
        params = {"customer": buyer.id, "payment_method": token, "confirm": True, "return_url": "https://x.example/"}
        for tried in (world.stripe.v1.setup_intents.create_async(params), world.pay(5000, token, **_back(token))):
            try:
                await tried
            except stripe.CardError as declined:
                assert token == "pm_card_chargeDeclined", declined
    account = await ready(world)
    sent = await world.stripe.v1.transfers.create_async(
        {"amount": 900, "currency": "usd", "destination": account, "source_transaction": held.latest_charge}
    )
    await world.stripe.v1.transfers.reversals.create_async(sent.id, {"amount": 400})
    world.simulator.advance(3 * 86_400)
    await world.stripe.v1.payouts.create_async({"amount": 500, "currency": "usd"}, {"stripe_account": account})
    price = {"currency": "usd", "unit_amount": 900, "product_data": {"name": "n"}}
    for mode in (
        {"mode": "payment", "line_items": [{"price_data": price, "quantity": 1}]},
        {"mode": "setup", "customer": buyer.id, "currency": "usd"},
    ):
        session = await world.sessions.create_async({"success_url": "https://x.example/", **mode})
        await world.browser.post(session.url, data={"card_number": "4242424242424242"})
        lines = await world.raw.get(f"/v1/checkout/sessions/{session.id}/line_items")
        assert misfits(lines.json()) == []
    paths = (
        "payment_intents", "charges", "balance_transactions", "refunds", "disputes", "setup_intents", "customers",
        f"payment_methods?customer={buyer.id}", f"customers/{gone.id}", "events?limit=100", "checkout/sessions",
        "webhook_endpoints", "accounts", "transfers", "balance",
    )  # fmt: skip
    theirs = ("balance", "payouts", "charges", "balance_transactions", "events?limit=100")
    for path, headers in (*((path, {}) for path in paths), *((path, {"Stripe-Account": account}) for path in theirs)):
        answer = (await world.raw.get(f"/v1/{path}", headers=headers)).json()
        assert answer.get("data", True), path
        assert misfits(answer) == [], path


def _back(token: str) -> dict[str, str]:
    return {"return_url": "https://x.example/"} if token == "pm_card_authenticationRequired" else {}


async def test_what_does_not_fit_is_found(world: World) -> None:
    intent = (await world.raw.get(f"/v1/payment_intents/{(await world.pay()).id}")).json()
    wrong = {
        "amount": "5",
        "livemode": None,
        "status": 5,
        "invented": 1,
        "amount_details": {"tip": {"amount": "5"}},
        "payment_method_types": [1],
    }
    found = misfits({name: value for name, value in (intent | wrong).items() if name != "currency"})
    assert [problem.split(":")[0].removeprefix("payment_intent.") for problem in found] == [
        "currency",
        "amount",
        "amount_details.tip.amount",
        "livemode",
        "payment_method_types[]",
        "status",
        "invented",
    ]


@pytest.mark.parametrize("key", ["sk_live_abc", "rk_live_abc", "pk_test_abc"])
def test_no_key_but_a_test_key_is_taken(key: str) -> None:
    with raises(pytest.fail.Exception, match="nothing was sent") as refused:
        checked_key(key)
    assert key not in str(refused.value)
