"""What becomes of a subscription when others change: its license agreed, an order of it paid, a charge failed, its license
ended. Each is part of the caller's transaction. Periods that follow, and what is done about unpaid orders: renewing.py."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import standing, store
from billing.domain import subscriptions
from billing.domain.orders import Order
from billing.domain.payments import CANCELED, Payment
from billing.domain.standing import Cause
from billing.domain.subscriptions import Stage, Subscription, subscription_of
from billing.store.usage import UsePeriod
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale_kit.clock import new_id
from rochdale_kit.telemetry import traceparent


async def agreed(connection: AsyncConnection, license: licensing.License, day_seconds: float) -> None:
    """A license was agreed: if its price is due again, its subscription waits for the first payment. Again, nothing
    changes. Refuses with TERMS_INVALID."""
    subscription = subscription_of(license, new_id("sub"), day_seconds, traceparent())
    if subscription is not None:
        await store.subscriptions.insert(connection, subscription)


async def begin(connection: AsyncConnection, order: Order, now: dt.datetime) -> Order:
    """The order of a license is being paid: its subscription begins, if it has one. The order with its period."""
    if order.kind != pb.ORDER_KIND_LICENSE:
        return order
    subscription = await store.subscriptions.lock(connection, order.license)
    if subscription is None:
        return order
    if not subscription.begun:
        subscription = subscriptions.begun(subscription, now)
        await store.subscriptions.save(connection, subscription)
    first = subscription.calendar.period(subscription.anchor, subscription.plan.interval, 0, subscription.term_end)
    return replace(order, period_start_time=first.start, period_end_time=first.end)


async def over(connection: AsyncConnection, order: Order, now: dt.datetime) -> None:
    """An order was paid or closed. Of one of a period nothing more is demanded, and when it was paid late its license is
    in good standing again. The caller holds its lock, and has posted before, because standings are locked last."""
    due = await store.subscriptions.due(connection, order.id)
    if due is None or due.stage == Stage.OVER:
        return
    await store.subscriptions.save_due(connection, replace(due, stage=Stage.OVER, next_time=None, remind=False))
    subscription = await store.subscriptions.lock(connection, order.license)
    assert subscription is not None, "an order of a period has its subscription"
    await settle_state(connection, subscription, now)


async def settle_state(connection: AsyncConnection, subscription: Subscription, now: dt.datetime) -> None:
    """Where a subscription stands follows from its unpaid orders, and the license's standing from that. The caller holds
    its lock."""
    if subscription.ended:
        return
    state = subscriptions.state_of(await store.subscriptions.unpaid(connection, subscription.license))
    if state == subscription.state:
        return
    await store.subscriptions.save(connection, replace(subscription, state=state))
    if state == pb.SUBSCRIPTION_STATE_SUSPENDED:
        await standing.add(connection, subscription.license, Cause.PAST_DUE, now)
    elif subscription.state == pb.SUBSCRIPTION_STATE_SUSPENDED:
        await standing.remove(connection, subscription.license, Cause.PAST_DUE, now)


async def stuck(connection: AsyncConnection, before: Payment, after: Payment, now: dt.datetime) -> None:
    """A charge without the buyer failed, or their bank asks for them: they are told."""
    if after.method != pb.PAYMENT_METHOD_SAVED:
        return
    fails = before.live and after.state == pb.PAYMENT_STATE_FAILED and after.failure_code != CANCELED
    asks = after.action_required and not before.action_required
    if fails or asks:
        await store.subscriptions.want_reminder(connection, after.order_id, now)


async def license_ended(connection: AsyncConnection, license: str, use_wait: dt.timedelta, now: dt.datetime) -> bool:
    """A license ended, as agreed or early. Whether its subscription ends with it, and did not before."""
    subscription = await store.subscriptions.lock(connection, license)
    if subscription is None or subscription.ended or not subscription.begun:
        return False
    await end(connection, subscription, subscriptions.LICENSE_ENDED, use_wait, now)
    return True


async def lock_unpaid(connection: AsyncConnection, license: str) -> list[Order]:
    """The unpaid orders of a license's periods, locked in the order of their ids: before its subscription."""
    unpaid = await store.subscriptions.unpaid(connection, license)
    locked = [await store.orders.lock(connection, id) for id in sorted(due.order_id for due in unpaid)]
    return [order for order in locked if order is not None and order.state == pb.ORDER_STATE_OPEN]


async def extended(connection: AsyncConnection, license: str, end_time: dt.datetime) -> None:
    """A license was suspended for a while and ends later by as much; its last period lasts as long, at no price."""
    subscription = await store.subscriptions.lock(connection, license)
    if subscription is None or not subscription.begun or subscription.ended:
        return
    if subscription.end_time is None or end_time > subscription.end_time:
        await store.subscriptions.save(connection, replace(subscription, end_time=end_time))


async def end(
    connection: AsyncConnection,
    subscription: Subscription,
    reason: str,
    use_wait: dt.timedelta,
    at: dt.datetime,
) -> Subscription:
    """Ends a subscription at a time; what was used until then is still billed. The caller holds its lock."""
    period = replace(subscription.period, end=min(at, subscription.period.end))
    if subscription.plan.metered and period.start < period.end:
        await store.usage.over(connection, UsePeriod(subscription.license, period, period.end + use_wait))
    ended = subscriptions.ended(subscription, reason, at)
    await store.subscriptions.save(connection, ended)
    return ended
