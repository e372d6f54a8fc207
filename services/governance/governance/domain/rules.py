"""What a sharing rule is, how it comes into force and is signed, and how it narrows. No clock, no ids, no connection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.governance.v1 import governance_pb2 as pb
from rochdale.type.v1 import scope_pb2, signature_pb2
from rochdale_kit.chain import flaw_of_signed_rule, hash_of_rule, hash_of_rule_end
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.money import require_currency
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import require_inside, require_well_formed
from rochdale_kit.signing import RULE_END_PREFIX

# Without members' own prohibition, the board's ends by itself.
EMERGENCY_LIFE = dt.timedelta(days=30)
# How far the clock of a steward's program may be from ours.
CLOCKS_APART = dt.timedelta(minutes=5)


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


def members_decide(cooperative: str) -> Refusal:
    return Refusal(
        "MEMBERS_DECIDE",
        f"What {cooperative} shares is decided by its members; the board can only forbid. Draft a proposal.",
        Kind.INVALID,
        cooperative=cooperative,
    )


def approve(rule: pb.SharingRule, person: str, required_approvals: int, now: dt.datetime) -> pb.SharingRule | None:
    """The emergency with one more approval, in force if that was the last one needed; None if there is nothing to change.

    person: who approves; several keys of one person are one approval. An approval of a rule in force changes nothing:
    what enacted it is written down and stays as it was.
    """
    if rule.state == pb.RULE_STATE_ENDED:
        raise Refusal(
            "RULE_ENDED", f"{rule.name} ended at {_when(rule)}.", Kind.STATE, name=rule.name, end_time=_when(rule)
        )
    if rule.state == pb.RULE_STATE_IN_FORCE or person in rule.approvals:
        return None
    approved = pb.SharingRule()
    approved.CopyFrom(rule)
    approved.approvals.append(person)
    if len(approved.approvals) >= required_approvals:
        approved.state = pb.RULE_STATE_IN_FORCE
        approved.effective_time.FromDatetime(now)
        approved.expire_time.FromDatetime(now + EMERGENCY_LIFE)
        approved.rule_hash = hash_of_rule(approved)
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
    rule: pb.SharingRule,
    seen_revision: int,
    scope: scope_pb2.SharingScope | None,
    person: str,
    effective: dt.datetime,
    now: dt.datetime,
) -> Narrowed:
    """Ends the revision in force and makes the next, narrower one effective at the same instant; no scope ends the rule.

    One steward is enough, because tightening never waits. A prohibition can be neither narrowed nor ended here: a
    smaller prohibition lets more data out, and loosening takes a new decision of its own. More is forbidden by another
    DENY rule beside it. Neither revision is signed yet.
    """
    if rule.state != pb.RULE_STATE_IN_FORCE:
        raise not_in_force(rule.name, rule)
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
    if effective < from_timestamp(rule.effective_time):
        raise effective_time_invalid(to_timestamp(effective), f"before {rule.name} began")
    ended = pb.SharingRule()
    ended.CopyFrom(rule)
    ended.state = pb.RULE_STATE_ENDED
    ended.end_time.FromDatetime(effective)
    if scope is None:
        return Narrowed(ended, None)
    following = pb.SharingRule()
    following.CopyFrom(rule)
    following.revision = rule.revision + 1
    following.scope.CopyFrom(scope)
    following.approvals[:] = [person]
    following.create_time.FromDatetime(now)
    following.effective_time.FromDatetime(effective)
    following.ClearField("signature")
    following.rule_hash = hash_of_rule(following)
    return Narrowed(ended, following)


def effective_time(stamp: Timestamp, now: dt.datetime) -> dt.datetime:
    """The time a steward's program chose, within five minutes of ours: what it signed says when it begins."""
    effective = from_timestamp(stamp)
    if stamp.nanos % 1000:
        raise effective_time_invalid(stamp, "finer than a microsecond")
    if abs(effective - now) > CLOCKS_APART:
        raise effective_time_invalid(stamp, "more than five minutes from now")
    return effective


def effective_time_invalid(stamp: Timestamp, why: str) -> Refusal:
    told = stamp.ToJsonString()
    return Refusal("EFFECTIVE_TIME_INVALID", f"{told} is {why}.", Kind.INVALID, effective_time=told)


def not_in_force(name: str, rule: pb.SharingRule | None) -> Refusal:
    state = pb.RuleState.Name(rule.state if rule is not None else pb.RULE_STATE_UNSPECIFIED)
    return Refusal("RULE_NOT_IN_FORCE", f"{name} is not in force.", Kind.STATE, name=name, state=state)


def sign(rules: Sequence[pb.SharingRule], signatures: Sequence[signature_pb2.Signature], keys: CooperativeKeys) -> None:
    """Puts the cooperative's signatures on its rules, one each. Refuses with SIGNATURE_INVALID any but the latest key's."""
    _require_count("rules", rules, signatures)
    for rule, signature in zip(rules, signatures, strict=True):
        rule.signature.CopyFrom(signature)
        if signature.key_id != keys.latest_id or flaw_of_signed_rule(rule, keys) is not None:
            raise _signature_invalid(rule, f"{rule.name} revision {rule.revision}")


def sign_ends(
    rules: Sequence[pb.SharingRule], signatures: Sequence[signature_pb2.Signature], keys: CooperativeKeys
) -> None:
    """The same for the ends of rules."""
    _require_count("ended rules", rules, signatures)
    for rule, signature in zip(rules, signatures, strict=True):
        rule.end_signature.CopyFrom(signature)
        if signature.key_id != keys.latest_id or not keys.verify(
            signature, RULE_END_PREFIX, hash_of_rule_end(rule), from_timestamp(rule.end_time)
        ):
            raise _signature_invalid(rule, f"the end of {rule.name} revision {rule.revision}")


def _require_count(what: str, rules: Sequence[pb.SharingRule], signatures: Sequence[signature_pb2.Signature]) -> None:
    if len(rules) != len(signatures):
        raise Refusal(
            "SIGNATURE_INVALID",
            f"There are {len(rules)} {what} to sign and {len(signatures)} signatures.",
            Kind.INVALID,
            expected=len(rules),
            signatures=len(signatures),
        )


def _signature_invalid(rule: pb.SharingRule, what: str) -> Refusal:
    return Refusal(
        "SIGNATURE_INVALID",
        f"The signature of {what} is not one of the cooperative's latest key.",
        Kind.INVALID,
        name=rule.name,
        revision=rule.revision,
    )


def _when(rule: pb.SharingRule) -> str:
    return rule.end_time.ToJsonString()
