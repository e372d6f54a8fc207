"""Payments by card, through the unmodified stripe library: one charge whatever goes wrong on the way."""

import asyncio

import grpc
import pytest
from billing_desk import CHECKOUT, INTENT, TRANSFER, Desk, until
from house import refused, request_id

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale_kit.refusals import refusal_of


async def test_the_buyers_own_code_confirms_an_intent_and_the_order_is_paid(desk: Desk) -> None:
    order = await desk.agree(125_000)
    payment = await desk.pay(order)
    assert payment.state == pb.PAYMENT_STATE_PENDING
    assert payment.client_secret.startswith(payment.payment_intent)
    intent = await desk.stripe.intents.retrieve_async(payment.payment_intent)
    assert (intent.amount, intent.currency) == (125_000, "eur")
    assert intent.metadata["terms_hash"] == order.terms_hash
    await desk.confirm_card(payment)
    paid = await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert paid.HasField("pay_time")
    settled = await desk.payment(payment)
    assert (settled.state, settled.client_secret) == (pb.PAYMENT_STATE_SUCCEEDED, "")
    assert await desk.told(order) == ["OrderPaid"]
    async with refused("ORDER_NOT_OPEN", state="PAID"):
        await desk.pay(order)


async def test_the_buyer_pays_on_the_hosted_page(desk: Desk) -> None:
    order = await desk.agree(9_900, "USD")
    payment = await desk.pay(order, CHECKOUT, return_url="https://shop.example/back?s={CHECKOUT_SESSION_ID}")
    assert (payment.payment_intent, payment.client_secret) == ("", "")
    assert "$99.00" in (await desk.stripe.browser.get(payment.checkout_url)).text
    declined = await desk.post(payment, pay_with="declined_card")
    assert declined.status_code == 402
    back = await desk.post(payment)
    assert back.headers["location"].startswith("https://shop.example/back?s=cs_test_")
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    settled = await desk.payment(payment)
    assert (settled.state, settled.checkout_url) == (pb.PAYMENT_STATE_SUCCEEDED, "")
    await desk.simulator.webhooks.drained()
    assert await desk.told(order) == ["OrderPaid"]
    assert desk.charges == {"failed": 1, "succeeded": 1}


async def test_without_a_return_url_the_browser_comes_to_a_plain_page_of_ours(desk: Desk) -> None:
    payment = await desk.pay(await desk.agree(), CHECKOUT)
    assert (await desk.post(payment)).headers["location"] == "https://pay.example/paid"
    for page, words in (("paid", "Thank you"), ("canceled", "Nothing was paid")):
        answer = await desk.stripe.browser.get(f"http://{desk.service.http_address}/{page}")
        assert answer.status_code == 200 and words in answer.text


async def test_a_browser_is_sent_to_web_pages_only(desk: Desk) -> None:
    order = await desk.agree()
    for url in ("javascript:alert(1)", "shop.example", "https://", "http://a b/", "https://[x"):
        async with refused("RETURN_URL_INVALID", return_url=url):
            await desk.pay(order, CHECKOUT, return_url=url)
    assert not await desk.rows("SELECT 1 FROM payment")


async def test_a_declined_card_ends_the_attempt_and_another_pays(desk: Desk) -> None:
    order = await desk.agree()
    first = await desk.pay(order)
    with pytest.raises(Exception, match="declined"):
        await desk.confirm_card(first, "pm_card_chargeDeclined")
    failed = await desk.ends(first, pb.PAYMENT_STATE_FAILED)
    assert failed.failure_code == "card_declined"
    assert (await desk.stripe.intents.retrieve_async(first.payment_intent)).status == "canceled"
    second = await desk.pay(order)
    await desk.confirm_card(second)
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert desk.charges == {"failed": 1, "succeeded": 1}


async def test_a_card_whose_bank_asks_first(desk: Desk) -> None:
    order = await desk.agree()
    payment = await desk.pay(order)
    asked = await desk.confirm_card(payment, "pm_card_authenticationRequired")
    assert asked.status == "requires_action"
    assert (await desk.payment(payment)).state == pb.PAYMENT_STATE_PENDING
    await desk.stripe.browser.post(asked.next_action.use_stripe_sdk.stripe_js, data={"answer": "complete"})
    await desk.becomes(order, pb.ORDER_STATE_PAID)


