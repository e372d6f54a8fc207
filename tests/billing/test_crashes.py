"""Billing dies between two steps and another instance takes over: never a second charge, never a lost one."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from billing_desk import CHECKOUT, INTENT, TRANSFER, Desk, until
from house import request_id

from billing import webhooks
from billing.attempts import Attempts
from billing.rail import Rail
from billing.settlement import Settlement
from rochdale.billing.v1 import billing_pb2 as pb

QUICK = {"recover_age_seconds": 0.5, "sweep_seconds": 0.3, "sweep_age_seconds": 0.5}


class Halt:
    """A step that is reached and never returns: everything before it has happened, nothing after it will."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str, after: bool = False) -> None:
        self.reached = asyncio.Event()
        self._patch = patch
        real: Callable[..., Awaitable[Any]] = getattr(owner, name)

        async def halted(*arguments: Any, **named: Any) -> None:
            if after:
                await real(*arguments, **named)
            self.reached.set()
            await asyncio.Event().wait()

        patch.setattr(owner, name, halted)

    async def crash(self, desk: Desk, doing: "asyncio.Task[Any] | None" = None) -> None:
        """Ends the first instance where it stands; the next runs the real code."""
        async with asyncio.timeout(10):
            await self.reached.wait()
        if doing is not None:
            doing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await doing
        await desk.service.stop()
        self._patch.undo()


# The name of each is what was done last before the crash.
STARTS: dict[str, tuple[type, str, bool]] = {
    "the attempt is written down": (Attempts, "advance", False),
    "Stripe is about to be asked": (Rail, "start", False),
    "Stripe made it": (Rail, "start", True),
    "the answer is about to be kept": (Settlement, "apply", False),
    "the answer was kept": (Settlement, "apply", True),
}


@pytest.mark.parametrize("method", [INTENT, CHECKOUT])
@pytest.mark.parametrize("step", STARTS)
async def test_starting_a_payment(closed_desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str, method: int) -> None:
    desk = closed_desk
    await desk.start()
    order, id = await desk.agree(), request_id()
    owner, name, after = STARTS[step]
    halt = Halt(monkeypatch, owner, name, after)
    await halt.crash(desk, asyncio.create_task(desk.pay(order, method, request_id=id)))
    await desk.start(**QUICK)
    desk.hear_webhooks()
    payment = await desk.pay(order, method, request_id=id)
    assert payment.state == pb.PAYMENT_STATE_PENDING
    await (desk.confirm_card(payment) if method == INTENT else desk.post(payment))
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    described = desk.simulator.describe()
    made = described["payment_intents"] if method == INTENT else described["checkout_sessions"]
    assert sum(made.values()) == 1, "one key, one attempt at Stripe"
    assert described["charges"] == {"succeeded": 1}
    assert await desk.told(order) == ["OrderPaid"]
    assert len(await desk.rows("SELECT 1 FROM payment")) == 1


HEARING: dict[str, tuple[type, str, bool]] = {
    "the hint was claimed": (Rail, "fetch", False),
    "the object was read": (Rail, "fetch", True),
    "the effect is about to be saved": (Settlement, "apply", False),
    "the effect was saved": (Settlement, "apply", True),
}


@pytest.mark.parametrize("step", HEARING)
async def test_hearing_that_it_is_paid(closed_desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    desk = closed_desk
    await desk.start()
    order = await desk.agree()
    payment = await desk.pay(order)
    lease = webhooks.LEASE
    webhooks.LEASE = lease / 50
    try:
        owner, name, after = HEARING[step]
        halt = Halt(monkeypatch, owner, name, after)
        desk.hear_webhooks()
        await desk.confirm_card(payment)
        await halt.crash(desk)
        # Without the sweep: what was claimed by the dead is claimed again.
        await desk.start(sweep_seconds=1000)
        desk.hear_webhooks()
        await desk.becomes(order, pb.ORDER_STATE_PAID)
        await until(lambda: desk.rows("SELECT 1 FROM webhook WHERE apply_time IS NULL"), lambda rows: not rows)
    finally:
        webhooks.LEASE = lease
    assert await desk.told(order) == ["OrderPaid"]


GIVING_UP: dict[str, tuple[type, str, bool]] = {
    "it was looked at": (Rail, "look", True),
    "Stripe canceled it": (Rail, "cancel", True),
    "it is known to be canceled": (Settlement, "apply", True),
}


@pytest.mark.parametrize("step", GIVING_UP)
async def test_giving_up_one_attempt_for_another(closed_desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    desk = closed_desk
    await desk.start()
    order, id = await desk.agree(), request_id()
    first = await desk.pay(order)
    owner, name, after = GIVING_UP[step]
    halt = Halt(monkeypatch, owner, name, after)
    await halt.crash(desk, asyncio.create_task(desk.pay(order, TRANSFER, request_id=id)))
    await desk.start(**QUICK)
    second = await desk.pay(order, TRANSFER, request_id=id)
    assert (await desk.payment(first)).state == pb.PAYMENT_STATE_FAILED
    assert (await desk.payment(second)).state == pb.PAYMENT_STATE_PENDING
    await desk.confirm_transfer(order)
    assert desk.charges == {} and await desk.told(order) == ["OrderPaid"]


@pytest.mark.parametrize("after", [False, True])
async def test_giving_money_back(closed_desk: Desk, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    desk = closed_desk
    await desk.start()
    order = await desk.agree()
    payment = await desk.pay(order)
    halt = Halt(monkeypatch, Rail, "refund", after)
    async with desk.database.begin() as connection:
        await connection.exec_driver_sql("UPDATE payment SET state = 4, failure_code = 'canceled'")
    desk.hear_webhooks()
    await desk.confirm_card(payment)
    await halt.crash(desk)
    await desk.start(**QUICK)
    await until(lambda: desk.payment(payment), lambda now: now.failure_code == "refunded")
    described = desk.simulator.describe()
    assert (described["refunds"], described["refunded_minor"]) == (1, {"eur": 125_000})


async def test_two_instances_beside_each_other_have_one_effect(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(**QUICK)
    desk.hear_webhooks()
    await desk.start(**QUICK)
    desk.hear_webhooks()
    orders = [await desk.agree() for _ in range(3)]
    payments = [await desk.pay(order) for order in orders]
    await asyncio.gather(*(desk.confirm_card(payment) for payment in payments))
    for order in orders:
        await desk.becomes(order, pb.ORDER_STATE_PAID)
    await desk.simulator.webhooks.drained()
    await until(lambda: desk.rows("SELECT 1 FROM webhook WHERE apply_time IS NULL"), lambda rows: not rows)
    for order in orders:
        assert await desk.told(order) == ["OrderPaid"]
