"""Disputes: by Stripe's test cards and on demand, answered, decided, and what they do to the balance."""

from typing import Any

import pytest
import stripe
from pytest import raises
from stripe_world import World

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

DAY = 86_400
PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


async def disputed(world: World, **asked: Any) -> Any:
    """A paid charge that its bank then disputes."""
    intent = await world.pay(5000)
    made = await world.bank("disputes", charge=intent.latest_charge, **asked)
    return await world.stripe.v1.disputes.retrieve_async(made["id"])


async def balance(world: World) -> int:
    """The platform's dollars, available or not, in cents."""
    now = await world.stripe.v1.balance.retrieve_async()
    return sum(row.amount for side in (now.available, now.pending) for row in side if row.currency == "usd")


async def answered(world: World, ident: str, text: str, **more: Any) -> Any:
    params = {"evidence": {"uncategorized_text": text}, **more}
    return await world.stripe.v1.disputes.update_async(ident, params)


async def test_the_test_card_pays_and_its_bank_takes_the_money_back(world: World) -> None:
    intent = await world.pay(5000, "pm_card_createDispute")
    assert intent.status == "succeeded"
    found = (await world.stripe.v1.disputes.list_async({"payment_intent": intent.id})).data
    assert [(row.charge, row.amount, row.reason, row.status) for row in found] == [
        (intent.latest_charge, 5000, "fraudulent", "needs_response")
    ]
    taken = found[0].balance_transactions[0]
    assert (taken.type, taken.amount, taken.fee, taken.net) == ("adjustment", -5000, 1500, -6500)
    assert (taken.reporting_category, taken.source) == ("dispute", found[0].id)
    assert (await world.stripe.v1.balance_transactions.retrieve_async(taken.id)).net == -6500
    assert (await world.stripe.v1.charges.retrieve_async(intent.latest_charge)).disputed is True
    assert await balance(world) == 5000 - 175 - 6500
    told = await world.told()
    assert told == [*PAID[:2], "charge.dispute.created", "charge.dispute.funds_withdrawn", PAID[2]]


async def test_winning_evidence_brings_money_and_fee_back(world: World) -> None:
    dispute = await disputed(world)
    before = await balance(world)
    won = await answered(world, dispute.id, "winning_evidence")
    assert (won.status, won.evidence_details.submission_count, won.is_charge_refundable) == ("won", 1, True)
    back = won.balance_transactions[1]
    assert (back.amount, back.fee, back.net, back.reporting_category) == (5000, -1500, 6500, "dispute_reversal")
    assert await balance(world) == before + 6500
    closing = ["charge.dispute.updated", "charge.dispute.funds_reinstated", "charge.dispute.closed"]
    assert (await world.told())[-3:] == closing
    assert (await world.stripe.v1.refunds.create_async({"charge": won.charge})).status == "succeeded"


async def test_losing_evidence_leaves_things_as_they_are(world: World) -> None:
    dispute = await disputed(world)
    before = await balance(world)
    assert (await answered(world, dispute.id, "losing_evidence")).status == "lost"
    assert await balance(world) == before
    assert "charge.dispute.funds_reinstated" not in await world.told()


async def test_other_evidence_waits_for_the_bank(world: World) -> None:
    dispute = await disputed(world)
    staged = await answered(world, dispute.id, "An access log.", submit=False)
    assert (staged.status, staged.evidence_details.submission_count) == ("needs_response", 0)
    assert staged.evidence.uncategorized_text == "An access log."
    sent = await world.stripe.v1.disputes.update_async(dispute.id, {"submit": True})
    assert (sent.status, sent.evidence_details.has_evidence) == ("under_review", True)
    with raises(stripe.InvalidRequestError, match="already under review"):
        await answered(world, dispute.id, "winning_evidence")
    won = await world.bank(f"disputes/{dispute.id}/decide", outcome="won", return_fee=False)
    assert (won["status"], won["balance_transactions"][1]["net"]) == ("won", 5000)
    with raises(stripe.InvalidRequestError, match="already closed"):
        await world.stripe.v1.disputes.close_async(dispute.id)


async def test_what_is_disputed_cannot_be_refunded(world: World) -> None:
    dispute = await disputed(world)
    for outcome in ("open", "lost"):
        if outcome == "lost":
            await world.bank(f"disputes/{dispute.id}/decide", outcome="lost")
        with raises(stripe.InvalidRequestError, match="has been charged back") as refused:
            await world.stripe.v1.refunds.create_async({"payment_intent": dispute.payment_intent})
        assert refused.value.code == "charge_disputed"


async def test_a_bank_may_take_more_than_was_paid(world: World) -> None:
    dispute = await disputed(world, amount=5120, reason="product_not_received")
    assert (dispute.amount, dispute.reason) == (5120, "product_not_received")
    assert dispute.balance_transactions[0].amount == -5120


