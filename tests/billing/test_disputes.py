"""Disputes: the share frozen, access held, evidence given in time; won and lost booked as Stripe's own books have them."""

import datetime as dt
from typing import Any

import pytest
from billing_desk import Desk, until
from house import refused, request_id
from treasury_desk import balances, decide, deliver, dispute, paid_order, refund, released

from billing.domain.disputes import Dispute, SeenDispute, judge
from billing.store.invariants import flaws
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import now

COOP = "coop:valley-health"
FEE = 1_500


async def disputes(desk: Desk, **more: Any) -> list[pb.Dispute]:
    request = pb.ListDisputesRequest(**more)
    return list((await desk.stub.ListDisputes(request, metadata=desk.parties.steward.metadata)).disputes)


async def seen(desk: Desk, state: int) -> pb.Dispute:
    found = await until(lambda: disputes(desk), lambda all: bool(all) and all[0].state == state)
    return found[0]


async def standing(desk: Desk, order: pb.Order) -> tuple[str, int]:
    (row,) = await desk.rows("SELECT reason, sequence FROM standing WHERE license = :license", license=order.license)
    return row.reason, row.sequence


async def sound(desk: Desk) -> None:
    async with desk.database.read() as connection:
        assert await flaws(connection) == []


async def test_a_dispute_freezes_the_share_and_holds_access(desk: Desk) -> None:
    order = await paid_order(desk, 100_000)
    await dispute(desk, order)
    opened = await seen(desk, pb.DISPUTE_STATE_NEEDS_RESPONSE)
    assert opened.amount == order.amount and opened.HasField("evidence_due_time")
    market = await balances(desk, "platform")
    assert market[f"{COOP}:frozen"] == 95_000 and market[f"{COOP}:pending"] == 0
    assert market["dispute:held"] == 100_000 and market["dispute_losses"] == FEE
    assert await standing(desk, order) == ("DISPUTED", 1)
    assert (await desk.order(order)).disputed
    async with refused("ORDER_DISPUTED"):
        await refund(desk, order, 1)
    await sound(desk)


async def test_won_gives_everything_back_and_access_too(desk: Desk) -> None:
    order = await paid_order(desk, 100_000)
    id = await dispute(desk, order)
    await seen(desk, pb.DISPUTE_STATE_NEEDS_RESPONSE)
    await decide(desk, id, "won")
    await seen(desk, pb.DISPUTE_STATE_WON)
    market = await balances(desk, "platform")
    assert market[f"{COOP}:pending"] == 95_000 and market[f"{COOP}:frozen"] == 0
    assert market["dispute:held"] == market["dispute_losses"] == 0
    assert await standing(desk, order) == ("", 2)
    assert not (await desk.order(order)).disputed
    told = await desk.told(order)
    assert told[-2:] == ["DisputeOpened", "DisputeClosed"]
    await sound(desk)


async def test_lost_before_the_transfer_costs_the_share_and_ends_the_license(desk: Desk) -> None:
    order = await paid_order(desk, 100_000)
    id = await dispute(desk, order)
    await decide(desk, id, "lost")
    await seen(desk, pb.DISPUTE_STATE_LOST)
    market = await balances(desk, "platform")
    assert market[f"{COOP}:frozen"] == market[f"{COOP}:pending"] == market["fee_revenue"] == 0
    assert market["dispute:held"] == market["fx"] == 0 and market["dispute_losses"] == FEE
    assert (await standing(desk, order))[0] == "REFUNDED"
    assert (await desk.order(order)).refunded == order.amount
    await sound(desk)


