"""Orders: one for each agreed license, closed with it, paid by card or by bank, seen by those it concerns."""

import asyncio
import re

import pytest
import sqlalchemy as sa
from billing_desk import CHECKOUT, INTENT, TRANSFER, Desk, until
from house import refused, request_id
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.references import REFERENCES, payment_reference
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import from_timestamp

REFERENCE = r"^RD-[1-9A-HJKMNP-TV-Z]{4}-[1-9A-HJKMNP-TV-Z]{4}-[1-9A-HJKMNP-TV-Z]$"
SIGNS = "123456789ABCDEFGHJKMNPQRSTVWXYZ"


async def test_an_agreed_license_is_one_order_however_often_it_is_said(desk: Desk) -> None:
    license = desk.license(125_000)
    agreed = licensing_events.LicenseAgreed(license=license)
    await desk.tell(agreed, agreed, agreed)
    order = await desk.order_of(license.name)
    assert order.buyer == "organizations/acme" and order.seller == "cooperatives/valley-health"
    assert order.amount == license.terms.price and order.terms_hash == license.terms_hash
    assert order.state == pb.ORDER_STATE_OPEN and not order.HasField("pay_time")
    assert (from_timestamp(order.due_time) - from_timestamp(order.create_time)).days == 30
    await desk.tell(agreed)
    later = await desk.agree()
    mine = await desk.stub.ListOrders(pb.ListOrdersRequest(), metadata=desk.buyer.metadata)
    assert list(mine.orders) == [later, order]


async def test_a_price_of_zero_is_paid_at_once(desk: Desk) -> None:
    order = await desk.agree(0)
    assert order.state == pb.ORDER_STATE_PAID and order.HasField("pay_time")
    assert await desk.told(order) == ["OrderPaid"]
    async with refused("ORDER_NOT_OPEN", state="PAID"):
        await desk.pay(order)


async def test_terms_that_are_not_what_was_hashed_bill_nothing(desk: Desk) -> None:
    cheaper, unpriced, unknown = desk.license(), desk.license(), desk.license(100, "ZZZ")
    cheaper.terms.price.amount_minor = 1
    unpriced.terms.ClearField("price")
    await desk.tell(*(licensing_events.LicenseAgreed(license=license) for license in (cheaper, unpriced, unknown)))
    parked = await until(lambda: desk.rows("SELECT reason FROM parked_event"), lambda rows: len(rows) == 3)
    assert sorted(row.reason for row in parked) == ["CURRENCY_UNKNOWN", "TERMS_INVALID", "TERMS_INVALID"]
    assert not await desk.rows('SELECT 1 FROM "order"')


async def test_a_license_that_ends_unpaid_closes_its_order(desk: Desk) -> None:
    order = await desk.agree()
    await desk.terminate(order)
    await desk.becomes(order, pb.ORDER_STATE_CANCELED)
    await desk.terminate(order)
    async with refused("ORDER_NOT_OPEN", state="CANCELED"):
        await desk.pay(order)
    async with refused("ORDER_NOT_OPEN", state="CANCELED"):
        await desk.confirm_transfer(order)
    assert await desk.told(order) == ["OrderCanceled"]


async def test_an_end_heard_before_its_beginning_waits_for_it(desk: Desk) -> None:
    license = desk.license()
    await desk.tell(licensing_events.LicenseTerminated(license=license))
    await asyncio.sleep(0.3)
    await desk.tell(licensing_events.LicenseAgreed(license=license))
    await desk.becomes(await desk.order_of(license.name), pb.ORDER_STATE_CANCELED)


async def test_a_license_that_ends_after_it_was_paid_leaves_its_order_paid(desk: Desk) -> None:
    order = await desk.agree(0)
    await desk.terminate(order)
    other = await desk.agree()
    await desk.terminate(other)
    await desk.becomes(other, pb.ORDER_STATE_CANCELED)
    assert (await desk.order(order)).state == pb.ORDER_STATE_PAID


@pytest.mark.parametrize("method", [INTENT, CHECKOUT, TRANSFER])
async def test_closing_an_order_ends_the_payment_under_way(desk: Desk, method: int) -> None:
    order = await desk.agree()
    payment = await desk.pay(order, method)
    await desk.terminate(order)
    await desk.becomes(order, pb.ORDER_STATE_CANCELED)
    assert (await desk.payment(payment)).state == pb.PAYMENT_STATE_FAILED
    described = desk.simulator.describe()
    assert set(described["payment_intents"]) <= {"canceled"} and set(described["checkout_sessions"]) <= {"expired"}


