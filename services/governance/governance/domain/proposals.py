"""Proposals: where one stands and what moves it on, what is frozen, and who may see it. No clock, no ids."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from governance.domain import tally as tallies
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.clock import from_timestamp
from rochdale_kit.identity import Principal
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import TALLY_PREFIX, KeySet, canonical_hash, verify_hash

# How long a draft may look for sponsors, and how long before its rules end a decision is due for review.
SPONSORING = dt.timedelta(days=90)
REVIEW = dt.timedelta(days=60)

FROZEN_FIELDS = (
    "name",
    "revision",
    "title",
    "body",
    "delta",
    "decision_class",
    "decision_rule",
    "beneficiaries",
)

DRAFT, LOOKING, DEBATED = (
    pb.PROPOSAL_STATE_DRAFT,
    pb.PROPOSAL_STATE_SPONSORING,
    pb.PROPOSAL_STATE_DELIBERATION,
)
FROZEN, VOTING = pb.PROPOSAL_STATE_FROZEN, pb.PROPOSAL_STATE_VOTING
# Before the freeze, where only members and stewards look in; and before the vote, where it can be taken back.
UNFROZEN = frozenset({DRAFT, LOOKING, DEBATED})
NOT_OPENED = UNFROZEN | {FROZEN}
CHALLENGEABLE = frozenset({VOTING, pb.PROPOSAL_STATE_DISSENT_WINDOW, pb.PROPOSAL_STATE_AWAITING_SIGNATURE})
AMENDABLE = frozenset({DRAFT, LOOKING, DEBATED, FROZEN, VOTING})


class Step(enum.Enum):
    """What time, sponsors or voters bring about without anybody deciding it."""

    ADMIT = "enough sponsors: the debate begins"
    DISMISS = "too few sponsors in time"
    OPEN = "notice is over: the vote opens"
    CLOSE = "the vote is over: it is counted"
    END_DISSENT = "the dissent window is over"
    REVIEW = "its rules end soon"
    EXPIRE = "its rules have ended by themselves"
    GIVE_WAY = "later decisions ended its rules"


@dataclass(frozen=True)
class Facts:
    """What is known beside the proposal itself. Times are absent where there is nothing they could be of.

    sponsor_until: by when sponsors must be found. sponsored: whether a steward sponsors it, which is enough. close_time:
    of the open vote, extension included. all_voted: whether everybody on the roll voted in person. review_time: when its
    rules end soon. live_rules: how many of its rules are in force. lapsed_rules: how many ended by themselves.
    """

    sponsor_until: dt.datetime | None = None
    sponsored: bool = False
    close_time: dt.datetime | None = None
    all_voted: bool = False
    review_time: dt.datetime | None = None
    live_rules: int = 0
    lapsed_rules: int = 0


def advance(proposal: pb.Proposal, now: dt.datetime, facts: Facts) -> Step | None:
    """The next step a proposal takes by itself at that time; None if it stays where it is."""
    state = proposal.state
    if state == LOOKING:
        if facts.sponsored or proposal.sponsor_count >= proposal.decision_rule.sponsor_min:
            return Step.ADMIT
        return Step.DISMISS if facts.sponsor_until is not None and now >= facts.sponsor_until else None
    if state == FROZEN:
        return Step.OPEN if now >= from_timestamp(proposal.open_time) else None
    if state == VOTING:
        early = facts.all_voted and proposal.decision_rule.close_when_all_voted
        # On an empty roll nobody can vote: waiting changes nothing, and the vote runs its time all the same.
        return Step.CLOSE if early or (facts.close_time is not None and now >= facts.close_time) else None
    if state == pb.PROPOSAL_STATE_DISSENT_WINDOW:
        return Step.END_DISSENT if now >= from_timestamp(proposal.dissent_end_time) else None
    if state in (pb.PROPOSAL_STATE_ENACTED, pb.PROPOSAL_STATE_REVIEW_DUE) and proposal.delta.rules:
        if not facts.live_rules:
            return Step.EXPIRE if facts.lapsed_rules else Step.GIVE_WAY
        due = state == pb.PROPOSAL_STATE_ENACTED and facts.review_time is not None and now >= facts.review_time
        return Step.REVIEW if due else None
    return None


def due_time(proposal: pb.Proposal, facts: Facts) -> dt.datetime | None:
    """When to look again though nobody asks; None for never. Rules that end bring their proposal along by themselves."""
    return {
        LOOKING: facts.sponsor_until,
        FROZEN: from_timestamp(proposal.open_time),
        VOTING: facts.close_time,
        pb.PROPOSAL_STATE_DISSENT_WINDOW: from_timestamp(proposal.dissent_end_time),
        pb.PROPOSAL_STATE_ENACTED: facts.review_time,
    }.get(proposal.state)


def overdue(proposal: pb.Proposal, now: dt.datetime) -> bool:
    """Whether a clock the proposal itself shows has run out, so that it is about to move."""
    clock = {FROZEN: "open_time", VOTING: "close_time", pb.PROPOSAL_STATE_DISSENT_WINDOW: "dissent_end_time"}.get(
        proposal.state
    )
    return clock is not None and now >= from_timestamp(getattr(proposal, clock))


def review_time(begin: dt.datetime, expire: dt.datetime) -> dt.datetime:
    """When a rule's end comes near: 60 days before, or at half its life if it lives less than 120."""
    return expire - min(REVIEW, (expire - begin) / 2)


