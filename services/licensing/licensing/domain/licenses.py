"""What a license says and how it lives and ends."""

from __future__ import annotations

import datetime as dt

from licensing.domain.deals import Deal
from rochdale.billing.v1 import billing_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import canonical_hash

LIVE = (pb.LICENSE_STATE_AGREED, pb.LICENSE_STATE_ACTIVE, pb.LICENSE_STATE_SUSPENDED)


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


def terminated(before: pb.License, reason: str, at: dt.datetime) -> pb.License:
    """Ended early."""
    after = _copy(before, pb.LICENSE_STATE_TERMINATED)
    after.end_time.FromDatetime(at)
    after.end_reason = reason
    return after


def expired(before: pb.License) -> pb.License:
    """Ended as agreed, at the time it said."""
    return _copy(before, pb.LICENSE_STATE_EXPIRED)


def require_live(license: pb.License, at: dt.datetime) -> None:
    """Refuses to end what has ended with LICENSE_OVER."""
    # The loop that expires it may be a moment late; its end is not.
    ended = license.HasField("end_time") and from_timestamp(license.end_time) <= at
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


def require_order(license: pb.License | None, order: billing_pb2.Order) -> pb.License:
    """The license an order bills. Anything else is kept for an operator: a license is there before its order."""
    if license is None:
        raise Refusal(
            "LICENSE_UNKNOWN",
            f"{order.name} bills {order.license}, which does not exist.",
            Kind.STATE,
            order=order.name,
        )
    if order.terms_hash != license.terms_hash or order.amount != license.terms.price:
        raise Refusal(
            "ORDER_MISMATCH",
            f"{order.name} bills other terms than those of {license.name}.",
            Kind.STATE,
            order=order.name,
        )
    return license


def _copy(before: pb.License, state: pb.LicenseState.ValueType) -> pb.License:
    after = pb.License()
    after.CopyFrom(before)
    after.state = state
    return after
