"""Whether the members' rules allow a scope at one moment, and how far what was told of a rule is believed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import end_is_signed, flaw_of_signed_rule
from rochdale_kit.clock import from_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import overlaps, require_inside

# The board's emergencies are not signed. Whatever one says of itself, it lapses after this long.
LONGEST_EMERGENCY = dt.timedelta(days=30)


def is_emergency(rule: governance_pb2.SharingRule) -> bool:
    return rule.effect == governance_pb2.RULE_EFFECT_DENY and rule.emergency


def believed_end(rule: governance_pb2.SharingRule, keys: CooperativeKeys) -> dt.datetime | None:
    """The end a rule shows, if it counts: to forbid no longer is a decision and has to be signed, to allow no longer
    is always safe."""
    if not rule.HasField("end_time"):
        return None
    expire = believed_expiry(rule)
    if expire is not None and from_timestamp(rule.end_time) >= expire:
        # It ended by itself, which nobody decided: licenses under it run on.
        return None
    if rule.effect == governance_pb2.RULE_EFFECT_DENY and not end_is_signed(rule, keys):
        return None
    return from_timestamp(rule.end_time)


def believed_expiry(rule: governance_pb2.SharingRule) -> dt.datetime | None:
    """When a rule ends by itself."""
    expire = from_timestamp(rule.expire_time) if rule.HasField("expire_time") else None
    if not is_emergency(rule):
        return expire
    lapses = from_timestamp(rule.effective_time) + LONGEST_EMERGENCY
    return lapses if expire is None else min(expire, lapses)


def over_at(rule: governance_pb2.SharingRule) -> dt.datetime | None:
    """When a rule as kept is over, by its end or by itself; None for never."""
    ends = [believed_expiry(rule), from_timestamp(rule.end_time) if rule.HasField("end_time") else None]
    return min((end for end in ends if end is not None), default=None)


@dataclass(frozen=True)
class RuleBook:
    """What of a cooperative's rules matters to one deal, at one moment.

    name: of the rule the deal stands on. rule: its revision in force; None if there is none.
    denials: every DENY rule of the cooperative in force.
    """

    name: str
    rule: governance_pb2.SharingRule | None
    denials: Sequence[governance_pb2.SharingRule]

    def require_allowed(self, scope: scope_pb2.SharingScope, keys: CooperativeKeys) -> governance_pb2.SharingRule:
        """The revision that allows a scope. Refuses with RULE_NOT_IN_FORCE and REQUEST_OUTSIDE_RULE.

        keys: as they are now. A rule was verified when it was heard; a key that was lost since signed nothing.
        """
        if self.rule is None or flaw_of_signed_rule(self.rule, keys):
            raise Refusal("RULE_NOT_IN_FORCE", f"{self.name} is not in force now.", Kind.STATE, sharing_rule=self.name)
        require_inside(
            self.rule.scope, scope, "REQUEST_OUTSIDE_RULE", f"The request is outside {self.name}", Kind.STATE
        )
        for denial in self.denials:
            if overlaps(denial.scope, scope):
                raise Refusal(
                    "REQUEST_OUTSIDE_RULE",
                    f"The request meets what {denial.name} forbids.",
                    Kind.STATE,
                    escapes="deny",
                    deny=denial.name,
                )
        return self.rule
