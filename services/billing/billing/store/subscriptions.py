"""Subscriptions as rows, and the orders of theirs that are not paid yet."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.pricing import Calendar, plan_of
from billing.domain.subscriptions import Due, Stage, Subscription
from billing.store.subscription_tables import due_table, subscription_table
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale.type.v1.pricing_pb2 import PricePlan
from rochdale.type.v1.scope_pb2 import BuyerCategory

_table, _due = subscription_table.c, due_table.c
_SECOND = dt.timedelta(seconds=1)


def _subscription_of(row: Any) -> Subscription:
    proto = PricePlan.FromString(row.plan)
    plan = plan_of(proto)
    assert plan is not None, "only a plan with an interval is kept"
    return Subscription(
        id=row.id,
        license=row.license,
        buyer=row.buyer,
        seller=row.seller,
        category=BuyerCategory.ValueType(row.category),
        terms_hash=row.terms_hash,
        price=Money(amount_minor=row.price_minor, currency=row.currency),
        plan_proto=proto,
        plan=plan,
        duration=dt.timedelta(seconds=row.duration_seconds),
        calendar=Calendar(row.day_seconds),
        traceparent=row.traceparent,
        state=row.state,
        anchor_time=row.anchor_time,
        end_time=row.end_time,
        period_index=row.period_index,
        cancel_time=row.cancel_time,
        ended_time=row.ended_time,
        end_reason=row.end_reason,
    )


def _changing(subscription: Subscription) -> dict[str, object]:
    running = subscription.begun and not subscription.ended
    return {
        "state": subscription.state,
        "anchor_time": subscription.anchor_time,
        "end_time": subscription.end_time,
        "period_index": subscription.period_index,
        "next_time": subscription.period.end if running else None,
        "cancel_time": subscription.cancel_time,
        "ended_time": subscription.ended_time,
        "end_reason": subscription.end_reason,
    }


async def insert(connection: AsyncConnection, subscription: Subscription) -> bool:
    """Whether it is new: a license has one."""
    statement = (
        upsert(subscription_table)
        .values(
            id=subscription.id,
            license=subscription.license,
            buyer=subscription.buyer,
            seller=subscription.seller,
            category=subscription.category,
            terms_hash=subscription.terms_hash,
            price_minor=subscription.price.amount_minor,
            currency=subscription.price.currency,
            plan=subscription.plan_proto.SerializeToString(),
            duration_seconds=subscription.duration // _SECOND,
            day_seconds=subscription.calendar.day_seconds,
            traceparent=subscription.traceparent,
            **_changing(subscription),
        )
        .on_conflict_do_nothing(index_elements=["license"])
        .returning(_table.id)
    )
    return (await connection.execute(statement)).first() is not None


def _seen_by(organization: str | None) -> sa.ColumnElement[bool]:
    """As orders are: to buyer and cooperative; None, the market itself, sees all."""
    if organization is None:
        return sa.true()
    return sa.or_(_table.buyer == organization, _table.seller == organization)


async def get(connection: AsyncConnection, license: str, organization: str | None = None) -> Subscription | None:
    statement = sa.select(subscription_table).where(_table.license == license, _seen_by(organization))
    row = (await connection.execute(statement)).first()
    return _subscription_of(row) if row is not None else None


async def lock(connection: AsyncConnection, license: str) -> Subscription | None:
    """The subscription, held until the transaction ends. After its orders, before the license's standing."""
    statement = sa.select(subscription_table).where(_table.license == license).with_for_update()
    row = (await connection.execute(statement)).first()
    return _subscription_of(row) if row is not None else None


async def save(connection: AsyncConnection, subscription: Subscription) -> None:
    """What may change of it. The caller holds its lock."""
    await connection.execute(
        subscription_table.update().where(_table.license == subscription.license).values(**_changing(subscription))
    )


async def to_renew(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[str]:
    """Licenses whose current period is over. Of those that are suspended no period follows."""
    statement = (
        sa.select(_table.license)
        .where(_table.next_time <= now, _table.state != pb.SUBSCRIPTION_STATE_SUSPENDED)
        .order_by(_table.next_time)
        .limit(limit)
    )
    return list((await connection.execute(statement)).scalars())


def _due_of(row: Any) -> Due:
    return Due(
        order_id=row.order_id,
        license=row.license,
        kind=row.kind,
        due_time=row.due_time,
        stage=Stage(row.stage),
        tries=row.tries,
        reminders=row.reminders,
        remind=row.remind,
        next_time=row.next_time,
    )


async def insert_due(connection: AsyncConnection, due: Due) -> None:
    await connection.execute(
        due_table.insert().values(
            order_id=due.order_id,
            license=due.license,
            kind=due.kind,
            due_time=due.due_time,
            stage=due.stage,
            tries=due.tries,
            reminders=due.reminders,
            remind=due.remind,
            next_time=due.next_time,
        )
    )


async def save_due(connection: AsyncConnection, due: Due) -> None:
    """The caller holds its order's lock."""
    await connection.execute(
        due_table.update()
        .where(_due.order_id == due.order_id)
        .values(
            stage=due.stage,
            tries=due.tries,
            reminders=due.reminders,
            remind=due.remind,
            next_time=due.next_time,
        )
    )


async def want_reminder(connection: AsyncConnection, order_id: str, now: dt.datetime) -> None:
    """Has the buyer told about an order, if it is one of a period and not paid yet."""
    await connection.execute(
        due_table.update()
        .where(_due.order_id == order_id, _due.stage != Stage.OVER)
        .values(remind=True, next_time=sa.func.least(_due.next_time, now))
    )


async def due(connection: AsyncConnection, order_id: str) -> Due | None:
    row = (await connection.execute(sa.select(due_table).where(_due.order_id == order_id))).first()
    return _due_of(row) if row is not None else None


async def unpaid(connection: AsyncConnection, license: str) -> list[Due]:
    """Orders of a license's periods that are neither paid nor closed, oldest first."""
    statement = (
        sa.select(due_table)
        .where(_due.license == license, _due.stage != Stage.OVER)
        .order_by(_due.due_time, _due.order_id)
    )
    return [_due_of(row) for row in await connection.execute(statement)]


async def to_dun(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[str]:
    """Orders about which something is to be done by now."""
    statement = sa.select(_due.order_id).where(_due.next_time <= now).order_by(_due.next_time).limit(limit)
    return list((await connection.execute(statement)).scalars())
