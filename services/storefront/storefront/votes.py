"""What the templates show of proposals, votes and charters: contract messages as plain words. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import governance_pb2
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.dividend_words import policy_lines
from rochdale_kit.money import format_money
from rochdale_kit.scope import describe
from rochdale_kit.scope_words import duration, epsilon, moment
from rochdale_kit.signing import TALLY_PREFIX, KeySet, canonical_hash, verify_hash
from storefront import words

_FROZEN_FIELDS = ("name", "revision", "title", "body", "delta", "decision_class", "decision_rule", "beneficiaries")
_STATES = {
    pb.PROPOSAL_STATE_FROZEN: "announced; the vote has not opened yet",
    pb.PROPOSAL_STATE_VOTING: "members vote",
    pb.PROPOSAL_STATE_DISSENT_WINDOW: "passed; members may still withdraw consent or challenge the vote",
    pb.PROPOSAL_STATE_AWAITING_SIGNATURE: "passed; waits for the cooperative's signature",
    pb.PROPOSAL_STATE_ENACTED: "in force",
    pb.PROPOSAL_STATE_REVIEW_DUE: "in force; its rules end soon",
    pb.PROPOSAL_STATE_EXPIRED: "its rules have ended",
    pb.PROPOSAL_STATE_WITHDRAWN: "taken back before the vote",
    pb.PROPOSAL_STATE_QUORUM_FAILED: "too few took part",
    pb.PROPOSAL_STATE_REJECTED: "did not pass",
    pb.PROPOSAL_STATE_ANNULLED: "annulled",
    pb.PROPOSAL_STATE_SUPERSEDED: "a later decision took its place",
}
_CLASSES = {
    decisions.DECISION_CLASS_ROUTINE: "routine",
    decisions.DECISION_CLASS_SENSITIVE: "sensitive",
    decisions.DECISION_CLASS_CONSTITUTIONAL: "constitutional",
}
_FOR = {
    decisions.DECISION_CLASS_ROUTINE: "everything that is not listed below",
    decisions.DECISION_CLASS_SENSITIVE: "health and other special data, downloads, exclusivity, models published or sold, "
    "the largest platforms, more privacy loss than agreed, an end to something forbidden, how surplus is divided",
    decisions.DECISION_CLASS_CONSTITUTIONAL: "the charter itself",
}
_GROUNDS = {
    pb.CHALLENGE_GROUND_ROLL: "about who was on the roll",
    pb.CHALLENGE_GROUND_INTEREST: "about an interest",
    pb.CHALLENGE_GROUND_PROCEDURE: "about the procedure",
    pb.CHALLENGE_GROUND_TEXT: "about the text",
}
_CHOICES = {pb.BALLOT_CHOICE_YES: "yes", pb.BALLOT_CHOICE_NO: "no", pb.BALLOT_CHOICE_ABSTAIN: "abstains"}

Lines = Sequence[tuple[str, str]]


def ratio(value: decisions.Ratio) -> str:
    """ "2/3", in lowest terms."""
    return str(Fraction(value.numerator, value.denominator or 1))


def _at_least(rule: decisions.DecisionRule) -> str:
    word = "at least" if rule.inclusive else "more than"
    return f"{word} {ratio(rule.threshold)} of yes and no, and at least {rule.min_yes} yes; a tie never passes"


def _quorum(rule: decisions.DecisionRule) -> str:
    if rule.quorum_base == decisions.QUORUM_BASE_ACTIVE:
        return f"at least {ratio(rule.quorum)} of the members active within {rule.active_days or 365} days"
    return f"at least {ratio(rule.quorum)} of all on the roll"


def _secrecy(rule: decisions.DecisionRule) -> str:
    if rule.secrecy == decisions.SECRECY_ROLL_CALL:
        return "a roll call: the board says who voted how, once the vote is closed"
    return "secret to the public; whoever operates the service could tell until the vote closes"


def decision_lines(rule: decisions.DecisionRule) -> Lines:
    """What one class of decisions takes, as subject and sentence."""
    lines = [
        ("For", _FOR.get(rule.decision_class, "")),
        ("Passes with", _at_least(rule)),
        ("Taking part", _quorum(rule)),
        ("Sponsors", f"a steward, or {words.count(rule.sponsor_min, 'member')}"),
        ("Time", f"{duration(rule.notice_seconds)} of notice, {duration(rule.voting_seconds)} to vote, "
                 f"in force {duration(rule.dissent_seconds)} later at the earliest"),
        ("Secrecy", _secrecy(rule)),
        ("Delegation", f"allowed, one step, at most {rule.delegation_cap or 5} for one member" if rule.delegation else "no"),
    ]  # fmt: skip
    if rule.late_quorum_extension_seconds:
        lines.append(("Late quorum", f"adds {duration(rule.late_quorum_extension_seconds)}, once"))
    if rule.contributors_only:
        lines.append(("Who votes", "contributors to the datasets concerned"))
    if rule.min_membership_seconds:
        lines.append(("Member since", f"at least {duration(rule.min_membership_seconds)} before the vote opens"))
    return [line for line in lines if line[1]]


@dataclass(frozen=True)
class Charter:
    """How a cooperative decides."""

    text: str
    lines: Lines
    classes: Sequence[tuple[str, Lines]]


def charter(found: governance_pb2.Charter) -> Charter:
    """Only what the charter says: a cooperative older than votes says little."""
    lines = [
        (
            "Emergencies",
            f"the board may forbid something at once if {words.count(found.required_approvals, 'steward')} agree; it lapses "
            "after 30 days",
        )
    ]
    for subject, seconds in (
        ("A rule lives", found.max_rule_life_seconds),
        ("Requests of buyers", found.response_seconds),
        ("Deletion", found.deletion_seconds),
    ):
        if seconds:
            said = {
                "A rule lives": "at most {}, then members decide again",
                "Requests of buyers": "are put to members or declined within {}",
                "Deletion": "licensees delete what is withdrawn within {}",
            }[subject]
            lines.append((subject, said.format(duration(seconds))))
    if found.special_category_datasets:
        names = ", ".join(name.rsplit("/", 1)[-1] for name in found.special_category_datasets)
        lines.append(("Special data", f"{names}: every rule about it is a sensitive decision"))
    if found.sensitive_epsilon_nano:
        lines.append(("Privacy loss", f"above {epsilon(found.sensitive_epsilon_nano)} is a sensitive decision"))
    return Charter(
        text=found.text,
        lines=lines,
        classes=[(_CLASSES.get(rule.decision_class, "other"), decision_lines(rule)) for rule in found.decision_rules],
    )


def scope_lines(text: str) -> Lines:
    """Lines of the kit's description of a scope, as subject and sentence."""
    parts = (line.partition(": ") for line in text.splitlines())
    return [(subject, sentence) for subject, _, sentence in parts]


