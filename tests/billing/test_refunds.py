"""Refunds: borne by tax, fee and share to the cent, wherever the money lies; asked of Stripe until it answers."""

import asyncio

import pytest
from billing_desk import CHECKOUT, TRANSFER, Desk
from house import refused, request_id
from hypothesis import given
from hypothesis import strategies as st
from treasury_desk import balances, deliver, paid_order, refund, released, settles

from billing.domain.postings import BANK, Sale, split
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money


async def standing(desk: Desk, order: pb.Order) -> str:
    rows = await desk.rows("SELECT reason FROM standing WHERE license = :license", license=order.license)
    return str(rows[0].reason) if rows else ""


@given(st.data())
def test_any_sequence_of_refunds_gives_back_exactly_what_was_taken(data: st.DataObject) -> None:
    amounts = data.draw(st.lists(st.integers(1, 10**12) | st.integers(1, 9), min_size=1, max_size=12))
    gross = sum(amounts)
    tax = data.draw(st.integers(0, gross))
    sale = Sale("ord", "coop", "EUR", gross, tax, data.draw(st.integers(0, gross - tax)))
    parts = [split(sale, sum(amounts[:number]), amount) for number, amount in enumerate(amounts)]
    assert [one.total_minor for one in parts] == amounts
    assert all(min(one.tax_minor, one.fee_minor, one.cooperative_minor) >= 0 for one in parts)
    assert sum(one.tax_minor for one in parts) == sale.tax_minor
    assert sum(one.fee_minor for one in parts) == sale.fee_minor
    assert sum(one.cooperative_minor for one in parts) == sale.share_minor


async def test_a_refund_before_the_transfer_takes_from_the_held_share(desk: Desk) -> None:
    order = await paid_order(desk, 100_000)
    assert (await balances(desk, "platform"))["coop:valley-health:pending"] == 95_000
    part = await refund(desk, order, 40_000)
    assert (part.fee.amount_minor, part.cooperative_part.amount_minor) == (2_000, 38_000)
    assert part.receivable.amount_minor == 0
    await settles(desk, order)
    assert await standing(desk, order) == "", "part of the money back, and all of the access"
    await refund(desk, order)
    await settles(desk, order)
    assert await standing(desk, order) == "REFUNDED"
    now = await balances(desk, "platform")
    assert now["coop:valley-health:pending"] == now["fee_revenue"] == now["buyer:acme:credit"] == 0
    # What Stripe kept for processing it does not give back; the market bears it.
    assert now["stripe:pending"] + now["stripe:available"] == -now["processing_fees"]
    seen = await desk.order(order)
    assert seen.refunded == order.amount and seen.state == pb.ORDER_STATE_PAID
    assert (await desk.told(order)).count("OrderRefunded") == 2


async def test_what_is_left_bounds_what_goes_back(desk: Desk) -> None:
    order = await paid_order(desk, 10_000)
    async with refused("REFUND_TOO_LARGE", left="EUR 100.00"):
        await refund(desk, order, 10_001)
    async with refused("CURRENCY_MISMATCH", expected_currency="EUR"):
        await refund(desk, order, amount=Money(amount_minor=1, currency="USD"))
    async with refused("NOT_FOUND"):
        await refund(desk, order, by=await desk.parties.house.steward("other-health"))
    await refund(desk, order)
    async with refused("REFUND_TOO_LARGE"):
        await refund(desk, order)
    async with refused("ORDER_NOT_PAID"):
        await refund(desk, await desk.agree())


async def test_a_card_gets_back_nothing_that_it_cannot_count(desk: Desk) -> None:
    order = await paid_order(desk, 10_000, currency="KWD")
    async with refused("AMOUNT_NOT_CHARGEABLE"):
        await refund(desk, order, 1_234)
    assert not (await desk.order(order)).refunded.amount_minor, "nothing waits for an answer that never comes"
    await refund(desk, order, 1_230)
    await settles(desk, order)


