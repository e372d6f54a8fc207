"""Subscriptions: licenses paid again each period. When a period follows, and what happens while its order is unpaid."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.domain.pricing import Calendar, Period, Plan, plan_of, text_of
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import pricing_pb2 as pricing
from rochdale.type.v1.money_pb2 import Money
from rochdale.type.v1.scope_pb2 import BuyerCategory
from rochdale_kit.clock import to_timestamp
from rochdale_kit.money import round_half_up
from rochdale_kit.refusals import Kind, Refusal

# Why one ended: the buyer's wish, money that never came, or its license's end.
CANCELED = "CANCELED"
NOT_PAID = "NOT_PAID"
LICENSE_ENDED = "LICENSE_ENDED"


class Stage(enum.IntEnum):
    """How far an unpaid order of a subscription has come."""

    DUE = 1
    OVERDUE = 2
    GRACE_OVER = 3
    # Paid, or closed: nothing happens to it any more.
    OVER = 4


@dataclass(frozen=True)
class Dunning:
    """What is done about an order that stays unpaid, in days since it was due. Charged at once, then after each of
    retry_days; after grace_days access is suspended, after terminate_days the subscription ends."""

    retry_days: tuple[float, ...] = (1, 3, 5, 7)
    grace_days: float = 14
    terminate_days: float = 30


@dataclass(frozen=True)
class Due:
    """An order of a period, until it is paid or closed.

    tries: how often it was to be charged so far. remind: whether the buyer is to be told, because a charge failed or the
    bank asks for them.
    """

    order_id: str
    license: str
    kind: pb.OrderKind.ValueType
    due_time: dt.datetime
    stage: Stage = Stage.DUE
    tries: int = 0
    reminders: int = 0
    remind: bool = False
    next_time: dt.datetime | None = None

    @property
    def order(self) -> str:
        return f"orders/{self.order_id}"


@dataclass(frozen=True)
class Verdict:
    """What is to be done about a due order now. `charge`: one more try, which with no saved method is a reminder."""

    due: Due
    charge: bool = False
    suspend: bool = False
    terminate: bool = False


def dun(due: Due, calendar: Calendar, rules: Dunning, now: dt.datetime) -> Verdict:
    """Where an unpaid order stands now. Asked again at the same time, it wants nothing more."""
    thresholds = [due.due_time + calendar.days(days) for days in (0, *rules.retry_days)]
    suspend_time = due.due_time + calendar.days(rules.grace_days)
    terminate_time = due.due_time + calendar.days(rules.terminate_days)
    if now >= terminate_time:
        return Verdict(replace(due, stage=Stage.OVER, next_time=None), terminate=True)
    # After an outage several tries are due at once; one will do.
    tries = sum(threshold <= now for threshold in thresholds)
    stage = due.stage
    if tries > 1:
        stage = max(stage, Stage.OVERDUE)
    if now >= suspend_time:
        stage = Stage.GRACE_OVER
    next_time = min(moment for moment in (*thresholds, suspend_time, terminate_time) if moment > now)
    after = replace(due, stage=stage, tries=max(tries, due.tries), next_time=next_time)
    return Verdict(
        after,
        charge=tries > due.tries,
        suspend=stage == Stage.GRACE_OVER and due.stage != Stage.GRACE_OVER,
    )


def state_of(dues: Iterable[Due]) -> pb.SubscriptionState.ValueType:
    """Where a subscription that has not ended stands, by its worst order."""
    worst = max((due.stage for due in dues if due.stage != Stage.OVER), default=Stage.DUE)
    return {
        Stage.DUE: pb.SUBSCRIPTION_STATE_ACTIVE,
        Stage.OVERDUE: pb.SUBSCRIPTION_STATE_PAST_DUE,
        Stage.GRACE_OVER: pb.SUBSCRIPTION_STATE_SUSPENDED,
    }[worst]


@dataclass(frozen=True)
class Subscription:
    """A subscription; before its first payment its state is UNSPECIFIED and it has no times.

    anchor_time: when its first period began. end_time: when its license ends, extended by what suspended it.
    calendar: under which it was agreed.
    """

    id: str
    license: str
    buyer: str
    seller: str
    category: BuyerCategory.ValueType
    terms_hash: str
    price: Money
    plan_proto: pricing.PricePlan
    plan: Plan
    duration: dt.timedelta
    calendar: Calendar
    traceparent: str | None
    state: pb.SubscriptionState.ValueType = pb.SUBSCRIPTION_STATE_UNSPECIFIED
    anchor_time: dt.datetime | None = None
    end_time: dt.datetime | None = None
    period_index: int = 0
    cancel_time: dt.datetime | None = None
    ended_time: dt.datetime | None = None
    end_reason: str = ""

    @property
    def name(self) -> str:
        return f"subscriptions/{self.id}"

    @property
    def begun(self) -> bool:
        return self.state != pb.SUBSCRIPTION_STATE_UNSPECIFIED

    @property
    def ended(self) -> bool:
        return self.state == pb.SUBSCRIPTION_STATE_ENDED

    @property
    def anchor(self) -> dt.datetime:
        assert self.anchor_time is not None, "asked of one that has begun"
        return self.anchor_time

    @property
    def term_end(self) -> dt.datetime:
        """When it was to end as agreed. What suspensions add to it is in no period's price."""
        return self.anchor + self.duration

    @property
    def period(self) -> Period:
        """The current period. The last one lasts until the license ends."""
        found = self.calendar.period(self.anchor, self.plan.interval, self.period_index, self.term_end)
        if found.end < self.term_end:
            return found
        return replace(found, end=max(self.term_end, self.end_time or self.term_end))

    @property
    def in_last_period(self) -> bool:
        return self.cancel_time is not None or self.period.end >= self.term_end

    def period_at(self, moment: dt.datetime) -> Period:
        """The period a moment falls into, for what was used."""
        if self.period.start <= moment < self.period.end:
            return self.period
        return self.calendar.containing(self.anchor, self.plan.interval, moment, self.term_end)

    def price_of_period(self, period: Period) -> tuple[int, str]:
        """What a period costs, and which part of a whole one it is, in words; empty for a whole one.

        A period that the term cuts short is paid by the second, rounded once, half up.
        """
        whole = self.calendar.period(self.anchor, self.plan.interval, period.index)
        until = min(period.end, self.term_end)
        if until >= whole.end:
            return self.price.amount_minor, ""
        part, all = ((end - whole.start) // dt.timedelta(microseconds=1) for end in (until, whole.end))
        # Wide enough that a half stays one, and nothing else becomes one.
        wide = decimal.Context(prec=60)
        share = wide.divide(Decimal(self.price.amount_minor * part), Decimal(all))
        days = Decimal((until - whole.start) / self.calendar.days(1)).quantize(Decimal("0.01"))
        return round_half_up(share), f"{text_of(days)} days of it, as the license ends then"


def subscription_of(
    license: licensing.License, id: str, day_seconds: float, traceparent: str | None
) -> Subscription | None:
    """What an agreed license makes due again; None when its price is due once. Refuses with TERMS_INVALID."""
    terms = license.terms
    plan = plan_of(terms.price_plan)
    if plan is None:
        return None
    return Subscription(
        id=id,
        license=license.name,
        buyer=terms.licensee.rsplit("/", 1)[-1],
        seller=terms.licensor.rsplit("/", 1)[-1],
        category=terms.category,
        terms_hash=license.terms_hash,
        price=terms.price,
        plan_proto=terms.price_plan,
        plan=plan,
        duration=dt.timedelta(seconds=terms.duration_seconds),
        calendar=Calendar(day_seconds),
        traceparent=traceparent,
    )


def begun(subscription: Subscription, now: dt.datetime) -> Subscription:
    """Its first order was paid: the first period begins."""
    return replace(
        subscription,
        state=pb.SUBSCRIPTION_STATE_ACTIVE,
        anchor_time=now,
        end_time=now + subscription.duration,
    )


def ended(subscription: Subscription, reason: str, at: dt.datetime) -> Subscription:
    return replace(subscription, state=pb.SUBSCRIPTION_STATE_ENDED, ended_time=at, end_reason=reason)


def check_not_ended(subscription: Subscription) -> None:
    """Refuses with SUBSCRIPTION_ENDED."""
    if subscription.ended:
        at = (subscription.ended_time or subscription.anchor).isoformat(timespec="seconds")
        raise Refusal(
            "SUBSCRIPTION_ENDED",
            f"The subscription of {subscription.license} ended at {at}.",
            Kind.STATE,
            license=subscription.license,
            end_time=at,
            end_reason=subscription.end_reason,
        )


def resource(
    subscription: Subscription, dues: Iterable[Due], usage: Iterable[pb.MeterUsage], rules: Dunning
) -> pb.Subscription:
    """As the contract shows it."""
    period = subscription.period
    overdue = min(
        (due for due in dues if due.stage in (Stage.OVERDUE, Stage.GRACE_OVER)),
        key=lambda due: due.due_time,
        default=None,
    )
    shown = pb.Subscription(
        name=subscription.name,
        license=subscription.license,
        state=subscription.state,
        period_start_time=to_timestamp(period.start),
        period_end_time=to_timestamp(subscription.ended_time or period.end),
        cancel_at_period_end=subscription.cancel_time is not None,
        price=subscription.price,
        plan=subscription.plan_proto,
        usage=usage,
    )
    if overdue is not None:
        shown.overdue_order = overdue.order
        days = subscription.calendar.days
        if not subscription.ended:
            if overdue.stage == Stage.OVERDUE:
                shown.suspend_time.CopyFrom(to_timestamp(overdue.due_time + days(rules.grace_days)))
            shown.terminate_time.CopyFrom(to_timestamp(overdue.due_time + days(rules.terminate_days)))
    return shown
