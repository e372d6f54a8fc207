"""Money where two stories meet: refunds beside releases, disputes of other money, faults that must stay one row's own."""

import asyncio
import datetime as dt
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from billing_desk import TRANSFER, Desk, until
from purse import Purse
from treasury_desk import balances, paid_order, refund, released

from billing import refunding, store
from billing.config import Config
from billing.disputing import Disputing
from billing.domain import postings
from billing.domain.disputes import Moved, SeenDispute
from billing.domain.ledger import PLATFORM, accounts_of_shares, lines
from billing.domain.postings import STRIPE, Movement
from billing.keeper import each
from billing.refunding import Refunding
from billing.releasing import Releasing
from rochdale.billing.v1 import billing_pb2 as orders
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import now

COOP = "coop:valley-health"
# What a test does by hand is done by nobody else meanwhile.
ASLEEP = {"round_seconds": 3600.0, "sweep_seconds": 3600.0}
SOMEWHERE: dict[str, Any] = {
    "database_url": "postgresql+asyncpg://",
    "nats_url": "nats://",
    "identity_address": "127.0.0.1:1",
}


@pytest.fixture
async def purse(closed_desk: Desk) -> AsyncIterator[Purse]:
    async with AsyncExitStack() as stack:
        yield Purse(closed_desk, stack)


def euros(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency="EUR")


def id_of(order: orders.Order) -> str:
    return order.name.removeprefix("orders/")


