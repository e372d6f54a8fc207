"""The charter: the model it follows where it is silent, when it makes no sense, and how far-reaching a change is."""

from __future__ import annotations

from collections.abc import Sequence

from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.refusals import Kind, Refusal

DAY = 86_400
TWO_YEARS_SECONDS = 730 * DAY
THIRTY_DAYS_SECONDS = 30 * DAY
ACTIVE_DAYS = 365
DELEGATION_CAP = 5

ROUTINE, SENSITIVE, CONSTITUTIONAL = (
    decisions.DECISION_CLASS_ROUTINE,
    decisions.DECISION_CLASS_SENSITIVE,
    decisions.DECISION_CLASS_CONSTITUTIONAL,
)


def _model(
    decision_class: decisions.DecisionClass.ValueType,
    threshold: tuple[int, int],
    inclusive: bool,
    quorum: tuple[int, int],
    min_yes: int,
) -> decisions.DecisionRule:
    return decisions.DecisionRule(
        decision_class=decision_class,
        quorum=decisions.Ratio(numerator=quorum[0], denominator=quorum[1]),
        quorum_base=decisions.QUORUM_BASE_ROLL,
        active_days=ACTIVE_DAYS,
        threshold=decisions.Ratio(numerator=threshold[0], denominator=threshold[1]),
        inclusive=inclusive,
        min_yes=min_yes,
        notice_seconds=3 * DAY,
        voting_seconds=7 * DAY,
        late_quorum_extension_seconds=2 * DAY,
        dissent_seconds=7 * DAY,
        secrecy=decisions.SECRECY_OPERATOR_TRUSTED,
        delegation_cap=DELEGATION_CAP,
        sponsor_min=2,
    )


# The table of docs/reference/voting.md.
MODEL = {
    ROUTINE: _model(ROUTINE, (1, 2), False, (10, 100), 2),
    SENSITIVE: _model(SENSITIVE, (2, 3), True, (25, 100), 3),
    CONSTITUTIONAL: _model(CONSTITUTIONAL, (3, 4), True, (40, 100), 3),
}


def complete(charter: governance.Charter, cooperative: str) -> governance.Charter:
    """The charter with everything said that it leaves to the model. cooperative: resource name.

    Refuses with CHARTER_ILL_FORMED.
    """
    rules = {rule.decision_class: rule for rule in charter.decision_rules}
    if len(rules) != len(charter.decision_rules):
        raise _ill_formed("names a class of decisions twice")
    for rule in rules.values():
        _check(rule)
    for dataset in charter.special_category_datasets:
        if not dataset.startswith(f"{cooperative}/datasets/"):
            raise _ill_formed(f"names {dataset}, which is not a dataset of {cooperative}")
    whole = governance.Charter()
    whole.CopyFrom(charter)
    whole.max_rule_life_seconds = charter.max_rule_life_seconds or TWO_YEARS_SECONDS
    whole.response_seconds = charter.response_seconds or THIRTY_DAYS_SECONDS
    whole.deletion_seconds = charter.deletion_seconds or THIRTY_DAYS_SECONDS
    del whole.decision_rules[:]
    for decision_class, model in MODEL.items():
        rule = whole.decision_rules.add()
        rule.CopyFrom(rules.get(decision_class, model))
        rule.quorum_base = rule.quorum_base or decisions.QUORUM_BASE_ROLL
        rule.secrecy = rule.secrecy or decisions.SECRECY_OPERATOR_TRUSTED
        rule.active_days = rule.active_days or ACTIVE_DAYS
        rule.delegation_cap = rule.delegation_cap or DELEGATION_CAP
    return whole


def _check(rule: decisions.DecisionRule) -> None:
    name = decisions.DecisionClass.Name(rule.decision_class).removeprefix("DECISION_CLASS_")
    for what, ratio in (("quorum", rule.quorum), ("threshold", rule.threshold)):
        if ratio.numerator > ratio.denominator:
            raise _ill_formed(f"asks for a {what} above the whole in {name} decisions")
    # Below one half the smaller side would win.
    if 2 * rule.threshold.numerator < rule.threshold.denominator:
        raise _ill_formed(f"asks for a threshold below one half in {name} decisions")
    if rule.threshold.numerator == rule.threshold.denominator and not rule.inclusive:
        raise _ill_formed(f"asks for more than everybody in {name} decisions")
    if rule.delegation and rule.decision_class == CONSTITUTIONAL:
        raise _ill_formed("lets members delegate CONSTITUTIONAL decisions")


def _ill_formed(what: str) -> Refusal:
    return Refusal("CHARTER_ILL_FORMED", f"The charter {what}.", Kind.INVALID)


def rule_for(charter: governance.Charter, decision_class: decisions.DecisionClass.ValueType) -> decisions.DecisionRule:
    """What a decision of a class takes; charters older than votes follow the model."""
    return (
        next((rule for rule in charter.decision_rules if rule.decision_class == decision_class), None)
        or MODEL[decision_class]
    )


def max_life_seconds(charter: governance.Charter) -> int:
    return charter.max_rule_life_seconds or TWO_YEARS_SECONDS


def response_seconds(charter: governance.Charter) -> int:
    return charter.response_seconds or THIRTY_DAYS_SECONDS


def class_of(
    delta: pb.PolicyDelta, ends: Sequence[governance.SharingRule], charter: governance.Charter
) -> tuple[decisions.DecisionClass.ValueType, list[str]]:
    """How far-reaching a change is, and why, each reason a word. ends: the rules it would end, as they are.

    Computed from the effect, so that nobody can call a sale of everything routine.
    """
    if delta.HasField("charter"):
        return CONSTITUTIONAL, ["charter"]
    # It moves the members' money, all of it and for as long as they decide nothing else: more than a routine matter. It
    # does not change who decides, so it is no constitution.
    if delta.HasField("dividend_policy"):
        return SENSITIVE, ["dividend_policy"]
    reasons: set[str] = set()
    special = set(charter.special_category_datasets)
    for draft in delta.rules:
        scope = draft.scope
        if special & {part.dataset for part in scope.datasets}:
            reasons.add("special_category")
        if draft.effect == governance.RULE_EFFECT_ALLOW:
            reasons |= _exposures(scope, charter)
    if any(rule.effect == governance.RULE_EFFECT_DENY for rule in ends):
        reasons.add("end_prohibition")
    return (SENSITIVE if reasons else ROUTINE), sorted(reasons)


def _exposures(scope: scope_pb2.SharingScope, charter: governance.Charter) -> set[str]:
    tests = {
        "download": scope.max_mode >= scope_pb2.ACCESS_MODE_DOWNLOAD,
        "exclusivity": scope.max_exclusivity > scope_pb2.EXCLUSIVITY_NONE,
        "model_publication": bool(
            {scope_pb2.USE_ACTION_PUBLISH_MODEL, scope_pb2.USE_ACTION_COMMERCIALIZE_MODEL} & set(scope.actions)
        ),
        "large_platform": scope_pb2.BUYER_CATEGORY_LARGE_PLATFORM in scope.categories,
        "privacy_loss": scope.max_epsilon_nano > charter.sensitive_epsilon_nano,
    }
    return {name for name, found in tests.items() if found}
