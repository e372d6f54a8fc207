"""A charter in the words of a meeting, and a delta as members read it. Made from the contract's values; decides nothing."""

from __future__ import annotations

from fractions import Fraction

from rochdale.client.dividend_views import policy_fields
from rochdale.client.names import short
from rochdale.client.terms import DECISION_CLASSES, EFFECTS, count, days
from rochdale.client.views import scope_fields
from rochdale.governance.v1 import decisions_pb2, governance_pb2, proposals_pb2

_CLASSES = {
    decisions_pb2.DECISION_CLASS_ROUTINE: "everything that is not listed below",
    decisions_pb2.DECISION_CLASS_SENSITIVE: "health and other special data, downloads, exclusivity, models published or "
    "sold, the largest platforms, more privacy loss than the charter's bound, an end to something forbidden, how surplus "
    "is divided",
    decisions_pb2.DECISION_CLASS_CONSTITUTIONAL: "the charter itself",
}


def ratio(value: decisions_pb2.Ratio) -> str:
    """ "2/3", in lowest terms."""
    return str(Fraction(value.numerator, value.denominator or 1))


def majority(rule: decisions_pb2.DecisionRule) -> str:
    """ "at least 2/3 of yes and no, and at least 3 yes"."""
    least = "at least" if rule.inclusive else "more than"
    return f"{least} {ratio(rule.threshold)} of yes and no, and at least {rule.min_yes} yes; a tie never passes"


def quorum(rule: decisions_pb2.DecisionRule) -> str:
    """ "1/10 of all members on the roll"."""
    if rule.quorum_base == decisions_pb2.QUORUM_BASE_ACTIVE:
        return f"{ratio(rule.quorum)} of the members active within {rule.active_days or 365} days"
    return f"{ratio(rule.quorum)} of all on the roll"


def secrecy(rule: decisions_pb2.DecisionRule) -> str:
    """What a level protects, honestly."""
    if rule.secrecy == decisions_pb2.SECRECY_ROLL_CALL:
        return "a roll call: the board says who voted how once the vote is closed"
    return "secret to the public; whoever operates the service could tell until the vote closes"


def decision_lines(rule: decisions_pb2.DecisionRule) -> dict[str, str]:
    """What one class of decisions takes."""
    lines = {
        "what it is for": _CLASSES.get(rule.decision_class, ""),
        "passes with": majority(rule),
        "takes part": f"at least {quorum(rule)}",
        "sponsors": f"{count(rule.sponsor_min, 'member')}, or a steward",
        "notice": days(rule.notice_seconds),
        "vote is open": days(rule.voting_seconds),
        "late quorum adds": days(rule.late_quorum_extension_seconds) if rule.late_quorum_extension_seconds else "",
        "dissent window": days(rule.dissent_seconds),
        "secrecy": secrecy(rule),
        "delegation": f"allowed, one step, at most {rule.delegation_cap or 5} for one member"
        if rule.delegation
        else "no",
        "who votes": "contributors to the datasets concerned" if rule.contributors_only else "every member",
    }
    if rule.min_membership_seconds:
        lines["member since"] = f"at least {days(rule.min_membership_seconds)} before the vote opens"
    if rule.close_when_all_voted:
        lines["closes early"] = "once everybody on the roll has voted in person"
    return lines


def charter_lines(charter: governance_pb2.Charter) -> dict[str, str]:
    """What is not about one class of decisions."""
    return {
        "an emergency prohibition needs": f"{count(charter.required_approvals, 'steward')}; it lapses after 30 days",
        "a rule lives at most": days(charter.max_rule_life_seconds) if charter.max_rule_life_seconds else "two years",
        "a buyer's request is answered in": days(charter.response_seconds) if charter.response_seconds else "30 days",
        "what is withdrawn is deleted in": days(charter.deletion_seconds) if charter.deletion_seconds else "30 days",
        "special categories of data": ", ".join(short(name) for name in charter.special_category_datasets),
        "sensitive privacy loss above": f"epsilon {charter.sensitive_epsilon_nano / 1e9:g}"
        if charter.sensitive_epsilon_nano
        else "",
        "in the founders' words": charter.text,
    }


def delta_blocks(delta: proposals_pb2.PolicyDelta) -> list[tuple[str, dict[str, str]]]:
    """What would change, block by block: a title, and its lines."""
    blocks = []
    for draft in delta.rules:
        forbids = draft.effect == governance_pb2.RULE_EFFECT_DENY
        lines = scope_fields(draft.scope)
        if forbids:
            lines.pop("price", None)
        lines["lives"] = days(draft.life_seconds) if draft.life_seconds else "as long as the charter lets a rule live"
        if draft.member_recall:
            lines["recall"] = "licenses end when members narrow or end it"
        blocks.append((f"A new rule that would {'forbid' if forbids else 'allow'}", lines))
    blocks += [("A rule that would end", {"rule": short(name)}) for name in delta.end_rules]
    if delta.HasField("charter"):
        blocks.append(("A new charter", charter_lines(delta.charter)))
        for rule in delta.charter.decision_rules:
            blocks.append(
                (f"{DECISION_CLASSES.format(rule.decision_class)} decisions would be made so", decision_lines(rule))
            )
    if delta.HasField("dividend_policy"):
        blocks.append(("How each month's surplus would be divided", policy_fields(delta.dividend_policy)))
    return blocks


def delta_in_short(delta: proposals_pb2.PolicyDelta) -> str:
    """ "allow: valley-health/randhie; end 1 rule"."""
    told = [
        f"{EFFECTS.format(draft.effect)} {', '.join(short(entry.dataset) for entry in draft.scope.datasets)}"
        for draft in delta.rules
    ]
    if delta.end_rules:
        told.append(f"end {count(len(delta.end_rules), 'rule')}")
    if delta.HasField("charter"):
        told.append("new charter")
    if delta.HasField("dividend_policy"):
        told.append("how surplus is divided")
    return "; ".join(told)