async def test_an_abandoned_authentication_gives_way_to_another_attempt(desk: Desk) -> None:
    order = await desk.agree()
    abandoned = await desk.pay(order)
    await desk.confirm_card(abandoned, "pm_card_authenticationRequired")
    again = await desk.pay(order, CHECKOUT)
    assert (await desk.payment(abandoned)).failure_code == "canceled"
    await desk.post(again)
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert desk.charges == {"succeeded": 1}


@pytest.mark.parametrize("method", [INTENT, CHECKOUT])
async def test_a_bank_debit_pays_days_later(desk: Desk, method: int) -> None:
    order = await desk.agree()
    payment = await _debit(desk, order, method, succeeds=True)
    # It can no longer be canceled, so nothing else may begin.
    async with refused("PAYMENT_IN_PROGRESS", payment=payment.name):
        await desk.pay(order, TRANSFER)
    async with refused("PAYMENT_IN_PROGRESS", payment=payment.name):
        await desk.confirm_transfer(order)
    assert (await desk.order(order)).state == pb.ORDER_STATE_OPEN
    desk.simulator.settle(debits_at_once=True)
    await desk.becomes(order, pb.ORDER_STATE_PAID)


@pytest.mark.parametrize("method", [INTENT, CHECKOUT])
async def test_a_bank_debit_that_fails_days_later_opens_the_order_again(desk: Desk, method: int) -> None:
    order = await desk.agree()
    payment = await _debit(desk, order, method, succeeds=False)
    desk.simulator.settle(debits_at_once=True)
    failed = await desk.ends(payment, pb.PAYMENT_STATE_FAILED)
    assert failed.failure_code
    assert (await desk.order(order)).state == pb.ORDER_STATE_OPEN
    await desk.confirm_card(await desk.pay(order))
    await desk.becomes(order, pb.ORDER_STATE_PAID)


async def _debit(desk: Desk, order: pb.Order, method: int, succeeds: bool) -> pb.Payment:
    payment = await desk.pay(order, method)
    if method == CHECKOUT:
        await desk.post(payment, pay_with="bank" if succeeds else "bank_fails")
        return payment
    iban = "AT611904300234573201" if succeeds else "AT861904300235473202"
    await desk.stripe.intents.confirm_async(
        payment.payment_intent,
        {
            "payment_method_data": {
                "type": "sepa_debit",
                "sepa_debit": {"iban": iban},
                "billing_details": {"name": "Ada", "email": "ada@example.org"},
            }
        },
    )
    return payment


@pytest.mark.parametrize("method", [INTENT, CHECKOUT])
async def test_a_double_click_leaves_one_live_attempt(desk: Desk, method: int) -> None:
    order = await desk.agree()
    answers = await asyncio.gather(*(desk.pay(order, method) for _ in range(3)), return_exceptions=True)
    payments = [answer for answer in answers if isinstance(answer, pb.Payment)]
    for answer in answers:
        if isinstance(answer, grpc.aio.AioRpcError):
            assert refusal_of(answer).reason == "PAYMENT_IN_PROGRESS"
    states = [(await desk.payment(payment)).state for payment in payments]
    assert states.count(pb.PAYMENT_STATE_PENDING) == 1
    assert set(states) <= {pb.PAYMENT_STATE_PENDING, pb.PAYMENT_STATE_FAILED}
    counted = desk.simulator.describe()["payment_intents" if method == INTENT else "checkout_sessions"]
    assert counted["requires_payment_method"] + counted["open"] == 1, "the others are closed at Stripe too"
    live = payments[states.index(pb.PAYMENT_STATE_PENDING)]
    await (desk.confirm_card(live) if method == INTENT else desk.post(live))
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert desk.charges == {"succeeded": 1}


