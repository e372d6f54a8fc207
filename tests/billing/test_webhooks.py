"""Webhooks: believed only as hints, kept once, in any order, and not needed at all."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from billing_desk import CHECKOUT, SECRET, Desk, until
from stripe import WebhookSignature

from billing import webhooks
from billing.attempts import Attempts
from rochdale.billing.v1 import billing_pb2 as pb


def event(object_id: str, type: str = "payment_intent.succeeded", **change: Any) -> bytes:
    """What an attacker who knows everything but the secret would send."""
    body = {
        "id": f"evt_{object_id}",
        "object": "event",
        "type": type,
        "livemode": False,
        "data": {"object": {"id": object_id, "object": "payment_intent", "status": "succeeded"}},
    }
    return json.dumps(body | change).encode()


def sign(body: bytes, secret: str, age_seconds: int = 0) -> bytes:
    header: str = WebhookSignature.generate_signature_header(body.decode(), secret, int(time.time()) - age_seconds)
    return header.encode()


async def send(desk: Desk, body: bytes, secret: str = SECRET, signature: bytes | None = None) -> httpx.Response:
    given = sign(body, secret) if signature is None else signature
    return await desk.stripe.browser.post(
        f"http://{desk.service.http_address}/webhooks/stripe",
        content=body,
        headers=[(b"stripe-signature", given)] if given else [],
    )


FORGERIES: dict[str, Callable[[Desk, bytes], Awaitable[httpx.Response]]] = {
    "unsigned": lambda desk, body: send(desk, body, signature=b""),
    "wrong secret": lambda desk, body: send(desk, body, secret="whsec_somebody_elses"),
    "empty secret": lambda desk, body: send(desk, body, secret=""),
    "stale": lambda desk, body: send(desk, body, signature=sign(body, SECRET, age_seconds=400)),
    "tampered": lambda desk, body: send(desk, body + b" ", signature=sign(body, SECRET)),
    "nonsense": lambda desk, body: send(desk, body, signature=b"t=1,v1=\xe9\xff"),
    "not text": lambda desk, body: send(desk, b"\xff" + body, signature=sign(body, SECRET)),
}


async def test_a_forged_webhook_is_refused_and_nothing_is_kept(desk: Desk) -> None:
    order = await desk.agree()
    payment = await desk.pay(order)
    await desk.simulator.webhooks.drained()
    before = await desk.rows("SELECT count(*) AS many FROM webhook")
    for how, forged in FORGERIES.items():
        answer = await forged(desk, event(payment.payment_intent))
        assert (answer.status_code, answer.json()["errorCode"]) == (400, "WEBHOOK_SIGNATURE_INVALID"), how
    assert await desk.rows("SELECT count(*) AS many FROM webhook") == before
    assert (await desk.order(order)).state == pb.ORDER_STATE_OPEN


async def test_even_a_signed_webhook_is_not_believed(desk: Desk) -> None:
    order = await desk.agree()
    payment = await desk.pay(order)
    assert (await send(desk, event(payment.payment_intent))).status_code == 200
    await until(
        lambda: desk.rows("SELECT outcome FROM webhook WHERE event_id = :id", id=f"evt_{payment.payment_intent}"),
        lambda rows: bool(rows) and rows[0].outcome == "applied",
    )
    assert (await desk.order(order)).state == pb.ORDER_STATE_OPEN
    assert (await desk.payment(payment)).state == pb.PAYMENT_STATE_PENDING


NONSENSE = [
    (b"not json", 400, "WEBHOOK_UNREADABLE"),
    (b"[]", 400, "WEBHOOK_UNREADABLE"),
    (b'{"id": 5, "type": [], "livemode": false, "data": {"object": {}}}', 400, "WEBHOOK_UNREADABLE"),
    (event("pi_1", id="evt_\0"), 400, "REQUEST_INVALID"),
    # Each would be another address of Stripe's API than that of one object.
    (event(""), 400, "WEBHOOK_UNREADABLE"),
    (event("."), 400, "WEBHOOK_UNREADABLE"),
    (event(".."), 400, "WEBHOOK_UNREADABLE"),
    (event("../../v1/refunds", "charge.dispute.created"), 400, "WEBHOOK_UNREADABLE"),
    (event("pi_1?expand[]=customer"), 400, "WEBHOOK_UNREADABLE"),
    (b"[" * 100_000, 400, "WEBHOOK_UNREADABLE"),
    (event("pi_1", livemode=True), 400, "WEBHOOK_NOT_OURS"),
    (event("pi_1", account="acct_other"), 400, "WEBHOOK_NOT_OURS"),
    (b"x" * (256 * 1024 + 1), 413, "WEBHOOK_TOO_LARGE"),
]


async def test_what_is_signed_and_makes_no_sense_is_refused(desk: Desk) -> None:
    for body, status, reason in NONSENSE:
        answer = await send(desk, body)
        assert (answer.status_code, answer.json()["errorCode"]) == (status, reason), body[:80]
    assert not await desk.rows("SELECT 1 FROM webhook")


async def test_events_about_other_things_are_taken_and_not_kept(desk: Desk) -> None:
    for type in ("customer.created", "payout.created", "payment_intents.x.y", "balance.available"):
        assert (await send(desk, event("x_1", type, data={"object": {}}))).json() == {"received": True}
    assert not await desk.rows("SELECT 1 FROM webhook")


async def test_a_secret_is_rotated_without_losing_a_webhook(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(stripe_webhook_secret="whsec_the_next_one, " + SECRET)
    for secret in (SECRET, "whsec_the_next_one"):
        assert (await send(desk, event("pi_none"), secret=secret)).status_code == 200
    assert (await send(desk, event("pi_none"), secret="whsec_the_next_one, " + SECRET)).status_code == 400


@pytest.mark.parametrize("fault", ["webhook_duplicate", "webhook_reorder", "webhook_tamper", "webhook_old_timestamp"])
async def test_whatever_the_post_does_there_is_one_effect(desk: Desk, fault: str) -> None:
    order = await desk.agree()
    payment = await desk.pay(order, CHECKOUT)
    desk.simulator.faults.add(fault, count=10)
    await desk.post(payment, pay_with="declined_card")
    await desk.post(payment)
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    await desk.simulator.webhooks.drained()
    types = await until(
        lambda: desk.rows("SELECT type, outcome FROM webhook"),
        lambda rows: all(row.outcome == "applied" for row in rows),
    )
    assert {"payment_intent.succeeded", "charge.succeeded", "checkout.session.completed"} <= {row.type for row in types}
    assert await desk.told(order) == ["OrderPaid"]
    assert desk.charges["succeeded"] == 1


async def test_a_lost_webhook_only_delays(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(sweep_seconds=0.2, sweep_age_seconds=0)
    orders = [await desk.agree() for _ in range(2)]
    await desk.confirm_card(await desk.pay(orders[0]))
    await desk.post(await desk.pay(orders[1], CHECKOUT))
    for order in orders:
        await desk.becomes(order, pb.ORDER_STATE_PAID)
        assert await desk.told(order) == ["OrderPaid"]


async def test_a_webhook_may_overtake_the_answer_it_is_about(desk: Desk) -> None:
    order = await desk.agree()
    desk.simulator.faults.add("slow", seconds=1.0, match="/v1/payment_intents")
    starting = asyncio.create_task(desk.pay(order))
    await until(lambda: asyncio.sleep(0, desk.simulator.describe()["payment_intents"]), bool)
    intents = await desk.stripe.intents.list_async({"limit": 1})
    await desk.confirm_card(pb.Payment(payment_intent=intents.data[0].id))
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert not starting.done()
    payment = await starting
    assert payment.state == pb.PAYMENT_STATE_SUCCEEDED
    assert await desk.told(order) == ["OrderPaid"]


async def test_what_nobody_knows_is_put_off_longer_each_time_and_at_last_discarded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "FIRST_DELAY_SECONDS", 0.05)
    foreign = await desk.stripe.pay(1000)  # paid to the same account by something that is not this market
    rows = await until(
        lambda: desk.rows("SELECT attempts, outcome FROM webhook WHERE object_id = :id", id=foreign.id),
        lambda found: bool(found) and found[0].attempts >= 3,
    )
    assert {row.outcome for row in rows} == {"unknown"}
    async with desk.database.begin() as connection:
        await connection.exec_driver_sql(
            "UPDATE webhook SET receive_time = now() - interval '4 days', next_time = now()"
        )
    await until(lambda: desk.rows("SELECT 1 FROM webhook WHERE apply_time IS NULL"), lambda found: not found)
    assert {row.outcome for row in await desk.rows("SELECT outcome FROM webhook")} == {"discarded: unknown"}


async def test_webhooks_wait_while_stripe_answers_nothing(desk: Desk) -> None:
    order = await desk.agree()
    payment = await desk.pay(order)
    await desk.simulator.webhooks.drained()
    await asyncio.sleep(0.3)
    desk.simulator.faults.add("500", count=3, match=f"/v1/payment_intents/{payment.payment_intent}")
    assert (await send(desk, event(payment.payment_intent))).status_code == 200
    rows = await until(
        lambda: desk.rows("SELECT attempts FROM webhook WHERE outcome = 'applied' AND attempts > 1"), bool
    )
    assert rows[0].attempts == 2


async def test_a_fault_of_ours_puts_a_webhook_off_and_ends_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    order = await desk.agree()
    payment = await desk.pay(order)
    await desk.simulator.webhooks.drained()
    with monkeypatch.context() as patch:
        patch.setattr(Attempts, "hear", lambda *_, **__: 1 / 0)
        await desk.confirm_card(payment)
        await until(lambda: desk.rows("SELECT 1 FROM webhook WHERE outcome = 'failed'"), bool)
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert any("failed" in record.getMessage() and record.exc_info for record in caplog.records)
