"""What members are told when a proposal moves on. Who is told, and by which way, is not here."""

from __future__ import annotations

from dataclasses import dataclass

from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.scope_words import moment

BEFORE_THE_COUNT = frozenset(
    {
        pb.PROPOSAL_STATE_SPONSORING,
        pb.PROPOSAL_STATE_DELIBERATION,
        pb.PROPOSAL_STATE_FROZEN,
        pb.PROPOSAL_STATE_VOTING,
        pb.PROPOSAL_STATE_WITHDRAWN,
    }
)


@dataclass(frozen=True)
class News:
    """One notice."""

    subject: str
    text: str


def news(proposal: pb.Proposal) -> News | None:
    """What members are told of the state a proposal just reached; None where it concerns nobody yet."""
    title = proposal.title
    subject, text = {
        pb.PROPOSAL_STATE_FROZEN: (
            f"Announced: {title}",
            f"Members vote on it from {moment(proposal.open_time)}.\n\n{proposal.impact.summary}",
        ),
        pb.PROPOSAL_STATE_VOTING: (
            f"Vote open: {title}",
            f"You can vote until {moment(proposal.close_time)}.\n\n{proposal.impact.summary}",
        ),
        pb.PROPOSAL_STATE_DISSENT_WINDOW: (
            f"Passed: {title}",
            f"{_numbers(proposal)} Until {moment(proposal.dissent_end_time)} you can withdraw your consent before it "
            "takes effect, or challenge the vote.",
        ),
        pb.PROPOSAL_STATE_REJECTED: (f"Rejected: {title}", _numbers(proposal)),
        pb.PROPOSAL_STATE_QUORUM_FAILED: (f"Too few took part: {title}", _numbers(proposal)),
        pb.PROPOSAL_STATE_ENACTED: (f"In force: {title}", proposal.impact.summary),
        pb.PROPOSAL_STATE_ANNULLED: (
            f"Annulled: {title}",
            "A challenge was upheld, or the text is no longer the one that was frozen. Nothing changes.",
        ),
        pb.PROPOSAL_STATE_REVIEW_DUE: (
            f"Ends soon: {title}",
            "A proposal to renew it has been drafted and looks for sponsors.",
        ),
        pb.PROPOSAL_STATE_EXPIRED: (f"Ended: {title}", "Its rules have ended by themselves."),
    }.get(proposal.state, ("", ""))
    return News(subject, text) if subject else None


def _numbers(proposal: pb.Proposal) -> str:
    tally = proposal.tally
    if tally.withheld:
        return "Fewer than ten voted by secret ballot, so the numbers are not told."
    return f"{tally.yes_count} yes, {tally.no_count} no, {tally.abstain_count} abstained; {tally.eligible_count} could vote."
