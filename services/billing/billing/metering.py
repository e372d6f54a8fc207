"""Use that was told: counted once, in its period, with the buyer warned and access held at the cap.

Knows no event; what feeds a meter is said in events.py. Each function is part of the caller's transaction and locks the
subscription, so that the uses of one license are counted one after the other.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import standing, store
from billing.domain import usage
from billing.domain.pricing import WARN_AT, lower, text_of
from billing.domain.standing import Cause
from billing.domain.subscriptions import Subscription
from billing.domain.usage import Tally
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale.type.v1.pricing_pb2 import Meter
from rochdale_kit.outbox import announce


async def record(
    connection: AsyncConnection,
    event_id: str,
    license: str,
    meter: Meter.ValueType,
    quantity: Decimal,
    record_time: dt.datetime,
    now: dt.datetime,
) -> None:
    """Counts a use of `quantity` units. The same event again, and what no plan prices, changes nothing.

    A use belongs to the period in which it was, however late it is told: one whose order is made already stands on the
    next order, named as late.
    """
    if quantity <= 0:
        return
    subscription = await store.subscriptions.lock(connection, license)
    if subscription is None or not subscription.begun:
        return
    price = subscription.plan.price_of(meter)
    if price is None or await store.usage.known(connection, event_id, meter):
        return
    period = subscription.period_at(record_time)
    tally = await store.usage.tally(connection, license, meter, period)
    cap = lower(price.cap, (await store.usage.budgets(connection, license)).get(meter))
    cut_off = subscription.ended_time is not None and record_time >= subscription.ended_time
    cut_off = cut_off or not await store.standings.good_at(connection, license, record_time)
    counted = usage.count(tally, quantity, cap, cut_off, now)
    await store.usage.insert(connection, event_id, counted, quantity, record_time, now)
    await store.usage.save_tally(connection, counted.tally)
    if period.index != subscription.period_index or subscription.ended:
        return
    if counted.warned:
        await _warn(connection, counted.tally, cap)
    if counted.reached:
        await standing.add(connection, license, Cause.CAP_REACHED, now)


async def set_cap(
    connection: AsyncConnection,
    subscription: Subscription,
    meter: Meter.ValueType,
    budget: Decimal | None,
    now: dt.datetime,
) -> None:
    """Sets the buyer's own cap, which holds access at once or sets it free. The caller holds the subscription's lock."""
    await store.usage.set_budget(connection, subscription.license, meter, budget)
    price = subscription.plan.price_of(meter)
    assert price is not None, "a budget is for a meter of the plan"
    cap = lower(price.cap, budget)
    tally = await store.usage.tally(connection, subscription.license, meter, subscription.period)
    reached = cap is not None and tally.used >= cap
    warned = cap is not None and tally.warn_time is None and tally.used >= cap * WARN_AT
    after = replace(
        tally,
        reach_time=(tally.reach_time or now) if reached else None,
        warn_time=now if warned else tally.warn_time,
    )
    if after != tally:
        await store.usage.save_tally(connection, after)
    if warned:
        await _warn(connection, after, cap)
    await settle_caps(connection, subscription, now)


async def settle_caps(connection: AsyncConnection, subscription: Subscription, now: dt.datetime) -> None:
    """Holds access while a cap of the current period is reached, and frees it when none is, as when a period begins. The
    caller holds the subscription's lock."""
    if not subscription.plan.metered:
        return
    start = subscription.period.start
    tallies = await store.usage.tallies(connection, subscription.license)
    if any(tally.period_start == start and tally.reach_time is not None for tally in tallies):
        await standing.add(connection, subscription.license, Cause.CAP_REACHED, now)
    else:
        await standing.remove(connection, subscription.license, Cause.CAP_REACHED, now)


async def shown(connection: AsyncConnection, subscription: Subscription) -> list[pb.MeterUsage]:
    """Every meter of the plan in the current period, as the contract shows it."""
    license, period = subscription.license, subscription.period
    budgets = await store.usage.budgets(connection, license)
    return [
        usage.resource(
            price,
            await store.usage.tally(connection, license, price.meter, period),
            budgets.get(price.meter),
            subscription.price.currency,
        )
        for price in subscription.plan.metered
    ]


async def _warn(connection: AsyncConnection, tally: Tally, cap: Decimal | None) -> None:
    assert cap is not None, "without a cap nobody is warned"
    await announce(
        connection,
        events_pb2.UsageWarned(license=tally.license, meter=tally.meter, used=text_of(tally.used), cap=text_of(cap)),
    )