def frozen_hash(proposal: pb.Proposal) -> str:
    """What every ballot is bound to."""
    return canonical_hash(proposal, *FROZEN_FIELDS)


def outcome(tally: pb.Tally) -> pb.ProposalState.ValueType:
    """Where a counted proposal goes."""
    if not tally.quorum_met:
        return pb.PROPOSAL_STATE_QUORUM_FAILED
    return pb.PROPOSAL_STATE_DISSENT_WINDOW if tally.passed else pb.PROPOSAL_STATE_REJECTED


def intact(proposal: pb.Proposal, keys: KeySet) -> bool:
    """Whether text, delta and tally are still those that were frozen, voted on and counted. keys: governance's own."""
    if frozen_hash(proposal) != proposal.frozen_hash:
        return False
    if not proposal.HasField("tally"):
        return True
    tally = proposal.tally
    return (
        tally.frozen_hash == proposal.frozen_hash
        and tally.proposal == proposal.name
        and canonical_hash(tally, *tallies.FIELDS) == tally.tally_hash
        and verify_hash(keys, tally.signature, TALLY_PREFIX, tally.tally_hash)
    )


def sees(principal: Principal | None, proposal: pb.Proposal, cooperative_id: str) -> bool:
    """Whether somebody may look: anybody from the freeze on, members before, its author and stewards at a draft."""
    if proposal.freeze_time.seconds or proposal.frozen_hash:
        return True
    if principal is None:
        return False
    if principal.is_operator:
        return True
    if principal.organization != cooperative_id:
        return False
    if identity_pb2.ROLE_STEWARD in principal.roles:
        return True
    return bool(principal.member) and (proposal.state != DRAFT or proposal.author == principal.member)


def shown_to(principal: Principal | None, proposal: pb.Proposal, cooperative_id: str) -> pb.Proposal:
    """The proposal as somebody may see it. Interests are the cooperative's own matter; where somebody works is theirs."""
    inside = principal is not None and (principal.is_operator or principal.organization == cooperative_id)
    steward = principal is not None and (principal.is_operator or identity_pb2.ROLE_STEWARD in principal.roles)
    if inside and steward:
        return proposal
    shown = pb.Proposal()
    shown.CopyFrom(proposal)
    if not inside:
        del shown.interests[:]
    for interest in shown.interests:
        if not interest.declared and principal is not None and interest.holder != principal.member:
            interest.statement = ""
    return shown


def require_revision(proposal: pb.Proposal, seen: int) -> None:
    if proposal.revision != seen:
        raise Refusal(
            "PROPOSAL_CHANGED",
            f"{proposal.name} is at revision {proposal.revision} by now, not {seen}.",
            Kind.STATE,
            name=proposal.name,
            revision=proposal.revision,
            seen_revision=seen,
        )


def wrong_state(reason: str, proposal: pb.Proposal, what: str) -> Refusal:
    """A refusal because of where the proposal stands. what: the rest of the sentence, such as "is not debated"."""
    state = pb.ProposalState.Name(proposal.state)
    word = state.removeprefix("PROPOSAL_STATE_").replace("_", " ").lower()
    return Refusal(reason, f"{proposal.name} {what}; it is {word}.", Kind.STATE, name=proposal.name, state=state)


def told(proposal: pb.Proposal) -> pb.Proposal:
    """The proposal as an event carries it: without text, comments, challenges, and who has an interest."""
    short = pb.Proposal()
    short.CopyFrom(proposal)
    short.ClearField("body")
    del short.challenges[:]
    del short.interests[:]
    return short