async def waiting(desk: Desk) -> list[object]:
    return await desk.rows(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


async def test_a_refund_and_the_release_of_another_share_never_wait_in_a_circle(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(**ASLEEP)
    desk.hear_webhooks()
    back, free = await paid_order(desk, 100_000), await paid_order(desk, 100_000)
    releasing = Releasing(desk.database, Config(**SOMEWHERE))
    async with desk.database.begin() as connection:
        # As after the first sales: every account is there.
        await store.ledger.hold(connection, PLATFORM, accounts_of_shares("valley-health"), "EUR")
        await connection.execute(
            sa.text("UPDATE share SET deliver_time = now(), hold_time = now() WHERE order_id = :id"),
            {"id": id_of(free)},
        )
    async with desk.database.begin() as connection:
        order = await store.orders.lock(connection, id_of(back))
        share = await store.shares.lock(connection, id_of(back))
        assert order is not None and share is not None
        taken, parts = await refunding.take_back(connection, order, share, 40_000)
        # The other one is as far as it comes by now.
        release = asyncio.create_task(releasing._release(id_of(free)))
        await until(lambda: waiting(desk), bool)
        await store.ledger.post(
            connection, postings.refund_owed("rfd_1", order.buyer, share.sale(), parts, taken, now())
        )
        await refunding.given_back(connection, order, share, parts, taken)
    await release
    market = await balances(desk, "platform")
    assert (market[f"{COOP}:pending"], market["buyer:acme:credit"]) == (57_000, 40_000)
    assert market[f"{COOP}:available"] + market[f"{COOP}:reserve"] == 95_000
    assert await desk.flaws() == []


async def test_a_dispute_of_money_that_paid_nothing_is_not_the_orders(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(**ASLEEP)
    desk.hear_webhooks()
    order = await desk.agree(100_000)
    given_up = await desk.pay(order)
    await desk.pay(order, TRANSFER)
    await desk.confirm_transfer(order)
    disputing = Disputing(desk.database, Refunding(desk.database, None, None))  # type: ignore[arg-type] # asks no rail
    moved = Moved("txn_1", "EUR", 100_000, 1_500, back=False)
    lost = SeenDispute("dp_1", "lost", euros(100_000), "fraudulent", (moved,))
    assert await disputing.apply(given_up.name.rpartition("/")[2], lost) is None
    market = await balances(desk, "platform")
    assert (market[f"{COOP}:pending"], market["dispute:held"]) == (95_000, 0)
    assert not (await desk.order(order)).refunded.amount_minor


async def test_what_the_bank_took_is_borne_also_when_it_is_seen_after_the_decision(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(**ASLEEP)
    desk.hear_webhooks()
    order = await paid_order(desk, 100_000)
    (payment,) = await desk.rows("SELECT id FROM payment")
    disputing = Disputing(desk.database, Refunding(desk.database, None, None))  # type: ignore[arg-type] # asks no rail
    await disputing.apply(payment.id, SeenDispute("dp_1", "lost", euros(100_000), "fraudulent"))
    assert (await balances(desk, "platform"))[f"{COOP}:pending"] == 95_000, "nothing is known to be gone"
    moved = Moved("txn_1", "EUR", 100_000, 1_500, back=False)
    for _ in range(2):
        await disputing.apply(payment.id, SeenDispute("dp_1", "lost", euros(100_000), "fraudulent", (moved,)))
    market = await balances(desk, "platform")
    assert market[f"{COOP}:pending"] == market["dispute:held"] == market["fx"] == market["fee_revenue"] == 0
    assert market["dispute_losses"] == 1_500
    assert (await desk.order(order)).refunded == order.amount
    assert (await desk.told(order)).count("DisputeClosed") == 1
    assert await desk.flaws() == []


async def test_a_dispute_in_another_currency_is_borne_by_what_the_order_has_left(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(**ASLEEP)
    desk.hear_webhooks()
    order = await paid_order(desk, 100_000)
    (payment,) = await desk.rows("SELECT id FROM payment")
    disputing = Disputing(desk.database, Refunding(desk.database, None, None))  # type: ignore[arg-type] # asks no rail
    moved = Moved("txn_1", "EUR", 101_000, 0, back=False)
    yen = Money(amount_minor=160, currency="JPY")
    await disputing.apply(payment.id, SeenDispute("dp_1", "lost", yen, "fraudulent", (moved,)))
    market = await balances(desk, "platform")
    assert (market[f"{COOP}:pending"], market["fx"], market["dispute:held"]) == (0, 1_000, 0)
    assert (await desk.order(order)).refunded == order.amount


def test_suspense_is_empty_when_an_exchanged_charge_went_back_at_another_rate() -> None:
    moved = Movement(STRIPE, "txn_2", euros(10_300))
    (journal,) = postings.unexpected_charge_returned("re_1", euros(10_000), moved, now())
    assert journal.lines == lines(("suspense", 10_000), ("stripe:available", -10_300), ("fx", 300))


async def test_a_row_that_no_database_takes_keeps_nobody_waiting(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    done = []

    async def act(thing: str) -> None:
        if thing == "poisoned":
            async with desk.database.begin() as connection:
                await connection.execute(sa.text("INSERT INTO share (id) VALUES (NULL)"))
        done.append(thing)

    with caplog.at_level(logging.ERROR):
        await each(["poisoned", "sound"], act)
    assert done == ["sound"] and "poisoned failed" in caplog.text


async def test_an_order_that_cannot_be_closed_yet_stands_in_nobodys_way(
    closed_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = closed_desk
    monkeypatch.setattr("billing.keeper.BATCH", 1)
    await desk.start(order_ttl_seconds=2)
    stuck = await desk.agree()
    payment = await desk.pay(stuck)
    desk.simulator.faults.add("500", count=10_000, match=f"/v1/payment_intents/{payment.payment_intent}")
    later = await desk.agree()
    await desk.becomes(later, orders.ORDER_STATE_CANCELED)
    assert (await desk.order(stuck)).state == orders.ORDER_STATE_OPEN


async def test_what_others_paid_is_not_asked_back_and_stands_in_nobodys_way(purse: Purse) -> None:
    await purse.start()
    purse.hear_webhooks()
    desk = purse.desk
    await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    first = await released(desk, await paid_order(desk, 100_000))
    await purse.one_payout(pb.PAYOUT_STATE_PAID)
    # Sent on to the cooperative's bank, so what goes back of the first is owed, and netted from the second.
    desk.simulator.advance(10 * 86400)
    await until(lambda: balances(desk, COOP), lambda book: (book["bank"], book["stripe_connect"]) == (95_000, 0))
    await refund(desk, first)
    await until(lambda: desk.rows("SELECT 1 FROM reversal WHERE state = 3"), bool)
    second = await released(desk, await paid_order(desk, 100_000))
    await purse.becomes(lambda one: one.owed_minor == 0 and one.available_minor == 0)
    async with desk.database.read() as connection:
        assert await store.releases.oversent(connection, now() + dt.timedelta(days=1), 10) == []
    # What comes now is the second's, as far as it can still give.
    await released(desk, await paid_order(desk, 100_000))
    await until(lambda: purse.payouts(pb.PAYOUT_STATE_PAID), lambda found: len(found) == 2)
    asked = await desk.rows("SELECT 1 FROM reversal")
    await refund(desk, second)
    await purse.becomes(lambda one: one.owed_minor == 0)
    after = await desk.rows("SELECT state, amount_minor FROM reversal ORDER BY id DESC")
    assert len(after) == len(asked) + 1, "the first is not asked for again beside it"
    assert (after[0].state, after[0].amount_minor) == (2, 95_000)
    assert await desk.flaws() == []


async def test_a_transfer_that_is_asked_for_otherwise_than_before_is_not_taken_for_refused(purse: Purse) -> None:
    await purse.start()
    purse.hear_webhooks()
    desk = purse.desk
    await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    desk.simulator.faults.add("lose_response_after_commit", count=6, match="/v1/transfers")
    order = await released(desk, await paid_order(desk, 100_000))
    await until(lambda: desk.stripe.stripe.v1.transfers.list_async(), lambda found: len(found.data) == 1)

    async def becomes_of(group: str) -> None:
        """As if another version of ours named its transfers by something else."""
        async with desk.database.begin() as connection:
            await connection.execute(sa.text("UPDATE transfer SET order_id = :group"), {"group": group})

    await becomes_of("another")
    await asyncio.sleep(1.5)
    (row,) = await desk.rows("SELECT state, attempt FROM transfer")
    assert (row.state, row.attempt) == (1, 1), "nobody knows yet, so nothing is sent under another key"
    await becomes_of(id_of(order))
    await purse.one_payout(pb.PAYOUT_STATE_PAID)
    assert len((await desk.stripe.stripe.v1.transfers.list_async()).data) == 1
    assert await desk.flaws() == []


async def test_an_account_that_is_gone_ends_no_comparison(purse: Purse, caplog: pytest.LogCaptureFixture) -> None:
    await purse.start()
    purse.hear_webhooks()
    await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    async with purse.desk.database.begin() as connection:
        await connection.exec_driver_sql("UPDATE payout_account SET stripe_account = 'acct_gone'")
    assert (await purse.reconcile()).open_break_count == 0
    assert "payouts of cooperatives/valley-health/payoutAccount cannot be seen" in caplog.text


async def test_a_license_that_is_never_used_keeps_nothing_from_the_cooperative_for_ever(purse: Purse) -> None:
    await purse.start(hold_seconds=0, delivery_deadline_seconds=1.5)
    purse.hear_webhooks()
    await paid_order(purse.desk, 100_000)
    (share,) = await purse.shares()
    assert (share.state, share.hold_reason) == (pb.SHARE_STATE_HELD, "NOT_DELIVERED")
    (share,) = await until(purse.shares, lambda found: found[0].state == pb.SHARE_STATE_RELEASED)
    waited = share.release_time.ToDatetime() - share.hold_time.ToDatetime()
    assert waited >= dt.timedelta(seconds=1.5)
    (row,) = await purse.desk.rows("SELECT deliver_time FROM share")
    assert row.deliver_time is None, "nothing was delivered, and nobody says it was"
