"""A license paid again each month: by what the buyer saved, by hand, late, or never."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from billing_desk import CHECKOUT, Desk, until
from house import refused
from subscription_desk import (
    ASKS_EACH_TIME,
    DECLINED_LATER,
    PERIOD,
    USAGE,
    Club,
    days,
    end_of,
    per_gigabyte,
    start_of,
)

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import pricing_pb2 as pricing
from rochdale_kit.clock import to_timestamp

ACTIVE, PAST_DUE = pb.SUBSCRIPTION_STATE_ACTIVE, pb.SUBSCRIPTION_STATE_PAST_DUE
SUSPENDED, ENDED = pb.SUBSCRIPTION_STATE_SUSPENDED, pb.SUBSCRIPTION_STATE_ENDED
SAVED = pb.PAYMENT_METHOD_SAVED


@pytest.fixture
async def club(desk: Desk) -> AsyncIterator[Club]:
    async with AsyncExitStack() as stack:
        yield Club(desk, stack)


async def test_the_first_payment_begins_the_first_period(club: Club) -> None:
    license = club.desk.license(10_000)
    license.terms.price_plan.interval = pricing.BILLING_INTERVAL_YEAR
    async with refused("NOT_FOUND"):
        await club.of(license.name)
    subscription = await club.subscribe(10_000)
    [order] = await club.orders(subscription.license)
    assert (subscription.state, subscription.price.amount_minor) == (ACTIVE, 10_000)
    assert order.period_start_time == subscription.period_start_time
    assert order.period_end_time == subscription.period_end_time
    assert days(28) <= end_of(subscription) - start_of(subscription) <= days(31)
    assert (await club.of(subscription.license, club.steward)).name == subscription.name
    async with refused("NOT_FOUND"):
        await club.of(subscription.license, club.rival)
    # Before the period ends, nothing happens.
    await club.step(end_of(subscription) - dt.timedelta(seconds=1))
    assert len(await club.orders(subscription.license)) == 1


async def test_each_period_is_charged_once_however_many_renew(club: Club) -> None:
    saved = await club.save_card()
    assert (saved.type, saved.label) == ("card", "visa ending in 4242") and len(saved.expire_month) == 7
    subscription = await club.subscribe(10_000)
    for month in range(1, 4):
        before = await club.of(subscription)
        await club.step(end_of(before), replicas=3)
        await club.step(end_of(before))
        orders = await club.orders(subscription.license, PERIOD)
        assert len(orders) == month
        paid = await club.wait_paid(orders[-1])
        assert paid.period_start_time == before.period_end_time
        [payment] = await club.payments(paid)
        assert (payment.method, payment.state) == (SAVED, pb.PAYMENT_STATE_SUCCEEDED)
    assert club.desk.charges == {"succeeded": 3}
    assert (await club.of(subscription)).state == ACTIVE
    assert await club.standings(subscription.license) == []
    assert await club.desk.flaws() == []


async def test_without_a_saved_method_the_buyer_is_told_and_pays_by_hand(club: Club) -> None:
    subscription = await club.subscribe()
    at = end_of(subscription)
    await club.step(at)
    [order] = await club.orders(subscription.license, PERIOD)
    [reminder] = await club.reminders(subscription.license, 1)
    assert reminder.order.name == order.name and reminder.reminder == 1
    assert reminder.suspend_time == to_timestamp(at + days(14))
    await club.step(at + days(1))
    late = await club.of(subscription)
    assert (late.state, late.overdue_order) == (PAST_DUE, order.name)
    assert late.terminate_time == to_timestamp(at + days(30))
    await club.pay(order)
    assert (await club.of(subscription)).state == ACTIVE
    await club.step(at + days(14))
    assert await club.standings(subscription.license) == []
    assert len(await club.reminders(subscription.license, 2)) == 2


async def test_an_open_hosted_page_and_an_automatic_charge_pay_once(club: Club) -> None:
    subscription = await club.subscribe()
    at = end_of(subscription)
    await club.step(at)
    [order] = await club.orders(subscription.license, PERIOD)
    page = await club.desk.pay(order, CHECKOUT)
    await club.save_card()
    await club.step(at + days(1))
    await club.wait_paid(order)
    assert (await club.desk.post(page)).status_code == 410
    assert [payment.method for payment in await club.payments(order)] == [CHECKOUT, SAVED]
    assert club.desk.charges == {"succeeded": 1}


async def test_a_page_that_was_paid_first_is_not_charged_again(club: Club) -> None:
    subscription = await club.subscribe()
    at = end_of(subscription)
    await club.step(at)
    [order] = await club.orders(subscription.license, PERIOD)
    await club.save_card()
    page = await club.desk.pay(order, CHECKOUT)
    club.desk.simulator.faults.add("webhook_drop", count=20)
    assert (await club.desk.post(page)).status_code == 303
    await club.step(at + days(1))
    await club.wait_paid(order)
    assert club.desk.charges == {"succeeded": 1}


async def test_a_bank_that_asks_for_the_absent_buyer_is_answered_by_them(club: Club) -> None:
    await club.save_card(ASKS_EACH_TIME)
    subscription = await club.subscribe()
    at = end_of(subscription)
    await club.step(at)
    [order] = await club.orders(subscription.license, PERIOD)
    [payment] = await until(lambda: club.payments(order), lambda found: bool(found) and found[0].action_required)
    assert payment.state == pb.PAYMENT_STATE_PENDING and payment.client_secret
    assert not (await club.desk.payment(payment, club.steward)).client_secret
    [reminder] = await club.reminders(subscription.license, 1)
    assert reminder.order.name == order.name
    # A day later the bank would say the same; the buyer is told once more, and nothing is charged.
    await club.step(at + days(1))
    await club.reminders(subscription.license, 2)
    assert len(await club.payments(order)) == 1
    # What the buyer's own page does with the secret: the same card, this time with its holder.
    asked_about = await club.desk.stripe.intents.retrieve_async(payment.payment_intent)
    confirmed = await club.desk.stripe.intents.confirm_async(
        payment.payment_intent,
        {
            "payment_method": asked_about.last_payment_error.payment_method.id,
            "return_url": "https://shop.example/back",
        },
    )
    asked = confirmed.next_action.redirect_to_url.url
    await club.desk.stripe.browser.post(asked, data={"answer": "complete"})
    await club.wait_paid(order)
    assert (await club.of(subscription)).state == ACTIVE
    [paid] = await club.payments(order)
    assert not paid.action_required and not paid.client_secret


async def test_a_declined_charge_is_tried_again_then_access_waits_and_late_money_frees_it(club: Club) -> None:
    await club.save_card(DECLINED_LATER)
    subscription = await club.subscribe()
    at = end_of(subscription)
    for tries, day in enumerate((0, 1, 3, 5, 7), start=1):
        await club.step(at + days(day), replicas=2)
        [order] = await club.orders(subscription.license, PERIOD)
        found = await club.payments(order)
        assert [payment.state for payment in found] == [pb.PAYMENT_STATE_FAILED] * tries
        assert found[-1].failure_code == "card_declined"
        # Between the days, nothing is tried.
        await club.step(at + days(day + 0.9))
        assert len(await club.payments(order)) == tries
        await club.reminders(subscription.license, tries)
    assert (await club.of(subscription)).state == PAST_DUE
    assert await club.standings(subscription.license) == []
    await club.step(at + days(14))
    assert (await club.of(subscription)).state == SUSPENDED
    assert await club.standings(subscription.license) == [("HELD", "PAST_DUE")]
    await club.pay(order)
    assert (await club.of(subscription)).state == ACTIVE
    assert await club.standings(subscription.license) == [("HELD", "PAST_DUE"), ("GOOD", "")]
    await club.step(at + days(15))
    assert len(await club.orders(subscription.license, PERIOD)) == 1
    assert await club.desk.flaws() == []


async def test_what_is_never_paid_ends_and_use_after_the_cut_off_is_not_billed(club: Club) -> None:
    subscription = await club.subscribe(10_000, per_gigabyte("100"))
    license, at = subscription.license, end_of(subscription)
    await club.step(at)
    [order] = await club.orders(license, PERIOD)
    await club.use(license, 2, at + days(2))
    await club.step(at + days(14))
    await club.use(license, 5, at + days(15))
    # While it is suspended no new period begins.
    await club.step(at + days(29.9))
    assert len(await club.orders(license, PERIOD)) == 1
    await club.step(at + days(30))
    assert (await club.of(license)).state == ENDED
    assert await club.standings(license) == [("HELD", "PAST_DUE"), ("ENDED", "NOT_PAID")]
    assert (await club.desk.order(order)).state == pb.ORDER_STATE_CANCELED
    await club.use(license, 7, at + days(31))
    await club.step(at + days(32))
    [used] = await club.orders(license, USAGE)
    assert used.amount.amount_minor == 200
    rows = await club.desk.rows('SELECT quantity, billable, reason FROM "use" ORDER BY record_time')
    assert [(int(row.quantity), int(row.billable), row.reason) for row in rows] == [
        (2, 2, ""),
        (5, 0, "CUT_OFF"),
        (7, 0, "CUT_OFF"),
    ]
    await club.step(at + days(400))
    assert len(await club.orders(license)) == 3
    async with refused("SUBSCRIPTION_ENDED", end_reason="NOT_PAID"):
        await club.cancel(license)


async def test_a_canceled_subscription_ends_with_its_period_and_bills_its_use(club: Club) -> None:
    subscription = await club.subscribe(10_000, per_gigabyte("100"))
    license, at = subscription.license, end_of(subscription)
    await club.use(license, 3, at - days(1))
    assert (await club.cancel(license)).cancel_at_period_end
    assert (await club.of(license)).state == ACTIVE
    await club.step(at - days(1))
    assert await club.standings(license) == []
    await club.step(at)
    assert (await club.of(license)).state == ENDED
    assert await club.standings(license) == [("ENDED", "CANCELED")]
    await club.step(at + days(1))
    assert await club.orders(license, PERIOD) == []
    [used] = await club.orders(license, USAGE)
    assert used.amount.amount_minor == 300


async def test_the_last_period_is_paid_by_the_day_and_the_license_ends_as_agreed(club: Club) -> None:
    first = await club.subscribe(31_000, duration_seconds=86_400)
    assert end_of(first) - start_of(first) == days(1)
    subscription = await club.subscribe(31_000, duration_seconds=45 * 86_400)
    await club.step(end_of(subscription))
    [order] = await club.orders(subscription.license, PERIOD)
    part = (45 * 86_400) - (end_of(subscription) - start_of(subscription)).total_seconds()
    current = await club.of(subscription)
    assert (end_of(current) - start_of(current)).total_seconds() == part
    assert 31_000 * part / (31 * 86_400) - 1 <= order.amount.amount_minor <= 31_000 * part / (28 * 86_400) + 1
    assert "days of it" in order.lines[0].description
    await club.pay(order)
    await club.step(end_of(current) + days(1))
    assert (await club.of(subscription)).state == ENDED
    assert await club.standings(subscription.license) == []


async def test_a_suspension_by_licensing_makes_the_last_period_longer_at_no_price(club: Club) -> None:
    subscription = await club.subscribe(duration_seconds=28 * 86_400)
    later = end_of(subscription) + days(9)
    license = licensing.License(name=subscription.license, end_time=to_timestamp(later))
    await club.desk.tell(licensing_events.LicenseResumed(license=license))
    await until(lambda: club.of(subscription), lambda now: end_of(now) == later)
    await club.step(end_of(subscription))
    assert (await club.of(subscription)).state == ACTIVE
    await club.step(later)
    assert (await club.of(subscription)).state == ENDED
    assert len(await club.orders(subscription.license)) == 1


async def test_a_license_that_ends_early_takes_its_subscription_along(club: Club) -> None:
    subscription = await club.subscribe()
    await club.step(end_of(subscription))
    [first, order] = await club.orders(subscription.license)
    await club.desk.terminate(first)
    await club.desk.becomes(order, pb.ORDER_STATE_CANCELED)
    assert (await club.of(subscription)).state == ENDED
    await club.step(end_of(subscription) + days(60))
    assert await club.standings(subscription.license) == []
    assert len(await club.orders(subscription.license)) == 2


async def test_an_answer_lost_after_the_charge_makes_no_second_one(club: Club) -> None:
    await club.save_card()
    subscription = await club.subscribe()
    # The library's own second try is lost as well.
    club.desk.simulator.faults.add("lose_response_after_commit", count=2, match="/v1/payment_intents")
    await club.step(end_of(subscription))
    [order] = await club.orders(subscription.license, PERIOD)
    await club.wait_paid(order)
    await club.step(end_of(subscription) + days(1))
    assert club.desk.charges == {"succeeded": 1}
    assert len(await club.payments(order)) == 1


async def test_the_service_renews_by_itself_and_days_may_be_short(closed_desk: Desk) -> None:
    await closed_desk.start(day_seconds=0.1, round_seconds=0.05, use_wait_seconds=0)
    closed_desk.hear_webhooks()
    async with AsyncExitStack() as stack:
        club = Club(closed_desk, stack)
        await club.save_card()
        subscription = await club.subscribe(10_000)
        assert end_of(subscription) - start_of(subscription) == dt.timedelta(seconds=3)

        async def paid() -> list[pb.Order]:
            orders = await club.orders(subscription.license, PERIOD)
            return [order for order in orders if order.state == pb.ORDER_STATE_PAID]

        two = (await until(paid, lambda orders: len(orders) >= 2))[:2]
        assert two[0].period_end_time == two[1].period_start_time
        assert (await club.cancel(subscription.license)).cancel_at_period_end
        await until(lambda: club.of(subscription), lambda now: now.state == ENDED)


async def test_a_replica_that_dies_before_it_charges_is_finished_by_another(closed_desk: Desk) -> None:
    await closed_desk.start(recover_age_seconds=0.2)
    closed_desk.hear_webhooks()
    async with AsyncExitStack() as stack:
        club = Club(closed_desk, stack)
        await club.save_card()
        subscription = await club.subscribe()
        # It wrote the attempt down, and Stripe never heard of it.
        await club.replica("http://127.0.0.1:9").step(end_of(subscription))
        [order] = await club.orders(subscription.license, PERIOD)
        assert len(await club.payments(order)) == 1
        await club.wait_paid(order)
        assert len(await club.payments(order)) == 1
        assert closed_desk.charges == {"succeeded": 1}


async def test_a_charge_whose_key_stripe_forgot_is_looked_for_and_not_made_again(closed_desk: Desk) -> None:
    await closed_desk.start(recover_age_seconds=3600)
    closed_desk.hear_webhooks()
    async with AsyncExitStack() as stack:
        club = Club(closed_desk, stack)
        await club.save_card()
        subscription = await club.subscribe()
        closed_desk.simulator.faults.add("lose_response_after_commit", count=2, match="/v1/payment_intents")
        closed_desk.simulator.faults.add("webhook_drop", count=50)
        await club.step(end_of(subscription))
        [order] = await club.orders(subscription.license, PERIOD)
        [payment] = await club.payments(order)
        assert payment.state == pb.PAYMENT_STATE_UNKNOWN
        closed_desk.simulator.advance(90_000)
        async with closed_desk.database.begin() as connection:
            await connection.exec_driver_sql(
                "UPDATE payment SET create_time = create_time - interval '25 hours', ask_time = ask_time - interval '25 hours'"
            )
        await club.wait_paid(order)
        assert closed_desk.charges == {"succeeded": 1}
        assert len(await club.payments(order)) == 1
