"""Interests: who would gain from a decision and therefore has no part in it."""

from __future__ import annotations

from collections.abc import Iterable

from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.refusals import Kind, Refusal


def matched(affiliations: Iterable[str], beneficiaries: Iterable[str]) -> str:
    """The beneficiary a member is tied to: the same domain, one above it, or the same LEI. Empty for none."""
    names = [(name, name.lower().rstrip(".")) for name in beneficiaries]
    for affiliation in affiliations:
        own = affiliation.lower().rstrip(".")
        for name, plain in names:
            # A faculty's domain belongs to its university; the other way round "example" would own the world.
            if own == plain or ("." in plain and own.endswith(f".{plain}")):
                return name
    return ""


def require_none(proposal: pb.Proposal, holder: str, affiliations: Iterable[str], what: str) -> None:
    """Refuses with STEWARD_CONFLICTED somebody with an interest, declared or found. what: the act, such as "enact"."""
    declared = any(interest.holder == holder for interest in proposal.interests)
    tied = matched(affiliations, proposal.beneficiaries)
    if declared or tied:
        raise Refusal(
            "STEWARD_CONFLICTED",
            f"You have an interest in {proposal.name} and cannot {what} it.",
            Kind.FORBIDDEN,
            name=proposal.name,
        )
