"""What a sharing rule is, how it comes into force and how it narrows. No clock, no ids, no connection."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from rochdale.governance.v1 import governance_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import hash_of_rule
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.money import require_currency
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import require_inside, require_well_formed


def check_scope(scope: scope_pb2.SharingScope, cooperative_id: str) -> None:
    """Refuses a scope that says nothing clear, or speaks of another cooperative's data."""
    require_currency(scope.floor_price.currency)
    require_well_formed(scope)
    for part in scope.datasets:
        if not part.dataset.startswith(f"cooperatives/{cooperative_id}/datasets/"):
            raise Refusal(
                "DATASET_NOT_OWN",
                f"{part.dataset} is not a dataset of {cooperative_id}; a rule speaks of its own members' data only.",
                Kind.INVALID,
                dataset=part.dataset,
                cooperative=cooperative_id,
            )


def approve(rule: pb.SharingRule, key: str, required_approvals: int, now: dt.datetime) -> pb.SharingRule | None:
    """The rule with one more approval, in force if that was the last one needed; None if there is nothing to change.

    An approval of a rule in force changes nothing: what enacted it is written down and stays as it was.
    """
    if rule.state == pb.RULE_STATE_ENDED:
        raise Refusal(
            "RULE_ENDED", f"{rule.name} ended at {_when(rule)}.", Kind.STATE, name=rule.name, end_time=_when(rule)
        )
    if rule.state == pb.RULE_STATE_IN_FORCE or key in rule.approvals:
        return None
    approved = pb.SharingRule()
    approved.CopyFrom(rule)
    approved.approvals.append(key)
    if len(approved.approvals) >= required_approvals:
        _enact(approved, now)
    return approved


@dataclass(frozen=True)
class Narrowed:
    """What narrowing did: the revision that ended, and the next one unless the rule ended with it."""

    ended: pb.SharingRule
    next: pb.SharingRule | None

    @property
    def latest(self) -> pb.SharingRule:
        return self.next or self.ended


def narrow(
    rule: pb.SharingRule, seen_revision: int, scope: scope_pb2.SharingScope | None, key: str, now: dt.datetime
) -> Narrowed:
    """Ends the revision in force and makes the next, narrower one effective at the same instant; no scope ends the rule.

    One steward is enough, because tightening never waits. A prohibition can be neither narrowed nor ended here: a
    smaller prohibition lets more data out, and loosening takes a new decision of its own. More is forbidden by
    proposing another DENY rule beside it.
    """
    if rule.state != pb.RULE_STATE_IN_FORCE:
        raise Refusal(
            "RULE_NOT_IN_FORCE",
            f"{rule.name} is not in force.",
            Kind.STATE,
            name=rule.name,
            state=pb.RuleState.Name(rule.state),
        )
    if rule.revision != seen_revision:
        raise Refusal(
            "RULE_CHANGED",
            f"{rule.name} is at revision {rule.revision} by now, not {seen_revision}.",
            Kind.STATE,
            name=rule.name,
            revision=rule.revision,
            seen_revision=seen_revision,
        )
    if rule.effect == pb.RULE_EFFECT_DENY:
        raise Refusal(
            "RULE_WIDENED",
            f"{rule.name} forbids sharing; to narrow or end it would let more data out, which takes a new decision.",
            Kind.STATE,
            name=rule.name,
            effect=pb.RuleEffect.Name(rule.effect),
        )
    if scope is not None:
        require_well_formed(scope)
        require_inside(rule.scope, scope, "RULE_WIDENED", f"The new scope is outside {rule.name}")

    # A clock that stepped back, or a replica's that lags, must not end a revision before it began.
    at = max(now, from_timestamp(rule.effective_time))
    ended = pb.SharingRule()
    ended.CopyFrom(rule)
    ended.state = pb.RULE_STATE_ENDED
    ended.end_time.FromDatetime(at)
    if scope is None:
        return Narrowed(ended, None)
    following = pb.SharingRule(
        name=rule.name,
        revision=rule.revision + 1,
        effect=rule.effect,
        scope=scope,
        rationale=rule.rationale,
        approvals=[key],
        create_time=to_timestamp(at),
    )
    _enact(following, at)
    return Narrowed(ended, following)


def _enact(rule: pb.SharingRule, at: dt.datetime) -> None:
    rule.state = pb.RULE_STATE_IN_FORCE
    rule.effective_time.FromDatetime(at)
    rule.rule_hash = hash_of_rule(rule)


def _when(rule: pb.SharingRule) -> str:
    return rule.end_time.ToJsonString()