@dataclass(frozen=True)
class Effect:
    """One thing that would change."""

    title: str
    lines: Lines
    charter: Charter | None = None


def _effects(delta: pb.PolicyDelta) -> list[Effect]:
    effects = []
    for draft in delta.rules:
        forbids = draft.effect == governance_pb2.RULE_EFFECT_DENY
        lines = [line for line in scope_lines(describe(draft.scope)) if not (forbids and line[0] == "Price")]
        if draft.life_seconds:
            lines.append(("Life", f"{duration(draft.life_seconds)} from its enactment"))
        if not forbids:
            recall = "end when members narrow or end it" if draft.member_recall else "run to their term"
            lines.append(("Licenses", f"under it {recall}"))
        effects.append(Effect(f"A new rule that {'forbids' if forbids else 'allows'}", lines))
    effects += [Effect("A rule that ends", [("Rule", name)]) for name in delta.end_rules]
    if delta.HasField("charter"):
        effects.append(Effect("A new charter", [], charter(delta.charter)))
    if delta.HasField("dividend_policy"):
        effects.append(Effect("How surplus is divided", list(policy_lines(delta.dividend_policy))))
    return effects


@dataclass(frozen=True)
class Tally:
    """What was counted."""

    outcome: str
    passed: bool
    yes: str
    no: str
    abstain: str
    share: int
    withheld: bool
    signed: bool
    hash: str
    counted: str


def _tally(found: pb.Proposal, keys: KeySet | None) -> Tally | None:
    if not found.HasField("tally"):
        return None
    tally = found.tally
    outcome = "Passed" if tally.passed else ("Did not pass" if tally.quorum_met else "Too few took part")
    fields = [each.name for each in tally.DESCRIPTOR.fields if each.name not in ("tally_hash", "signature")]
    signed = (
        keys is not None
        and canonical_hash(tally, *fields) == tally.tally_hash
        and verify_hash(keys, tally.signature, TALLY_PREFIX, tally.tally_hash)
    )
    decided = tally.yes_count + tally.no_count
    return Tally(
        outcome=outcome,
        passed=tally.passed,
        yes=f"{tally.yes_count:,}",
        no=f"{tally.no_count:,}",
        abstain=f"{tally.abstain_count:,}",
        share=100 * tally.yes_count // decided if decided else 0,
        withheld=tally.withheld,
        signed=signed,
        hash=tally.tally_hash,
        counted=moment(tally.count_time),
    )


@dataclass(frozen=True)
class ProposalCard:
    """A proposal in a list."""

    title: str
    url: str
    state: str
    decision_class: str
    effect: str
    closes: str
    tally: Tally | None


