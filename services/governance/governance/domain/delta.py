"""What a proposal would change: when that makes sense, how it reads in plain words, and the rules that come of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from governance.domain import charter as charters
from governance.domain.dividends import check_policy, policy_words
from governance.domain.rules import check_scope
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.chain import hash_of_rule, hash_of_rule_end
from rochdale_kit.clock import to_timestamp
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import describe
from rochdale_kit.scope_words import duration


def settled(
    delta: pb.PolicyDelta,
    cooperative: governance.Cooperative,
    ends: Mapping[str, governance.SharingRule],
    rule_ids: Sequence[str],
) -> pb.PolicyDelta:
    """The delta with everything said: names of its rules, their lives, the whole charter.

    ends: the cooperative's rules it would end, by name. rule_ids: one new id a rule. Refuses with DELTA_ILL_FORMED,
    CURRENCY_UNKNOWN, SCOPE_ILL_FORMED, DATASET_NOT_OWN, CHARTER_ILL_FORMED.
    """
    divides = delta.HasField("dividend_policy")
    if not (delta.rules or delta.end_rules or delta.HasField("charter") or divides):
        raise _ill_formed("changes nothing")
    if divides and (delta.rules or delta.end_rules or delta.HasField("charter")):
        raise _ill_formed("divides surplus and changes something else; a dividend policy is decided alone")
    if delta.HasField("charter") and (delta.rules or delta.end_rules):
        raise _ill_formed("changes the charter and rules at once; a new charter is decided alone")
    for name in delta.end_rules:
        rule = ends.get(name)
        if rule is None or rule.state != governance.RULE_STATE_IN_FORCE:
            raise _ill_formed(f"ends {name}, which is not in force")
        if rule.emergency:
            raise _ill_formed(f"ends {name}, an emergency of the board, which ends by itself")
    longest = charters.max_life_seconds(cooperative.charter)
    whole = pb.PolicyDelta(end_rules=delta.end_rules)
    if delta.HasField("charter"):
        whole.charter.CopyFrom(charters.complete(delta.charter, cooperative.name))
    if divides:
        check_policy(delta.dividend_policy, cooperative.name)
        whole.dividend_policy.CopyFrom(delta.dividend_policy)
    for draft, id in zip(delta.rules, rule_ids, strict=True):
        check_scope(draft.scope, cooperative.name.rsplit("/", 1)[1])
        if draft.life_seconds > longest:
            raise _ill_formed(
                f"asks for a rule of {duration(draft.life_seconds)}; the charter lets one live {duration(longest)}"
            )
        rule_draft = whole.rules.add()
        rule_draft.CopyFrom(draft)
        rule_draft.sharing_rule = f"{cooperative.name}/sharingRules/{id}"
        # Said now, so that whoever signs the rule needs the proposal alone and not the charter of that day.
        rule_draft.life_seconds = draft.life_seconds or longest
    return whole


def settle_again(
    delta: pb.PolicyDelta, cooperative: governance.Cooperative, ends: Mapping[str, governance.SharingRule]
) -> None:
    """At the freeze, under the charter as it is by now: shortens lives it no longer allows. Refuses with DELTA_ILL_FORMED
    when a rule to end has ended meanwhile."""
    for name in delta.end_rules:
        if name not in ends or ends[name].state != governance.RULE_STATE_IN_FORCE:
            raise _ill_formed(f"ends {name}, which is not in force any more; amend it")
    longest = charters.max_life_seconds(cooperative.charter)
    for draft in delta.rules:
        draft.life_seconds = min(draft.life_seconds, longest)


def _ill_formed(what: str) -> Refusal:
    return Refusal("DELTA_ILL_FORMED", f"The proposal {what}.", Kind.INVALID)


def enacted_rules(proposal: pb.Proposal, effective: dt.datetime, now: dt.datetime) -> list[governance.SharingRule]:
    """The rules of a passed proposal, in the order of its delta, without signatures.

    Everything hashed comes from the proposal and the effective time, so that the cooperative's program makes the same.
    """
    rules = []
    for draft in proposal.delta.rules:
        rule = governance.SharingRule(
            name=draft.sharing_rule,
            revision=1,
            effect=draft.effect,
            scope=draft.scope,
            rationale=proposal.title,
            state=governance.RULE_STATE_IN_FORCE,
            effective_time=to_timestamp(effective),
            create_time=to_timestamp(now),
            proposal=proposal.name,
            tally_hash=proposal.tally.tally_hash,
            expire_time=to_timestamp(effective + dt.timedelta(seconds=draft.life_seconds)),
            member_recall=draft.member_recall,
        )
        rule.rule_hash = hash_of_rule(rule)
        rules.append(rule)
    return rules


def datasets(delta: pb.PolicyDelta, ends: Mapping[str, governance.SharingRule]) -> list[str]:
    """The datasets a delta concerns, those of the rules it would end included."""
    scopes = [*(draft.scope for draft in delta.rules), *(rule.scope for rule in ends.values())]
    return sorted({part.dataset for scope in scopes for part in scope.datasets})


def ended(rule: governance.SharingRule, at: dt.datetime) -> tuple[governance.SharingRule, str]:
    """The rule as it is once it ended at that time, and the hash its end's signature is made over."""
    over = governance.SharingRule()
    over.CopyFrom(rule)
    over.state = governance.RULE_STATE_ENDED
    over.end_time.FromDatetime(at)
    return over, hash_of_rule_end(over)


def summary(delta: pb.PolicyDelta) -> str:
    """The effect in plain words, made from what would change and from nothing anybody wrote."""
    parts = []
    for number, draft in enumerate(delta.rules, 1):
        head = "Allows" if draft.effect == governance.RULE_EFFECT_ALLOW else "Forbids"
        recall = (
            "Licenses under it end when members narrow or end it."
            if draft.member_recall
            else "Licenses under it run to their term even if members change their mind."
        )
        lines = [f"{number}. {head}, for {duration(draft.life_seconds)}:", describe(draft.scope)]
        parts.append("\n".join([*lines, *([recall] if head == "Allows" else [])]))
    parts.extend(f"Ends {name}." for name in delta.end_rules)
    if delta.HasField("charter"):
        parts.append(_charter_words(delta.charter))
    if delta.HasField("dividend_policy"):
        parts.append(policy_words(delta.dividend_policy))
    return "\n\n".join(parts)


def _charter_words(charter: governance.Charter) -> str:
    lines = [
        "Replaces the charter:",
        f"The board needs {charter.required_approvals} stewards for an emergency.",
        f"A rule lives at most {duration(charter.max_rule_life_seconds)}.",
        f"Requests of buyers are answered within {duration(charter.response_seconds)}.",
        f"Licensees delete what is withdrawn within {duration(charter.deletion_seconds)}.",
    ]
    for rule in charter.decision_rules:
        name = decisions.DecisionClass.Name(rule.decision_class).removeprefix("DECISION_CLASS_").capitalize()
        word = "at least" if rule.inclusive else "more than"
        lines.append(
            f"{name} decisions: {word} {rule.threshold.numerator}/{rule.threshold.denominator} yes, "
            f"{rule.quorum.numerator}/{rule.quorum.denominator} taking part, at least {rule.min_yes} yes; "
            f"open for {duration(rule.voting_seconds)}, in force {duration(rule.dissent_seconds)} later."
        )
    return "\n".join(lines)
