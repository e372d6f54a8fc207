"""Whether the members' rules allow a scope at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import overlaps, require_inside


@dataclass(frozen=True)
class RuleBook:
    """What of a cooperative's rules matters to one deal, at one moment.

    name: of the rule the deal stands on. rule: its revision in force; None if there is none.
    denials: every DENY rule of the cooperative in force.
    """

    name: str
    rule: governance_pb2.SharingRule | None
    denials: Sequence[governance_pb2.SharingRule]

    def require_allowed(self, scope: scope_pb2.SharingScope) -> governance_pb2.SharingRule:
        """The revision that allows a scope. Refuses with RULE_NOT_IN_FORCE and REQUEST_OUTSIDE_RULE."""
        if self.rule is None:
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