async def test_a_bank_disputes_what_was_not_refunded(world: World) -> None:
    intent = await world.pay(5000)
    await world.stripe.v1.refunds.create_async({"payment_intent": intent.id, "amount": 2000})
    assert (await world.bank("disputes", charge=intent.latest_charge))["amount"] == 3000


async def test_accepting_a_dispute_loses_it(world: World) -> None:
    dispute = await disputed(world)
    assert (await world.stripe.v1.disputes.close_async(dispute.id)).status == "lost"
    assert (await world.told())[-1] == "charge.dispute.closed"


async def test_a_dispute_left_unanswered_is_lost_at_its_deadline(world: World) -> None:
    dispute = await disputed(world)
    assert 8 * DAY <= dispute.evidence_details.due_by - dispute.created < 9 * DAY
    world.simulator.advance(9 * DAY)
    dispute = await world.stripe.v1.disputes.retrieve_async(dispute.id)
    assert (dispute.status, dispute.evidence_details.past_due) == ("lost", True)


async def test_an_answered_dispute_outlives_its_deadline(world: World) -> None:
    dispute = await disputed(world)
    await answered(world, dispute.id, "An access log.")
    world.simulator.advance(60 * DAY)
    assert (await world.stripe.v1.disputes.retrieve_async(dispute.id)).status == "under_review"


async def test_an_inquiry_takes_no_money_and_may_come_to_nothing(world: World) -> None:
    intent = await world.pay(5000, "pm_card_createDisputeInquiry")
    before = await balance(world)
    inquiry = (await world.stripe.v1.disputes.list_async({"charge": intent.latest_charge})).data[0]
    assert (inquiry.status, inquiry.balance_transactions) == ("warning_needs_response", [])
    assert (inquiry.payment_method_details.card.case_type, inquiry.is_charge_refundable) == ("inquiry", True)
    world.simulator.advance(120 * DAY)
    assert (await world.stripe.v1.disputes.retrieve_async(inquiry.id)).status == "warning_closed"
    assert await balance(world) == before


async def test_an_inquiry_may_become_a_dispute(world: World) -> None:
    inquiry = await disputed(world, inquiry=True)
    dispute = await answered(world, inquiry.id, "escalate_inquiry_evidence")
    assert (dispute.status, dispute.balance_transactions[0].net) == ("needs_response", -6500)
    assert (await world.told())[-1] == "charge.dispute.funds_withdrawn"
    assert (await answered(world, inquiry.id, "winning_evidence")).status == "won"


async def test_a_full_refund_answers_an_inquiry(world: World) -> None:
    inquiry = await disputed(world, inquiry=True)
    await world.stripe.v1.refunds.create_async({"charge": inquiry.charge})
    assert (await world.stripe.v1.disputes.retrieve_async(inquiry.id)).status == "warning_closed"


async def test_disputes_are_listed_expanded_and_described(world: World) -> None:
    first, second = await disputed(world), await disputed(world)
    newest = await world.stripe.v1.disputes.list_async({"limit": 1, "expand": ["data.charge"]})
    assert ([row.id for row in newest.data], newest.has_more) == ([second.id], True)
    assert newest.data[0].charge.id == second.charge
    expanded = await world.stripe.v1.disputes.retrieve_async(first.id, {"expand": ["payment_intent"]})
    assert expanded.payment_intent.latest_charge == first.charge
    changed = await world.stripe.v1.disputes.update_async(first.id, {"metadata": {"order": "o1"}})
    assert (changed.metadata["order"], changed.status) == ("o1", "needs_response")
    assert world.simulator.describe()["disputes"] == {"needs_response": 2}


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"charge": "ch_none"}, 404, "No such charge"),
        ({"reason": "whim"}, 400, "reason is one of"),
        ({"amount": 0}, 400, "amount is a whole number"),
        ({"amount": "5"}, 400, "amount is a whole number"),
        ({"fee": 5}, 400, "unexpected keyword argument"),
    ],
)
async def test_a_lever_that_makes_no_sense_is_refused(world: World, asked: Any, status: int, said: str) -> None:
    intent = await world.pay(5000)
    answer = await world.raw.post("/_simulator/disputes", json={"charge": intent.latest_charge, **asked})
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert (await world.stripe.v1.disputes.list_async()).data == []


async def test_one_open_dispute_a_charge(world: World) -> None:
    dispute = await disputed(world)
    again = await world.raw.post("/_simulator/disputes", json={"charge": dispute.charge})
    assert (again.status_code, "already disputed" in again.text) == (400, True)
    assert (await world.raw.post("/_simulator/disputes", content="{}")).status_code == 415
    with raises(stripe.InvalidRequestError, match="No such dispute: 'du_x'") as refused:
        await world.stripe.v1.disputes.retrieve_async("du_x")
    assert refused.value.param == "dispute"
