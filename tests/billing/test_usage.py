"""What is used is counted once, billed in its time, and stops at its cap."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from decimal import Decimal

import pytest
from billing_desk import Desk, until
from house import refused
from hypothesis import given
from hypothesis import strategies as st
from subscription_desk import USAGE, Club, days, end_of, per_gigabyte, start_of

from billing.domain.pricing import ZERO, MeteredPrice, Period, Plan
from billing.domain.usage import Tally, count, lines
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale.type.v1 import pricing_pb2 as pricing

MONTH, GIGABYTE = pricing.BILLING_INTERVAL_MONTH, pricing.METER_GIGABYTE
JANUARY, FEBRUARY = (dt.datetime(2027, month, 1, tzinfo=dt.UTC) for month in (1, 2))
MARCH = dt.datetime(2027, 3, 1, tzinfo=dt.UTC)
UNITS = st.decimals("0.000000001", 1000, allow_nan=False, allow_infinity=False, places=9)


@pytest.fixture
async def club(desk: Desk) -> AsyncIterator[Club]:
    async with AsyncExitStack() as stack:
        yield Club(desk, stack)


@given(st.lists(st.tuples(UNITS, st.none() | UNITS, st.booleans()), max_size=20))
def test_no_order_of_events_bills_more_than_was_used_or_capped(
    history: list[tuple[Decimal, Decimal | None, bool]],
) -> None:
    tally = Tally("licenses/lic_1", GIGABYTE, JANUARY, FEBRUARY)
    warned = reached = 0
    for quantity, cap, cut_off in history:
        counted = count(tally, quantity, cap, cut_off, JANUARY)
        assert counted.tally.used == tally.used + quantity
        assert ZERO <= counted.billable <= quantity
        assert counted.tally.billable == tally.billable + counted.billable
        # What was billable before a cap was lowered stays so; nothing more is added beyond it.
        assert cap is None or counted.tally.billable <= max(cap, tally.billable)
        assert (counted.reason == "") == (counted.billable == quantity and not cut_off)
        warned, reached = warned + counted.warned, reached + counted.reached
        tally = counted.tally
    assert warned <= 1 and reached <= 1


@given(st.lists(st.tuples(UNITS, st.booleans()), min_size=1, max_size=12), UNITS)
def test_every_unit_beyond_those_included_is_on_one_line(uses: list[tuple[Decimal, bool]], included: Decimal) -> None:
    """Uses of January are told in January or, late, after its order was made; both orders together say all of it."""
    price = MeteredPrice(GIGABYTE, Decimal("0.3"), included)
    plan = Plan(MONTH, (price,))
    tally = Tally("licenses/lic_1", GIGABYTE, JANUARY, FEBRUARY)
    said = ZERO
    for late in (False, True):
        for quantity, is_late in uses:
            if late == is_late:
                tally = count(tally, quantity, None, False, JANUARY).tally
        period = Period(1, FEBRUARY, MARCH) if late else Period(0, JANUARY, FEBRUARY)
        for line in lines(plan, [tally], period):
            assert line.late == late and line.units > 0
            said += line.units
            tally = replace(tally, billed=tally.billed + line.units)
    assert said == price.beyond_included(sum((quantity for quantity, _ in uses), ZERO))


async def test_use_beyond_what_is_included_is_billed_after_its_period_and_rounded_once(club: Club) -> None:
    subscription = await club.subscribe(10_000, per_gigabyte("33.35", included="1.5"))
    license, at = subscription.license, end_of(subscription)
    for gigabytes in (1, 0.25, 2.250000001):
        await club.use(license, gigabytes, start_of(subscription) + days(3))
    [usage] = (await club.of(license)).usage
    assert (usage.used, usage.included, usage.cap) == ("3.500000001", "1.5", "")
    assert usage.amount.amount_minor == 67
    await club.step(at)
    assert await club.orders(license, USAGE) == []
    await club.step(at + dt.timedelta(hours=1), replicas=2)
    [order] = await club.orders(license, USAGE)
    [line] = order.lines
    # 2.000000001 × 33.35 = 66.70000003335, rounded once.
    assert (line.quantity, line.unit_price, line.amount.amount_minor) == ("2.000000001", "33.35", 67)
    assert order.period_start_time == subscription.period_start_time
    [usage] = (await club.of(license)).usage
    assert (usage.used, usage.amount.amount_minor) == ("0", 0)


async def test_nothing_is_billed_for_use_within_what_is_included(club: Club) -> None:
    subscription = await club.subscribe(10_000, per_gigabyte("100", included="5"))
    await club.use(subscription.license, 5, start_of(subscription))
    await club.step(end_of(subscription) + days(1))
    assert await club.orders(subscription.license, USAGE) == []


async def test_late_duplicate_and_early_use_is_billed_once_and_no_order_is_rewritten(club: Club) -> None:
    subscription = await club.subscribe(10_000, per_gigabyte("100", included="1"))
    license, start, end = subscription.license, start_of(subscription), end_of(subscription)
    event = club.used(license, 3 * 10**9, start + days(2))
    for once in (True, False, False):
        await club.say(event, "evt_told_again_and_again", once)
    # One whose inbox entry is gone, as after a month, is still known by its id.
    await until(lambda: club.desk.rows("SELECT 1 FROM use"), bool)
    async with club.desk.database.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM inbox WHERE event_id = 'evt_told_again_and_again'")
    await club.say(event, "evt_told_again_and_again", once=False)
    await until(lambda: club.desk.rows("SELECT 1 FROM inbox WHERE event_id = 'evt_told_again_and_again'"), bool)
    # Of the next period, told before that has begun here; and of before the license, by a clock that is wrong.
    await club.use(license, 7, end + dt.timedelta(minutes=1))
    await club.use(license, 1, start - days(1))
    await club.step(end)
    await club.step(end + dt.timedelta(hours=1))
    [first] = await club.orders(license, USAGE)
    assert (first.lines[0].quantity, first.amount.amount_minor) == ("3", 300)
    # Too late for its own order.
    await club.use(license, 2, end - days(1))
    await club.step(end + days(1))
    [still] = await club.orders(license, USAGE)
    assert still.lines == first.lines and still.quote_hash == first.quote_hash
    second = await club.of(license)
    await club.step(end_of(second) + dt.timedelta(hours=1))
    [_, next] = await club.orders(license, USAGE)
    assert [(line.quantity, "later than its period" in line.description) for line in next.lines] == [
        ("2", True),
        ("6", False),
    ]
    assert next.amount.amount_minor == 800


async def test_a_runaway_buyer_is_warned_held_at_the_cap_and_never_billed_beyond_it(club: Club) -> None:
    subscription = await club.subscribe(10_000, per_gigabyte("10", cap="10"))
    license, start, end = subscription.license, start_of(subscription), end_of(subscription)
    await club.use(license, 7, start)
    assert await club.told(license, events_pb2.UsageWarned) == []
    await club.use(license, 1, start)
    [warned] = await club.told(license, events_pb2.UsageWarned)
    assert (warned.meter, warned.used, warned.cap) == (GIGABYTE, "8", "10")
    # What is under way when the cap is reached goes beyond it.
    await asyncio.gather(*(club.use(license, 3, start) for _ in range(4)))
    assert await club.standings(license) == [("HELD", "CAP_REACHED")]
    assert len(await club.told(license, events_pb2.UsageWarned)) == 1
    [usage] = (await club.of(license)).usage
    assert (usage.used, usage.amount.amount_minor) == ("20", 100)
    assert usage.HasField("warn_time") and usage.HasField("reach_time")
    await club.step(end)
    assert (await club.standings(license))[1:] == [("GOOD", "")]
    await club.step(end + dt.timedelta(hours=1))
    [order] = await club.orders(license, USAGE)
    assert order.amount.amount_minor == 100
    second = await club.of(license)
    await club.use(license, 10, end + days(1))
    assert (await club.standings(license))[2:] == [("HELD", "CAP_REACHED")]
    assert [event.used for event in await club.told(license, events_pb2.UsageWarned)] == ["8", "10"]
    await club.step(end_of(second) + dt.timedelta(hours=1))
    assert [order.amount.amount_minor for order in await club.orders(license, USAGE)] == [100, 100]


async def test_a_buyers_budget_holds_below_the_contracts_cap_and_a_higher_one_frees(club: Club) -> None:
    subscription = await club.subscribe(10_000, per_gigabyte("10", cap="100"))
    license, start = subscription.license, start_of(subscription)
    shown = await club.budget(license, "5")
    assert shown.usage[0].cap == "5"
    await club.use(license, 6, start)
    assert await club.standings(license) == [("HELD", "CAP_REACHED")]
    assert (await club.budget(license, "20")).usage[0].cap == "20"
    assert (await club.standings(license))[1:] == [("GOOD", "")]
    await club.use(license, 1, dt.datetime.now(dt.UTC))
    # Five of six, and the one after: what went beyond a budget is not billed once the budget is raised.
    assert (await club.of(license)).usage[0].amount.amount_minor == 60
    # A lower one takes nothing off what was used.
    await club.budget(license, "0.5")
    assert (await club.standings(license))[2:] == [("HELD", "CAP_REACHED")]
    assert (await club.of(license)).usage[0].amount.amount_minor == 60
    assert (await club.budget(license, "")).usage[0].cap == "100"
    assert (await club.standings(license))[3:] == [("GOOD", "")]
    async with refused("BUDGET_INVALID", contract_cap="100"):
        await club.budget(license, "100.1")
    async with refused("BUDGET_INVALID"):
        await club.budget(license, "0")
    async with refused("METER_UNKNOWN", meter="QUERY"):
        await club.budget(license, "5", pricing.METER_QUERY)
    async with refused("NOT_FOUND"):
        await club.budget("licenses/lic_01JAAAAAAAAAAAAAAAAAAAAAAA", "5")


async def test_what_is_too_little_for_a_card_waits_for_the_next_order(club: Club) -> None:
    subscription = await club.subscribe(10_000, per_gigabyte("10"))
    license, end = subscription.license, end_of(subscription)
    await club.use(license, 3, start_of(subscription))
    await club.step(end + dt.timedelta(hours=1))
    assert await club.orders(license, USAGE) == []
    second = await club.of(license)
    await club.use(license, 4, end + days(1))
    await club.step(end_of(second) + dt.timedelta(hours=1))
    [order] = await club.orders(license, USAGE)
    assert [line.amount.amount_minor for line in order.lines] == [30, 40]


async def test_use_without_a_price_is_free_and_kept_nowhere(club: Club) -> None:
    subscription = await club.subscribe(10_000)
    await club.use(subscription.license, 50, start_of(subscription))
    order = await club.desk.agree(5_000)
    await club.use(order.license, 50, dt.datetime.now(dt.UTC))
    assert await club.desk.rows("SELECT 1 FROM use") == []
    assert (await club.of(subscription)).state == pb.SUBSCRIPTION_STATE_ACTIVE