async def test_money_for_a_license_that_ended_meanwhile_goes_back(desk: Desk) -> None:
    order = await desk.agree()
    payment = await desk.pay(order, CHECKOUT)
    await desk.post(payment, pay_with="bank")
    await desk.terminate(order)
    await until(lambda: desk.rows('SELECT closing FROM "order"'), lambda rows: rows[0].closing != "")
    async with refused("ORDER_NOT_OPEN", state="CLOSING"):
        await desk.pay(order)
    desk.simulator.settle(debits_at_once=True)
    await until(lambda: desk.payment(payment), lambda now: now.failure_code == "refunded")
    await desk.becomes(order, pb.ORDER_STATE_CANCELED)
    assert desk.simulator.describe()["refunded_minor"] == {"eur": 125_000}
    assert await desk.told(order) == ["OrderCanceled"]


async def test_an_overdue_order_closes_by_itself(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(order_ttl_seconds=1)
    order, free = await desk.agree(), await desk.agree(0)
    await desk.becomes(order, pb.ORDER_STATE_CANCELED)
    assert (await desk.order(free)).state == pb.ORDER_STATE_PAID
    assert await desk.told(order) == ["OrderCanceled"]


async def test_a_debit_that_was_faster_than_the_due_time_still_pays(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(order_ttl_seconds=2)
    desk.hear_webhooks()
    order = await desk.agree()
    await desk.post(await desk.pay(order, CHECKOUT), pay_with="bank")
    await until(lambda: desk.rows('SELECT closing FROM "order"'), lambda rows: rows[0].closing == "overdue")
    async with refused("ORDER_NOT_OPEN"):
        await desk.pay(order)
    desk.simulator.settle(debits_at_once=True)
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert await desk.told(order) == ["OrderPaid"]


async def test_a_bank_transfer_pays_when_an_operator_has_seen_it(desk: Desk) -> None:
    order = await desk.agree()
    payment = await desk.pay(order, TRANSFER)
    assert (payment.state, payment.payment_reference) == (pb.PAYMENT_STATE_PENDING, order.payment_reference)
    id = request_id()
    paid = await desk.confirm_transfer(order, request_id=id, bank_reference=" BANK-1 ")
    assert paid.state == pb.ORDER_STATE_PAID
    assert await desk.confirm_transfer(order, request_id=id, bank_reference=" BANK-1 ") == paid
    assert (await desk.payment(payment)).state == pb.PAYMENT_STATE_SUCCEEDED
    assert await desk.told(order) == ["OrderPaid"]
    other = await desk.agree()
    async with refused("BANK_REFERENCE_USED", bank_reference="BANK-1"):
        await desk.confirm_transfer(other, bank_reference="BANK-1")
    async with refused("REQUEST_INVALID", field="bank_reference"):
        await desk.confirm_transfer(other, bank_reference="  ")


async def test_two_orders_cannot_be_confirmed_with_one_transfer_at_once(desk: Desk) -> None:
    orders = [await desk.agree() for _ in range(2)]
    answers = await asyncio.gather(
        *(desk.confirm_transfer(order, bank_reference="BANK-2") for order in orders), return_exceptions=True
    )
    assert sum(isinstance(answer, pb.Order) for answer in answers) == 1


async def test_a_transfer_counts_only_whole_and_in_the_orders_currency(desk: Desk) -> None:
    order = await desk.agree(125_000)
    for amount in (124_999, 125_001, 0):
        async with refused("AMOUNT_MISMATCH", expected_amount="EUR 1,250.00"):
            await desk.confirm_transfer(order, amount=Money(amount_minor=amount, currency="EUR"))
    async with refused("CURRENCY_MISMATCH", currency="USD", expected_currency="EUR"):
        await desk.confirm_transfer(order, amount=Money(amount_minor=125_000, currency="USD"))
    async with refused("CURRENCY_UNKNOWN"):
        await desk.confirm_transfer(order, amount=Money(amount_minor=125_000, currency="ZZZ"))
    assert (await desk.order(order)).state == pb.ORDER_STATE_OPEN


async def test_a_transfer_ends_the_card_payment_under_way(desk: Desk) -> None:
    order = await desk.agree()
    checkout = await desk.pay(order, CHECKOUT)
    await desk.confirm_transfer(order)
    assert (await desk.payment(checkout)).state == pb.PAYMENT_STATE_FAILED
    assert (await desk.post(checkout)).status_code == 410
    assert desk.charges == {}


async def test_a_transfer_after_the_card_has_nothing_to_pay(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start()  # and no webhook: billing must find out when it is asked
    order = await desk.agree()
    await desk.confirm_card(await desk.pay(order))
    async with refused("ORDER_NOT_OPEN", state="PAID"):
        await desk.confirm_transfer(order)
    assert await desk.told(order) == ["OrderPaid"]


async def test_without_a_stripe_key_the_market_works_by_bank_transfer(closed_desk: Desk) -> None:
    desk = closed_desk
    service = await desk.start(stripe_api_key="", stripe_webhook_secret="")
    order = await desk.agree()
    for method in (INTENT, CHECKOUT):
        async with refused("RAIL_UNAVAILABLE", payment_reference=order.payment_reference) as caught:
            await desk.pay(order, method)
        assert "bank transfer" in caught[0].message
    await desk.pay(order, TRANSFER)
    assert (await desk.confirm_transfer(order)).state == pb.ORDER_STATE_PAID
    answer = await desk.stripe.browser.post(f"http://{service.http_address}/webhooks/stripe", content=b"{}")
    assert answer.status_code == 404


async def test_another_buyers_order_does_not_exist(desk: Desk) -> None:
    order = await desk.agree()
    rival, steward = desk.parties.rival, desk.parties.steward
    async with refused("NOT_FOUND", name=order.name):
        await desk.stub.GetOrder(pb.GetOrderRequest(name=order.name), metadata=rival.metadata)
    async with refused("NOT_FOUND", name=order.name):
        await desk.stub.StartPayment(
            pb.StartPaymentRequest(request_id=request_id(), order=order.name, method=INTENT),
            metadata=rival.metadata,
        )
    assert not (await desk.stub.ListOrders(pb.ListOrdersRequest(), metadata=rival.metadata)).orders
    assert await desk.stub.GetOrder(pb.GetOrderRequest(name=order.name), metadata=steward.metadata) == order
    for person in (steward, desk.buyer):
        async with refused("ROLE_MISSING"):
            await desk.stub.ConfirmBankTransfer(
                pb.ConfirmBankTransferRequest(
                    request_id=request_id(), order=order.name, amount=order.amount, bank_reference="x"
                ),
                metadata=person.metadata,
            )


async def test_orders_are_listed_in_pages_by_state_and_license(desk: Desk) -> None:
    orders = [await desk.agree(amount) for amount in (100, 0, 200)]

    async def listed(**wanted: object) -> pb.ListOrdersResponse:
        reply: pb.ListOrdersResponse = await desk.stub.ListOrders(
            pb.ListOrdersRequest(**wanted),  # type: ignore[arg-type]
            metadata=desk.buyer.metadata,
        )
        return reply

    first = await listed(page_size=2)
    assert list(first.orders) == orders[:0:-1]
    assert list((await listed(page_size=2, page_token=first.next_page_token)).orders) == orders[:1]
    assert list((await listed(state=pb.ORDER_STATE_PAID)).orders) == orders[1:2]
    assert list((await listed(license=orders[0].license)).orders) == orders[:1]
    async with refused("PAGE_TOKEN_INVALID"):
        await listed(state=pb.ORDER_STATE_PAID, page_token=first.next_page_token)


async def test_the_database_keeps_what_an_order_bills(desk: Desk) -> None:
    await desk.agree(0)
    for change in (
        "amount_minor = 1",
        "terms_hash = 'x'",
        "license = 'x'",
        "buyer = 'x'",
        "currency = 'USD'",
        "state = 1",
    ):
        with pytest.raises(sa.exc.DBAPIError, match=r"never changes|stays so"):
            async with desk.database.begin() as connection:
                await connection.execute(sa.text(f'UPDATE "order" SET {change}'))
    with pytest.raises(sa.exc.DBAPIError, match="never deleted"):
        async with desk.database.begin() as connection:
            await connection.execute(sa.text('DELETE FROM "order"'))


@given(st.integers(0, REFERENCES - 1), st.integers(0, 7), st.integers(0, 7), st.sampled_from(SIGNS))
def test_a_reference_written_wrong_is_not_another_orders(number: int, place: int, other: int, sign: str) -> None:
    reference = payment_reference(number)
    assert re.match(REFERENCE, reference)
    body, check = reference[3:12].replace("-", ""), reference[-1]
    wrong = list(body)
    wrong[place] = sign
    swapped = list(body)
    swapped[place], swapped[other] = swapped[other], swapped[place]
    for signs in (wrong, swapped):
        if signs != list(body):
            value = sum(SIGNS.index(each) * len(SIGNS) ** index for index, each in enumerate(signs))
            assert payment_reference(value)[-1] != check