async def test_lost_after_the_release_above_the_charge_is_owed_and_the_excess_is_exchange(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(hold_seconds=0, reserve_bps_cards=1000)
    desk.hear_webhooks()
    order = await released(desk, await paid_order(desk, 100_000))
    id = await dispute(desk, order, 103_000)
    await seen(desk, pb.DISPUTE_STATE_NEEDS_RESPONSE)
    await decide(desk, id, "lost")
    await seen(desk, pb.DISPUTE_STATE_LOST)
    market, own = await balances(desk, "platform"), await balances(desk, COOP)
    assert market["fx"] == 3_000 and market["dispute_losses"] == FEE
    assert market[f"{COOP}:reserve"] == market[f"{COOP}:available"] == 0
    assert own["surplus"] == own["due_from_platform"] - own["due_to_platform"]
    assert market[f"{COOP}:receivable"] == own["due_to_platform"]
    await sound(desk)


async def test_part_of_a_payment_disputed_and_lost_leaves_the_rest(desk: Desk) -> None:
    order = await paid_order(desk, 100_000)
    id = await dispute(desk, order, 40_000)
    await decide(desk, id, "lost")
    await seen(desk, pb.DISPUTE_STATE_LOST)
    market = await balances(desk, "platform")
    assert market[f"{COOP}:pending"] == 57_000 and market[f"{COOP}:frozen"] == 0
    assert await standing(desk, order) == ("", 2), "held while it was open, and paid for in part"
    await refund(desk, order)
    assert (await desk.order(order)).refunded == order.amount
    await sound(desk)


async def test_evidence_is_what_was_delivered_and_is_given_once(desk: Desk) -> None:
    order = await paid_order(desk, 100_000)
    for _ in range(3):
        await deliver(desk, order)
    await until(
        lambda: desk.rows("SELECT listed_files FROM access_day"), lambda rows: bool(rows) and rows[0].listed_files == 3
    )
    await dispute(desk, order)
    opened = await seen(desk, pb.DISPUTE_STATE_NEEDS_RESPONSE)
    steward = desk.parties.steward.metadata
    pack = await desk.stub.GetEvidence(pb.GetEvidenceRequest(name=opened.name), metadata=steward)
    assert "3 files listed, 3,000,000 bytes sent" in pack.text and order.terms_hash in pack.content_json
    async with refused("NOT_FOUND"):
        await desk.stub.GetEvidence(
            pb.GetEvidenceRequest(name=opened.name),
            metadata=(await desk.parties.house.steward("other-health")).metadata,
        )
    request = pb.SubmitEvidenceRequest(request_id=request_id(), name=opened.name, statement="winning_evidence")
    desk.simulator.faults.add("500", count=100, match="/v1/disputes")
    async with refused("RAIL_UNAVAILABLE"):
        await desk.stub.SubmitEvidence(request, metadata=steward)
    desk.simulator.faults.clear()
    given = await desk.stub.SubmitEvidence(request, metadata=steward)
    assert given.HasField("evidence_time")
    assert await desk.stub.SubmitEvidence(request, metadata=steward) == given
    async with refused("DISPUTE_NOT_OPEN"):
        request.request_id = request_id()
        await desk.stub.SubmitEvidence(request, metadata=steward)


async def test_what_nobody_answers_is_answered_before_it_is_due(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    order = await paid_order(desk, 100_000)
    id = await dispute(desk, order)
    await seen(desk, pb.DISPUTE_STATE_NEEDS_RESPONSE)
    # Stripe gives eight days; as if the last of them had begun.
    monkeypatch.setattr("billing.returning.LAST_CALL", dt.timedelta(days=9))

    async def ask() -> Any:
        return await desk.stripe.stripe.v1.disputes.retrieve_async(id)

    answered = await until(ask, lambda one: one.evidence_details.submission_count == 1)
    assert order.terms_hash in answered.evidence.uncategorized_text


async def test_a_dispute_whose_webhooks_are_all_lost_is_found(closed_desk: Desk) -> None:
    await closed_desk.start(sweep_age_seconds=0)
    desk = closed_desk
    order = await paid_order(desk, 100_000)
    desk.hear_webhooks()
    id = await dispute(desk, order)
    await seen(desk, pb.DISPUTE_STATE_NEEDS_RESPONSE)
    desk.simulator.faults.add("webhook_drop", count=10, match="charge.dispute")
    await decide(desk, id, "won")
    await seen(desk, pb.DISPUTE_STATE_WON)


async def test_an_inquiry_takes_no_money(desk: Desk) -> None:
    order = await paid_order(desk, 100_000)
    await dispute(desk, order, inquiry=True)
    await seen(desk, pb.DISPUTE_STATE_NEEDS_RESPONSE)
    market = await balances(desk, "platform")
    assert market["dispute:held"] == market["dispute_losses"] == 0 and market[f"{COOP}:frozen"] == 95_000
    await sound(desk)


def test_what_was_decided_stays_so() -> None:
    at, amount = now(), Money(amount_minor=100, currency="EUR")
    dispute = Dispute("dis", "ord", "du", amount, "fraudulent", at)
    lost = judge(dispute, SeenDispute("du", "lost", amount, "fraudulent"), at)
    assert lost.state == pb.DISPUTE_STATE_LOST
    for late in ("needs_response", "under_review", "won"):
        assert judge(lost, SeenDispute("du", late, amount, "fraudulent"), at) == lost
    review = judge(dispute, SeenDispute("du", "under_review", amount, "fraudulent"), at)
    assert judge(review, SeenDispute("du", "needs_response", amount, "fraudulent"), at) == review
    assert judge(review, SeenDispute("du", "a word of tomorrow", amount, "fraudulent"), at) == review
