"""The moves of a negotiation, in the states of the Dataspace Protocol 2025-1. Every function gives a new negotiation."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import TypeAlias

from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import pricing_pb2, scope_pb2
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.refusals import Kind, Refusal

State: TypeAlias = pb.NegotiationState.ValueType
Party: TypeAlias = pb.Party.ValueType

# Which state may follow which; REQUESTED -> AGREED is the cooperative agreeing to a request as it stands.
FOLLOWS: Mapping[State, frozenset[State]] = {
    pb.NEGOTIATION_STATE_UNSPECIFIED: frozenset({pb.NEGOTIATION_STATE_REQUESTED}),
    pb.NEGOTIATION_STATE_REQUESTED: frozenset(
        {pb.NEGOTIATION_STATE_OFFERED, pb.NEGOTIATION_STATE_AGREED, pb.NEGOTIATION_STATE_TERMINATED}
    ),
    pb.NEGOTIATION_STATE_OFFERED: frozenset(
        {pb.NEGOTIATION_STATE_REQUESTED, pb.NEGOTIATION_STATE_ACCEPTED, pb.NEGOTIATION_STATE_TERMINATED}
    ),
    pb.NEGOTIATION_STATE_ACCEPTED: frozenset({pb.NEGOTIATION_STATE_AGREED, pb.NEGOTIATION_STATE_TERMINATED}),
    pb.NEGOTIATION_STATE_AGREED: frozenset({pb.NEGOTIATION_STATE_VERIFIED, pb.NEGOTIATION_STATE_TERMINATED}),
    pb.NEGOTIATION_STATE_VERIFIED: frozenset({pb.NEGOTIATION_STATE_FINALIZED, pb.NEGOTIATION_STATE_TERMINATED}),
    pb.NEGOTIATION_STATE_FINALIZED: frozenset(),
    pb.NEGOTIATION_STATE_TERMINATED: frozenset(),
}
# Whose move it is; in every other state it is nobody's.
MOVER: Mapping[State, Party] = {
    pb.NEGOTIATION_STATE_REQUESTED: pb.PARTY_COOPERATIVE,
    pb.NEGOTIATION_STATE_OFFERED: pb.PARTY_BUYER,
}

AS_PUBLISHED = "The offering as it is published."


def etag(name: str, steps: int) -> str:
    """Changes with every step. A hash, so that nobody is tempted to count with it."""
    return hashlib.sha256(f"{name}#{steps}".encode()).hexdigest()[:16]


def requested(
    name: str,
    offering: str,
    licensee: str,
    cooperative: str,
    scope: scope_pb2.SharingScope,
    plan: pricing_pb2.PricePlan | None,
    message: str,
    at: dt.datetime,
    answer_by: dt.datetime,
) -> pb.Negotiation:
    """A new negotiation, which starts with the buyer's request. plan: how the price is due, which nobody can change."""
    empty = pb.Negotiation(
        name=name,
        offering=offering,
        licensee=licensee,
        cooperative=cooperative,
        create_time=to_timestamp(at),
        price_plan=plan,
    )
    return _moved(empty, pb.PARTY_BUYER, pb.NEGOTIATION_STATE_REQUESTED, at, message, scope, answer_by)


def countered(
    before: pb.Negotiation,
    party: Party,
    scope: scope_pb2.SharingScope,
    message: str,
    at: dt.datetime,
    answer_by: dt.datetime,
) -> pb.Negotiation:
    """Other terms on the table, and the move goes to the other side."""
    state = pb.NEGOTIATION_STATE_OFFERED if party == pb.PARTY_COOPERATIVE else pb.NEGOTIATION_STATE_REQUESTED
    return _moved(before, party, state, at, message, scope, answer_by)


