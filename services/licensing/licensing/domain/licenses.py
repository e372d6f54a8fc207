"""What a license says and how it lives and ends."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from licensing.domain.deals import Deal
from rochdale.billing.v1 import billing_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import escapes, overlaps
from rochdale_kit.signing import canonical_hash

# An emergency of the board lapses after this long; no term is extended by more.
LONGEST_SUSPENSION = dt.timedelta(days=30)
MEMBER_RECALL = "MEMBER_RECALL"
BILLING = "billing/"
LIVE = (pb.LICENSE_STATE_AGREED, pb.LICENSE_STATE_ACTIVE, pb.LICENSE_STATE_SUSPENDED)


@dataclass(frozen=True)
class Standing:
    """What billing said last of a license: how often it has spoken, and why it holds the license; "" if it does not."""

    sequence: int
    held: str


def require_vacancy(deal: Deal, rule: governance_pb2.SharingRule, of_offering: int, of_rule: int) -> None:
    """Refuses one license more than the offering or the rule wants live at once with LICENSES_EXHAUSTED.

    of_offering, of_rule: how many are live now under each; 0 as a limit means none.
    """
    limits = (
        (deal.offering.name, deal.offering.scope.max_licenses, of_offering),
        (rule.name, rule.scope.max_licenses, of_rule),
    )
    for name, limit, live in limits:
        if limit and live >= limit:
            raise Refusal(
                "LICENSES_EXHAUSTED",
                f"All {limit} licenses of {name} are taken.",
                Kind.STATE,
                name=name,
                max_licenses=limit,
            )


def agreed(
    name: str, negotiation: str, licensee: str, deal: Deal, rule: governance_pb2.SharingRule, at: dt.datetime
) -> pb.License:
    """A license as it is signed: its terms never change again."""
    offering = deal.offering
    terms = pb.LicenseTerms(
        license=name,
        licensor=offering.name.partition("/offerings/")[0],
        licensee=licensee,
        category=deal.scope.categories[0],
        offering=offering.name,
        offering_hash=offering.offering_hash,
        sharing_rule=rule.name,
        rule_revision=rule.revision,
        rule_hash=rule.rule_hash,
        scope=deal.scope,
        duration_seconds=deal.scope.max_duration_seconds,
        price=deal.price,
        agree_time=to_timestamp(at),
        emergency_suspension=True,
        member_recall=rule.member_recall,
        price_plan=deal.plan,
    )
    return pb.License(
        name=name,
        terms=terms,
        terms_hash=canonical_hash(terms),
        state=pb.LICENSE_STATE_AGREED,
        negotiation=negotiation,
    )


def activated(before: pb.License, at: dt.datetime) -> pb.License:
    """In force from now, for as long as agreed."""
    after = _copy(before, pb.LICENSE_STATE_ACTIVE)
    after.activate_time.FromDatetime(at)
    after.end_time.FromDatetime(at + dt.timedelta(seconds=before.terms.duration_seconds))
    return after


def suspended(before: pb.License, cause: str, at: dt.datetime) -> pb.License:
    """Interrupted, or interrupted by something else from now on.

    cause: the name of an emergency, or held_by(reason). Time is counted anew where one kind of cause takes the other's
    place: what an emergency took is added to the term by then, and what billing holds never is. From one emergency to
    the next it runs on.
    """
    after = _copy(before, pb.LICENSE_STATE_SUSPENDED)
    after.suspended_by = cause
    if before.state != pb.LICENSE_STATE_SUSPENDED:
        after.suspension_count += 1
    if before.state != pb.LICENSE_STATE_SUSPENDED or is_held(before) != is_held(after):
        after.end_time.FromDatetime(end_of(before, at))
        after.suspend_time.FromDatetime(at)
    return after


def resumed(before: pb.License, at: dt.datetime) -> pb.License:
    """In force again, its term longer by as long as an emergency interrupted it."""
    after = _copy(before, pb.LICENSE_STATE_ACTIVE)
    after.end_time.FromDatetime(end_of(before, at))
    return _no_longer_suspended(after)


def held_by(reason: str) -> str:
    """The cause of a suspension for money, as billing gave it."""
    return f"{BILLING}{reason}"


def is_held(license: pb.License) -> bool:
    """Whether money, and nothing else, suspends a license."""
    return license.suspended_by.startswith(BILLING)


def end_of(license: pb.License, at: dt.datetime) -> dt.datetime:
    """When a license ends: as it says, or if an emergency suspends it, as it would if it were resumed now.

    Nobody's term grows because they did not pay, used all they had bought, or took a payment back: it would be a way to
    buy less and have it for longer.
    """
    end = from_timestamp(license.end_time)
    if license.state != pb.LICENSE_STATE_SUSPENDED or is_held(license):
        return end
    return end + min(max(at - from_timestamp(license.suspend_time), dt.timedelta(0)), LONGEST_SUSPENSION)


def recalled(license: pb.License, rule: governance_pb2.SharingRule) -> bool:
    """Whether a rule as members have it now ends a license, by the clause in its terms.

    rule: the latest revision of the rule the license stands on, with end_time if it was ended; or what members forbid.
    """
    terms = license.terms
    if not terms.member_recall:
        return False
    if rule.effect == governance_pb2.RULE_EFFECT_DENY:
        return overlaps(rule.scope, terms.scope)
    return rule.HasField("end_time") or bool(escapes(rule.scope, terms.scope))


def terminated(before: pb.License, reason: str, at: dt.datetime) -> pb.License:
    """Ended early."""
    after = _copy(before, pb.LICENSE_STATE_TERMINATED)
    after.end_time.FromDatetime(at)
    after.end_reason = reason
    return _no_longer_suspended(after)


def expired(before: pb.License) -> pb.License:
    """Ended as agreed, at the time it said."""
    return _no_longer_suspended(_copy(before, pb.LICENSE_STATE_EXPIRED))


def require_live(license: pb.License, at: dt.datetime) -> None:
    """Refuses to end what has ended with LICENSE_OVER."""
    # The loop that expires it may be a moment late; its end is not.
    ended = license.HasField("end_time") and end_of(license, at) <= at
    if ended or license.state not in LIVE:
        until = from_timestamp(license.end_time).isoformat()
        raise Refusal(
            "LICENSE_OVER",
            f"{license.name} ended at {until}.",
            Kind.STATE,
            license=license.name,
            state=pb.LicenseState.Name(license.state),
            end_time=until,
        )


def bills_its_start(order: billing_pb2.Order) -> bool:
    """Whether a license waits for this order; later periods and use are billed of one that is in force."""
    return order.kind in (billing_pb2.ORDER_KIND_UNSPECIFIED, billing_pb2.ORDER_KIND_LICENSE)


def require_order(license: pb.License | None, order: billing_pb2.Order) -> pb.License:
    """The license an order bills. Anything else is kept for an operator: a license is there before its order."""
    if license is None:
        raise Refusal(
            "LICENSE_UNKNOWN",
            f"{order.name} bills {order.license}, which does not exist.",
            Kind.STATE,
            order=order.name,
        )
    if (
        order.terms_hash != license.terms_hash
        or (order.net if order.HasField("net") else order.amount) != license.terms.price
    ):
        raise Refusal(
            "ORDER_MISMATCH",
            f"{order.name} bills other terms than those of {license.name}.",
            Kind.STATE,
            order=order.name,
        )
    return license


def require_known(license: pb.License | None, name: str) -> pb.License:
    """The license that money is about. Anything else is kept for an operator: a license is there before its order."""
    if license is None:
        raise Refusal("LICENSE_UNKNOWN", f"{name} does not exist.", Kind.STATE, license=name)
    return license


def _no_longer_suspended(license: pb.License) -> pb.License:
    license.ClearField("suspend_time")
    license.suspended_by = ""
    return license


def _copy(before: pb.License, state: pb.LicenseState.ValueType) -> pb.License:
    after = pb.License()
    after.CopyFrom(before)
    after.state = state
    return after