def _when(message: pb.Proposal, field: str) -> str:
    stamp: Timestamp = getattr(message, field)
    return moment(stamp) if message.HasField(field) else ""  # type: ignore[arg-type]  # names of time fields only


def card(found: pb.Proposal) -> ProposalCard:
    effects = _effects(found.delta)
    return ProposalCard(
        title=found.title,
        url=f"/{found.name}",
        state=_STATES.get(found.state, "not public yet"),
        decision_class=_CLASSES.get(found.decision_class, ""),
        effect="; ".join(effect.title[0].lower() + effect.title[1:] for effect in effects),
        closes=_when(found, "close_time"),
        tally=_tally(found, None),
    )


@dataclass(frozen=True)
class BoardLine:
    number: int
    who: str
    says: str
    follows: str
    hash: str


@dataclass(frozen=True)
class Proposal:
    """Everything public about one proposal."""

    card: ProposalCard
    name: str
    short_name: str
    cooperative: str
    body: str
    revision: int
    reasons: str
    effects: Sequence[Effect]
    rule: Lines
    dates: Lines
    impact: Lines
    roll: Lines
    turnout: str
    tally: Tally | None
    hash: str
    hash_verified: bool
    challenges: Sequence[tuple[str, str, str]]
    mandate_request: bool
    board: Sequence[BoardLine]
    next_board: str
    first_board: bool


def proposal(
    found: pb.Proposal,
    cooperative: str,
    board: pb.ListBoardResponse,
    keys: KeySet,
    first_board: bool,
) -> Proposal:
    """cooperative: how people call it. board: a page of it. keys: governance's. first_board: whether the page is the first."""
    _, id, _, proposal_id = found.name.split("/")
    dates = [
        (label, _when(found, field))
        for label, field in (
            ("Drafted", "create_time"),
            ("Frozen", "freeze_time"),
            ("Vote opens", "open_time"),
            ("Vote closes", "close_time"),
            ("Dissent until", "dissent_end_time"),
            ("Enacted", "enact_time"),
        )
    ]
    return Proposal(
        card=card(found),
        name=found.name,
        short_name=f"{id}/{proposal_id}",
        cooperative=cooperative or id,
        body=found.body,
        revision=found.revision,
        reasons=", ".join(found.class_reasons),
        effects=_effects(found.delta),
        rule=decision_lines(found.decision_rule)[1:] if found.HasField("decision_rule") else [],
        dates=[line for line in dates if line[1]],
        impact=_impact(found),
        roll=_roll(found),
        turnout=_turnout(found),
        tally=_tally(found, keys),
        hash=found.frozen_hash,
        hash_verified=canonical_hash(found, *_FROZEN_FIELDS) == found.frozen_hash,
        challenges=[
            (
                _GROUNDS.get(each.ground, ""),
                each.statement,
                ("upheld: " if each.upheld else "turned down: ") + each.answer
                if each.HasField("resolve_time")
                else "open",
            )
            for each in found.challenges
        ],
        mandate_request=bool(found.mandate_request),
        board=[
            BoardLine(
                line.sequence,
                line.nullifier.rsplit("/", 1)[-1],
                _CHOICES.get(line.choice, "closed"),
                line.delegate_nullifier.rsplit("/", 1)[-1],
                line.entry_hash,
            )
            for line in board.entries
        ],
        next_board=board.next_page_token,
        first_board=first_board,
    )


def _impact(found: pb.Proposal) -> Lines:
    if not found.HasField("impact"):
        return []
    impact = found.impact
    lines = [
        ("Members", f"{impact.member_count:,} have data in it"),
        (
            "Consent",
            f"{impact.excluded_member_count:,} of them have not consented to this; their rows would not be served",
        ),
        ("Rows", f"{impact.record_count:,}"),
    ]
    if impact.HasField("floor_price"):
        lines.append(("Price", f"at least {format_money(impact.floor_price)} a license"))
    if impact.HasField("expected_per_member"):
        lines.append(("Each member", f"about {format_money(impact.expected_per_member)} a license, before fees"))
    if impact.live_license_count:
        lines.append(("Licenses", f"{impact.live_license_count:,} in force cite a rule that ends"))
    return lines


def _roll(found: pb.Proposal) -> Lines:
    if not found.HasField("roll"):
        return []
    roll = found.roll
    lines = [("May vote", f"{roll.eligible_count:,}")]
    if roll.excluded_count:
        lines.append(("Left out", f"{roll.excluded_count:,} with an interest in the outcome"))
    return [*lines, ("Quorum of", f"{roll.quorum_base_count:,}"), ("Merkle root", roll.merkle_root)]


def _turnout(found: pb.Proposal) -> str:
    if found.state != pb.PROPOSAL_STATE_VOTING:
        return ""
    return f"{words.count(found.turnout_count, 'member')} of {found.roll.eligible_count:,} took part so far."