async def test_the_same_request_twice_is_the_same_payment_brought_up_to_date(desk: Desk) -> None:
    order = await desk.agree()
    id = request_id()
    first, second = await asyncio.gather(desk.pay(order, request_id=id), desk.pay(order, request_id=id))
    assert first == second
    await desk.confirm_card(first)
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    again = await desk.pay(order, request_id=id)
    assert (again.name, again.state) == (first.name, pb.PAYMENT_STATE_SUCCEEDED)
    async with refused("REQUEST_ID_REUSED"):
        await desk.pay(order, CHECKOUT, request_id=id)


async def test_an_answer_that_is_lost_after_stripe_acted_is_asked_for_under_the_same_key(desk: Desk) -> None:
    order = await desk.agree()
    id = request_id()
    desk.simulator.faults.add("lose_response_after_commit", count=2, match="/v1/payment_intents")
    async with refused("RAIL_UNAVAILABLE", payment_reference=order.payment_reference):
        await desk.pay(order, request_id=id)
    payment = await desk.pay(order, request_id=id)
    await desk.confirm_card(payment)
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    described = desk.simulator.describe()
    assert described["payment_intents"] == {"succeeded": 1}
    assert described["charges"] == {"succeeded": 1}


async def test_a_lost_answer_is_asked_for_unasked(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(recover_age_seconds=1.5)
    order = await desk.agree()
    desk.simulator.faults.add("lose_response_after_commit", count=2, match="/v1/checkout")
    async with refused("RAIL_UNAVAILABLE"):
        await desk.pay(order, CHECKOUT)
    rows = await until(lambda: desk.rows("SELECT id FROM payment WHERE state = 2"), bool)
    name = f"{order.name}/payments/{rows[0].id}"
    assert (await desk.payment(pb.Payment(name=name))).checkout_url
    assert desk.simulator.describe()["checkout_sessions"] == {"open": 1}


async def test_stripe_goes_down_bank_transfers_go_on_and_stripe_comes_back(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(recover_age_seconds=0)
    first, second = await desk.agree(), await desk.agree()
    port = int(desk.stripe.url.rsplit(":", 1)[1])
    await desk.simulator.stop()
    for order in (first, second):
        async with refused("RAIL_UNAVAILABLE", payment_reference=order.payment_reference):
            await desk.pay(order)
    # Nobody was given anything to pay with, so the attempt in the way is given up without asking.
    transfer = await desk.pay(first, TRANSFER)
    assert transfer.payment_reference == first.payment_reference
    assert (await desk.confirm_transfer(first)).state == pb.ORDER_STATE_PAID
    assert desk.service.trouble == ""
    await desk.open_stripe(port)
    desk.hear_webhooks()
    rows = await until(lambda: desk.rows("SELECT id, intent_id FROM payment WHERE state = 2"), bool)
    await desk.confirm_card(pb.Payment(payment_intent=rows[0].intent_id))
    await desk.becomes(second, pb.ORDER_STATE_PAID)


async def test_a_payment_handed_out_cannot_be_given_up_while_stripe_is_down(desk: Desk) -> None:
    order = await desk.agree()
    payment = await desk.pay(order)
    await desk.simulator.stop()
    for doing in (desk.pay(order, TRANSFER), desk.confirm_transfer(order)):
        async with refused("RAIL_UNAVAILABLE"):
            await doing
    assert (await desk.payment(payment)).state == pb.PAYMENT_STATE_PENDING
    assert (await desk.order(order)).state == pb.ORDER_STATE_OPEN


async def test_a_failure_that_stripe_keeps_does_not_keep_the_buyer(desk: Desk) -> None:
    order = await desk.agree()
    desk.simulator.faults.add("500", stored=True, match="/v1/payment_intents")
    id = request_id()
    for _ in range(2):
        async with refused("RAIL_UNAVAILABLE"):
            await desk.pay(order, request_id=id)
    await desk.confirm_card(await desk.pay(order))
    await desk.becomes(order, pb.ORDER_STATE_PAID)


async def test_amounts_that_cannot_be_charged_are_told_apart(desk: Desk) -> None:
    small = await desk.agree(10)
    id = request_id()
    for _ in range(2):
        async with refused("AMOUNT_BELOW_MINIMUM", amount="EUR 0.10"):
            await desk.pay(small, request_id=id)
    assert (await desk.confirm_transfer(small)).state == pb.ORDER_STATE_PAID
    large = await desk.pay(await desk.agree(10**12))
    assert (large.state, large.failure_code) == (pb.PAYMENT_STATE_FAILED, "amount_too_large")
    async with refused("AMOUNT_NOT_CHARGEABLE"):
        await desk.pay(await desk.agree(12_345, "KWD"))


async def test_the_secret_is_for_the_buyer_alone(desk: Desk) -> None:
    payment = await desk.pay(await desk.agree())
    assert (await desk.payment(payment)).client_secret == payment.client_secret
    for person in (desk.parties.steward, desk.operator):
        seen = await desk.payment(payment, person)
        assert (seen.payment_intent, seen.client_secret) == (payment.payment_intent, "")
    async with refused("NOT_FOUND", name=payment.name):
        await desk.payment(payment, desk.parties.rival)
    assert not await desk.rows("SELECT 1 FROM request WHERE position('_secret_' IN encode(reply, 'escape')) > 0")


async def test_money_that_arrives_after_an_attempt_was_given_up_goes_back(desk: Desk) -> None:
    order = await desk.agree()
    first = await desk.pay(order)
    # Given up in our books and open at Stripe: as near as a test can come to a race within Stripe.
    async with desk.database.begin() as connection:
        await connection.exec_driver_sql("UPDATE payment SET state = 4, failure_code = 'canceled'")
    second = await desk.pay(order)
    await desk.confirm_card(second)
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    desk.simulator.faults.add("lose_response_after_commit", count=2, match="/v1/refunds")
    await desk.confirm_card(first)
    given_back = await until(lambda: desk.payment(first), lambda now: now.failure_code == "refunded")
    assert given_back.state == pb.PAYMENT_STATE_FAILED
    described = desk.simulator.describe()
    assert (described["refunds"], described["refunded_minor"]) == (1, {"eur": 125_000})
    assert await desk.told(order) == ["OrderPaid"]


@pytest.mark.parametrize("change", [{"amount": 124_999}, {"metadata": {"terms_hash": "other"}}, {"currency": "usd"}])
async def test_other_money_than_was_asked_for_pays_nothing_and_is_an_incident(
    desk: Desk, change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    order = await desk.agree(125_000)
    payment = await desk.pay(order)
    await desk.stripe.intents.update_async(payment.payment_intent, change)
    await desk.confirm_card(payment)
    failed = await until(lambda: desk.payment(payment), lambda now: now.failure_code == "refunded")
    assert failed.state == pb.PAYMENT_STATE_FAILED
    assert (await desk.order(order)).state == pb.ORDER_STATE_OPEN
    assert await desk.told(order) == []
    (incident,) = await desk.rows("SELECT detail FROM incident")
    assert "expected" in incident.detail
    assert any(record.levelname == "ERROR" and payment.name in record.getMessage() for record in caplog.records)


async def test_a_page_that_nobody_paid_on_ends_after_a_day(closed_desk: Desk) -> None:
    desk, clock = closed_desk, [1_800_000_000.0]
    await desk.open_stripe(clock=lambda: clock[0])
    await desk.start()
    desk.hear_webhooks()
    order = await desk.agree()
    left = await desk.pay(order, CHECKOUT)
    clock[0] += 24 * 3600 + 1
    assert (await desk.ends(left, pb.PAYMENT_STATE_FAILED)).failure_code == "canceled"
    await desk.post(await desk.pay(order, CHECKOUT))
    await desk.becomes(order, pb.ORDER_STATE_PAID)


async def test_a_payment_that_cannot_be_found_at_stripe_gives_way(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start()
    order = await desk.agree()
    lost = await desk.pay(order)
    port = int(desk.stripe.url.rsplit(":", 1)[1])
    await desk.simulator.stop()
    await desk.open_stripe(port)  # an account that knows nothing
    desk.hear_webhooks()
    await desk.confirm_card(await desk.pay(order))
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert (await desk.payment(lost)).failure_code == "resource_missing"
