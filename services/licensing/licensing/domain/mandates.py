"""Requests outside the mandate: what a buyer asks the members for, what of it no rule allows, and how it is answered."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from licensing.domain.deals import plan_of, tier_or_none
from licensing.domain.licensees import require_attested
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2, proposals_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import pricing_pb2, scope_pb2
from rochdale_kit.clock import to_timestamp
from rochdale_kit.money import require_currency
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import escapes, overlaps, require_well_formed

State: TypeAlias = pb.MandateRequestState.ValueType

DEFAULT_RESPONSE = dt.timedelta(days=30)
MAX_BENEFICIARIES = 50
NOT_ANSWERED = "It was not put to the members in time."

# The response clock runs until the text is frozen for a vote.
WAITING = (pb.MANDATE_REQUEST_STATE_REQUESTED, pb.MANDATE_REQUEST_STATE_DRAFTED)
OPEN = (*WAITING, pb.MANDATE_REQUEST_STATE_UNDER_VOTE, pb.MANDATE_REQUEST_STATE_GRANTED)

_DRAFTED, _VOTE = pb.MANDATE_REQUEST_STATE_DRAFTED, pb.MANDATE_REQUEST_STATE_UNDER_VOTE
_GRANTED, _DECLINED = pb.MANDATE_REQUEST_STATE_GRANTED, pb.MANDATE_REQUEST_STATE_DECLINED
# What a proposal's state means for the request it answers. A state not listed means nothing new.
_FOLLOWS: Mapping[int, State] = {
    proposals_pb2.PROPOSAL_STATE_DRAFT: _DRAFTED,
    proposals_pb2.PROPOSAL_STATE_SPONSORING: _DRAFTED,
    proposals_pb2.PROPOSAL_STATE_DELIBERATION: _DRAFTED,
    proposals_pb2.PROPOSAL_STATE_FROZEN: _VOTE,
    proposals_pb2.PROPOSAL_STATE_VOTING: _VOTE,
    proposals_pb2.PROPOSAL_STATE_DISSENT_WINDOW: _VOTE,
    proposals_pb2.PROPOSAL_STATE_AWAITING_SIGNATURE: _VOTE,
    proposals_pb2.PROPOSAL_STATE_ENACTED: _GRANTED,
    proposals_pb2.PROPOSAL_STATE_WITHDRAWN: _DECLINED,
    proposals_pb2.PROPOSAL_STATE_NOT_ADMITTED: _DECLINED,
    proposals_pb2.PROPOSAL_STATE_QUORUM_FAILED: _DECLINED,
    proposals_pb2.PROPOSAL_STATE_REJECTED: _DECLINED,
    proposals_pb2.PROPOSAL_STATE_ANNULLED: _DECLINED,
}
_WHY: Mapping[int, str] = {
    proposals_pb2.PROPOSAL_STATE_WITHDRAWN: "The proposal was taken back before the vote.",
    proposals_pb2.PROPOSAL_STATE_NOT_ADMITTED: "The proposal found too few sponsors.",
    proposals_pb2.PROPOSAL_STATE_QUORUM_FAILED: "Too few members took part in the vote",
    proposals_pb2.PROPOSAL_STATE_REJECTED: "Members voted against it",
    proposals_pb2.PROPOSAL_STATE_ANNULLED: "The vote was annulled after a challenge.",
}


def asked_scope(
    offering: catalog_pb2.Offering, licensee: pb.Licensee | None, wish: pb.Wish, at: dt.datetime
) -> scope_pb2.SharingScope:
    """What is asked for: the wish, and for what it leaves out the offering, for this buyer. It may leave every rule.

    Refuses with LICENSEE_NOT_ATTESTED, CURRENCY_UNKNOWN, SCOPE_ILL_FORMED.
    """
    attested = require_attested(licensee, at)
    scope = scope_pb2.SharingScope()
    scope.CopyFrom(offering.scope)
    scope.categories[:] = [attested.category]
    scope.territories[:] = [attested.territory]
    if wish.purposes:
        scope.purposes[:] = dict.fromkeys(wish.purposes)
    if wish.actions:
        scope.actions[:] = dict.fromkeys(wish.actions)
    if wish.columns:
        if len(scope.datasets) != 1:
            raise Refusal(
                "SCOPE_ILL_FORMED",
                f"{offering.name} holds {len(scope.datasets)} datasets; columns can be asked only of one.",
                Kind.INVALID,
                datasets=len(scope.datasets),
            )
        scope.datasets[0].columns[:] = dict.fromkeys(wish.columns)
    if wish.mode:
        scope.max_mode = wish.mode
    if wish.duration_seconds:
        scope.max_duration_seconds = wish.duration_seconds
    if wish.HasField("price"):
        require_currency(wish.price.currency)
        scope.floor_price.CopyFrom(wish.price)
    elif tier := tier_or_none(offering, attested.category):
        scope.floor_price.CopyFrom(tier.price)
    require_well_formed(scope)
    return scope


def asked_plan(offering: catalog_pb2.Offering | None, request: pb.MandateRequest) -> pricing_pb2.PricePlan | None:
    """How the price asked is due: as in the offering the request started from. None for once."""
    return None if offering is None else plan_of(tier_or_none(offering, request.scope.categories[0]))


def outside(scope: scope_pb2.SharingScope, rules: Sequence[governance_pb2.SharingRule]) -> list[str]:
    """Why no rule allows a scope, a sentence each: what leaves the rule that fits best, and whatever forbids it. Empty
    if one allows it.

    rules: all of the cooperative in force.
    """
    allowing = [rule for rule in rules if rule.effect == governance_pb2.RULE_EFFECT_ALLOW]
    # The fewest dimensions outside; of several such the oldest, so that the same question has the same answer.
    best = min((escapes(rule.scope, scope) for rule in allowing), key=len, default=None)
    sentences = ["No rule that allows anything is in force."] if best is None else [f"{one}." for one in best]
    return sentences + [
        f"It meets what {rule.name} forbids."
        for rule in rules
        if rule.effect == governance_pb2.RULE_EFFECT_DENY and overlaps(rule.scope, scope)
    ]


def requested(
    name: str,
    offering: catalog_pb2.Offering,
    licensee: pb.Licensee,
    scope: scope_pb2.SharingScope,
    why: Sequence[str],
    message: str,
    at: dt.datetime,
    respond: dt.timedelta,
) -> pb.MandateRequest:
    """A new request. Refuses one that nobody has to decide about with MANDATE_NOT_NEEDED."""
    if not why:
        raise Refusal(
            "MANDATE_NOT_NEEDED",
            "The members' rules allow this already; request the license, or ask the cooperative to offer it.",
            Kind.STATE,
            offering=offering.name,
        )
    return pb.MandateRequest(
        name=name,
        offering=offering.name,
        licensee=licensee.name,
        cooperative=offering.name.partition("/offerings/")[0],
        scope=scope,
        outside=why,
        message=message,
        state=pb.MANDATE_REQUEST_STATE_REQUESTED,
        beneficiaries=beneficiaries(licensee),
        create_time=to_timestamp(at),
        respond_by_time=to_timestamp(at + respond),
    )


def response_time(cooperative: governance_pb2.Cooperative | None) -> dt.timedelta:
    """How long a cooperative's charter gives it to answer."""
    seconds = cooperative.charter.response_seconds if cooperative is not None else 0
    return dt.timedelta(seconds=seconds) if seconds else DEFAULT_RESPONSE


