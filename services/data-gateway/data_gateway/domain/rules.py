"""What a memory of rules says: when one had ended, and when one forbids live access. Where it is kept is not here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import end_is_signed
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.scope import overlaps

# What an emergency prohibition lasts if it does not say.
_LONGEST_EMERGENCY_SECONDS = 30 * 86_400


@dataclass(frozen=True)
class Window:
    """From begin to end (seconds since 1970; the end is outside) a rule forbids."""

    begin: float
    end: float
    rule: str


def merged(
    known: governance_pb2.SharingRule | None, heard: governance_pb2.SharingRule, keys: CooperativeKeys
) -> governance_pb2.SharingRule | None:
    """The revision to remember: with its end if that is signed, else without one; None if nothing is new."""
    if known is not None and known.HasField("end_time"):
        return None
    kept = governance_pb2.SharingRule()
    kept.CopyFrom(heard)
    if not end_is_signed(heard, keys):
        if known is not None:
            return None
        kept.ClearField("end_time")
        kept.ClearField("end_signature")
    return kept


def ended(
    rules: Iterable[governance_pb2.SharingRule], name: str, revision: int, rule_hash: str, at: tuple[int, int]
) -> bool:
    """Whether a revision was over by then: its own end is known, or a later revision was in force. rules: all signed."""
    for rule in rules:
        if rule.name != name or rule.emergency:
            continue
        if rule.revision > revision and _moment(rule.effective_time) <= at:
            return True
        own = (rule.revision, rule.rule_hash) == (revision, rule_hash)
        if own and rule.HasField("end_time") and _moment(rule.end_time) <= at:
            return True
    return False


def windows(
    denials: Iterable[governance_pb2.SharingRule], scope: scope_pb2.SharingScope, member_recall: bool
) -> tuple[Window, ...]:
    """When live access is forbidden: by an emergency always, by the members' own prohibition if the license says that
    they may recall it."""
    found = []
    for rule in denials:
        if not (rule.emergency or member_recall) or not overlaps(rule.scope, scope):
            continue
        begin = rule.effective_time.seconds + rule.effective_time.nanos / 1e9
        ends = [one for one in ("end_time", "expire_time") if rule.HasField(one)]
        end = min(
            (getattr(rule, one).seconds + getattr(rule, one).nanos / 1e9 for one in ends),
            default=begin + _LONGEST_EMERGENCY_SECONDS if rule.emergency else float("inf"),
        )
        found.append(Window(begin, end, rule.name))
    return tuple(found)


def _moment(stamp: Timestamp) -> tuple[int, int]:
    return stamp.seconds, stamp.nanos