def agreed(before: pb.Negotiation, party: Party, license: str, at: dt.datetime, pay_by: dt.datetime) -> pb.Negotiation:
    """What is on the table is agreed.

    party: who took it: the buyer an offer, the cooperative a request, or the market, which carries out what the
    cooperative published and the buyer asked for, and says so in each step.
    """
    after = before
    if party == pb.PARTY_MARKET:
        after = _moved(after, party, pb.NEGOTIATION_STATE_OFFERED, at, AS_PUBLISHED)
    if party != pb.PARTY_COOPERATIVE:
        after = _moved(after, party, pb.NEGOTIATION_STATE_ACCEPTED, at)
    signer = pb.PARTY_COOPERATIVE if party == pb.PARTY_COOPERATIVE else pb.PARTY_MARKET
    after = _moved(after, signer, pb.NEGOTIATION_STATE_AGREED, at, expire_time=pay_by)
    after.license = license
    return after


def paid(before: pb.Negotiation, at: dt.datetime) -> pb.Negotiation:
    """The buyer met its side, and the license is active."""
    verified = _moved(before, pb.PARTY_MARKET, pb.NEGOTIATION_STATE_VERIFIED, at)
    return _moved(verified, pb.PARTY_MARKET, pb.NEGOTIATION_STATE_FINALIZED, at)


def terminated(before: pb.Negotiation, party: Party, message: str, at: dt.datetime) -> pb.Negotiation:
    return _moved(before, party, pb.NEGOTIATION_STATE_TERMINATED, at, message)


def require_move(negotiation: pb.Negotiation, party: Party, seen: str, at: dt.datetime) -> None:
    """Refuses who answers what it has not seen (NEGOTIATION_CHANGED), or out of turn or time (NOT_YOUR_MOVE)."""
    if seen != negotiation.etag:
        raise Refusal(
            "NEGOTIATION_CHANGED",
            f"{negotiation.name} has changed since you looked; look again.",
            Kind.STATE,
            negotiation=negotiation.name,
            etag=negotiation.etag,
        )
    word = pb.NegotiationState.Name(negotiation.state)
    if MOVER.get(negotiation.state) != party:
        raise Refusal(
            "NOT_YOUR_MOVE",
            f"{negotiation.name} is {word.removeprefix('NEGOTIATION_STATE_')}, and it is not your move.",
            Kind.STATE,
            negotiation=negotiation.name,
            state=word,
        )
    # The loop that ends it may be a moment late; its deadline is not.
    if from_timestamp(negotiation.expire_time) <= at:
        until = from_timestamp(negotiation.expire_time).isoformat()
        raise Refusal(
            "NOT_YOUR_MOVE",
            f"{negotiation.name} could be answered until {until}.",
            Kind.STATE,
            negotiation=negotiation.name,
            expire_time=until,
        )


def require_under_way(negotiation: pb.Negotiation) -> None:
    """Refuses to end what is over or has led to a license with NEGOTIATION_OVER."""
    if negotiation.state not in MOVER:
        word = pb.NegotiationState.Name(negotiation.state)
        raise Refusal(
            "NEGOTIATION_OVER",
            f"{negotiation.name} is {word.removeprefix('NEGOTIATION_STATE_')}.",
            Kind.STATE,
            negotiation=negotiation.name,
            state=word,
            license=negotiation.license,
        )


def _moved(
    before: pb.Negotiation,
    party: Party,
    state: State,
    at: dt.datetime,
    message: str = "",
    scope: scope_pb2.SharingScope | None = None,
    expire_time: dt.datetime | None = None,
) -> pb.Negotiation:
    # A program fault, not a refusal: every caller has checked before whose move it is.
    assert state in FOLLOWS[before.state], f"{before.state} -> {state}"
    after = pb.Negotiation()
    after.CopyFrom(before)
    after.state = state
    if scope is not None:
        after.scope.CopyFrom(scope)
        after.price.CopyFrom(scope.floor_price)
    after.ClearField("expire_time")
    if expire_time is not None:
        after.expire_time.FromDatetime(expire_time)
    step = after.steps.add(
        number=len(before.steps) + 1,
        party=party,
        state=state,
        scope=after.scope,
        price=after.price,
        message=message,
    )
    step.step_time.FromDatetime(at)
    after.etag = etag(after.name, step.number)
    return after