def beneficiaries(licensee: pb.Licensee) -> list[str]:
    """Domains and LEIs by which registers know a buyer and the group it belongs to."""
    found: dict[str, None] = {}
    for claim in licensee.claims:
        if claim.state != pb.CLAIM_STATE_VERIFIED:
            continue
        if claim.register == pb.REGISTER_LEI:
            found |= dict.fromkeys(one for one in (claim.identifier, claim.ultimate_parent) if one)
        found |= dict.fromkeys(claim.found_domains)
    return list(found)[:MAX_BENEFICIARIES]


def moved(before: pb.MandateRequest, proposal: proposals_pb2.Proposal) -> pb.MandateRequest | None:
    """The request after its proposal moved; None if that changes nothing, as when it is heard twice or late."""
    state = _FOLLOWS.get(proposal.state)
    if state is None or before.state not in OPEN or before.proposal not in ("", proposal.name):
        return None
    # The states are numbered in their order, so one heard late or twice is no larger and takes nothing back. A proposal
    # amended after the freeze is debated again; its request stays where it was, and its clock has stopped.
    if state <= before.state:
        return None
    after = _copy(before, state)
    after.proposal = proposal.name
    if state == _DECLINED:
        after.decline_reason = _reason(proposal)
    return after


def continued(before: pb.MandateRequest, negotiation: str) -> pb.MandateRequest:
    after = _copy(before, pb.MANDATE_REQUEST_STATE_CONTINUED)
    after.negotiation = negotiation
    return after


def declined(before: pb.MandateRequest, why: str) -> pb.MandateRequest:
    after = _copy(before, _DECLINED)
    after.decline_reason = why
    return after


def withdrawn(before: pb.MandateRequest) -> pb.MandateRequest:
    """Taken back. Refuses what has been answered with MANDATE_REQUEST_OVER."""
    if before.state not in OPEN:
        word = pb.MandateRequestState.Name(before.state)
        raise Refusal(
            "MANDATE_REQUEST_OVER",
            f"{before.name} is {word.removeprefix('MANDATE_REQUEST_STATE_')}.",
            Kind.STATE,
            mandate_request=before.name,
            state=word,
        )
    return _copy(before, pb.MANDATE_REQUEST_STATE_WITHDRAWN)


def require_open_to(offering: catalog_pb2.Offering, request: pb.MandateRequest | None, licensee: str) -> None:
    """Refuses an offering that answers another buyer's request with CATEGORY_NOT_OFFERED. licensee: bare id."""
    if offering.mandate_request and (request is None or request.licensee != f"licensees/{licensee}"):
        raise Refusal(
            "CATEGORY_NOT_OFFERED",
            f"{offering.name} answers the request of one buyer, and is open to that buyer alone.",
            Kind.STATE,
            offering=offering.name,
        )


def _reason(proposal: proposals_pb2.Proposal) -> str:
    """Why, with the numbers where members may know them."""
    why, tally = _WHY[proposal.state], proposal.tally
    if why.endswith("."):
        return why
    if not proposal.HasField("tally") or tally.withheld:
        return f"{why}."
    counts = f"{tally.yes_count} yes, {tally.no_count} no, {tally.abstain_count} abstained"
    return f"{why}: {counts}, of {tally.quorum_base_count} members."


def _copy(before: pb.MandateRequest, state: State) -> pb.MandateRequest:
    after = pb.MandateRequest()
    after.CopyFrom(before)
    after.state = state
    return after