async def test_eight_refunds_at_once_give_back_no_more_than_was_paid(desk: Desk) -> None:
    order = await paid_order(desk, 10_000)
    tried = await asyncio.gather(*(refund(desk, order, 3_000) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(one, pb.Refund) for one in tried) == 3
    await settles(desk, order)
    assert (await desk.order(order)).refunded.amount_minor == 9_000


async def test_a_lost_answer_is_asked_for_under_the_same_key(desk: Desk) -> None:
    order = await paid_order(desk, 10_000)
    desk.simulator.faults.add("lose_response_after_commit", count=2, match="/v1/refunds")
    id = request_id()
    first = await refund(desk, order, 1_000, request_id=id)
    again = await refund(desk, order, 1_000, request_id=id)
    assert again.name == first.name
    await settles(desk, order)
    assert desk.simulator.describe()["refunds"] == 1


async def test_a_card_that_sends_it_back_leaves_a_credit_that_an_operator_pays(desk: Desk) -> None:
    order = await paid_order(desk, 10_000)
    await refund(desk, order, 1_000)
    await settles(desk, order)
    (made,) = (await desk.stripe.stripe.v1.refunds.list_async({"limit": 1})).data
    answer = await desk.stripe.raw.post(f"/_simulator/refunds/{made.id}/fail", json={})
    assert answer.status_code == 200, answer.text
    (failed,) = await settles(desk, order, pb.REFUND_STATE_FAILED)
    assert (await balances(desk, "platform"))["buyer:acme:credit"] == 1_000
    confirm = pb.ConfirmRefundRequest(request_id=request_id(), name=failed.name, bank_reference="bank-1")
    done = await desk.stub.ConfirmRefund(confirm, metadata=desk.operator.metadata)
    assert done.state == pb.REFUND_STATE_SUCCEEDED
    now = await balances(desk, "platform")
    assert now["buyer:acme:credit"] == 0 and now["bank"] == -1_000
    # From now on it is the bank's: a webhook that says late that the card sent it back must not have it paid twice.
    (row,) = await desk.rows("SELECT rail, state FROM refund")
    assert (row.rail, row.state) == (BANK, pb.REFUND_STATE_SUCCEEDED)
    async with refused("REFUND_SETTLED"):
        confirm.request_id = request_id()
        await desk.stub.ConfirmRefund(confirm, metadata=desk.operator.metadata)


async def test_what_was_paid_by_bank_goes_back_by_bank(desk: Desk) -> None:
    order = await desk.agree(50_000)
    await desk.pay(order, TRANSFER)
    await desk.confirm_transfer(order)
    await refund(desk, order, 10_000)
    (waits,) = await settles(desk, order, pb.REFUND_STATE_PENDING)
    confirm = pb.ConfirmRefundRequest(request_id=request_id(), name=waits.name, bank_reference="bank-2")
    await desk.stub.ConfirmRefund(confirm, metadata=desk.operator.metadata)
    await settles(desk, order)
    assert (await balances(desk, "platform"))["bank"] == 40_000
    other = await desk.agree(50_000)
    await desk.pay(other, TRANSFER)
    await desk.confirm_transfer(other)
    await refund(desk, other, 10_000)
    (more,) = await settles(desk, other, pb.REFUND_STATE_PENDING)
    async with refused("BANK_REFERENCE_USED"):
        confirm = pb.ConfirmRefundRequest(request_id=request_id(), name=more.name, bank_reference="bank-2")
        await desk.stub.ConfirmRefund(confirm, metadata=desk.operator.metadata)


async def test_a_released_share_gives_its_reserve_then_what_is_available_then_owes(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(hold_seconds=0, reserve_bps_cards=1000)
    desk.hear_webhooks()
    order = await released(desk, await paid_order(desk, 100_000))
    before = await balances(desk, "platform")
    assert before["coop:valley-health:reserve"] == 9_500 and before["coop:valley-health:available"] == 85_500
    assert (await balances(desk, "coop:valley-health"))["surplus"] == 95_000
    part = await refund(desk, order, 50_000)
    assert part.cooperative_part.amount_minor == 47_500 and part.receivable.amount_minor == 0
    now, own = await balances(desk, "platform"), await balances(desk, "coop:valley-health")
    assert now["coop:valley-health:reserve"] == 0 and now["coop:valley-health:available"] == 47_500
    assert own["surplus"] == own["due_from_platform"] == 47_500


async def test_books_hold_after_every_kind_of_refund(desk: Desk) -> None:
    from billing.store.invariants import flaws

    order = await paid_order(desk, 10_007, CHECKOUT)
    for amount in (1, 3_333, 1):
        await refund(desk, order, amount)
    await deliver(desk, order)
    await refund(desk, order)
    await settles(desk, order)
    async with desk.database.read() as connection:
        assert await flaws(connection) == []


@pytest.mark.parametrize("state", ["pending", "succeeded"])
async def test_a_bank_debit_goes_back_when_its_bank_says_so(desk: Desk, state: str) -> None:
    order = await desk.agree(20_000, "USD")
    payment = await desk.pay(order)
    await desk.confirm_card(payment, "pm_usBankAccount_success")
    await desk.stripe.raw.post("/_simulator/settle")
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    await refund(desk, order, 5_000)
    if state == "succeeded":
        await desk.stripe.raw.post("/_simulator/clock", json={"advance_seconds": 10 * 86_400})
    await settles(desk, order)
