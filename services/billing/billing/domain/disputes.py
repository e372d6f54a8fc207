"""Disputes: a buyer's bank takes a payment back. States only move forward, and what was decided stays so."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp
from rochdale_kit.refusals import Kind, Refusal

OPEN = (pb.DISPUTE_STATE_NEEDS_RESPONSE, pb.DISPUTE_STATE_UNDER_REVIEW)
# An evidence pack that no steward sent by then is sent as it is.
LAST_CALL = dt.timedelta(hours=24)

_STATES = {
    "needs_response": pb.DISPUTE_STATE_NEEDS_RESPONSE,
    "warning_needs_response": pb.DISPUTE_STATE_NEEDS_RESPONSE,
    "under_review": pb.DISPUTE_STATE_UNDER_REVIEW,
    "warning_under_review": pb.DISPUTE_STATE_UNDER_REVIEW,
    "won": pb.DISPUTE_STATE_WON,
    # An inquiry that never became a dispute, and one that Stripe settled before it: no money was lost.
    "warning_closed": pb.DISPUTE_STATE_WON,
    "prevented": pb.DISPUTE_STATE_WON,
    "lost": pb.DISPUTE_STATE_LOST,
}


@dataclass(frozen=True)
class Moved:
    """Money a dispute moved at the rail: `amount_minor` of the payment and `fee_minor` of the rail, both as positive
    numbers, in the currency the rail keeps. `back` is the way to us."""

    transaction: str
    currency: str
    amount_minor: int
    fee_minor: int
    back: bool


@dataclass(frozen=True)
class SeenDispute:
    """What the rail itself says of a dispute."""

    rail_id: str
    status: str
    amount: Money
    reason: str
    moved: tuple[Moved, ...] = ()
    evidence_due_time: dt.datetime | None = None
    evidence_given: bool = False

    @property
    def state(self) -> pb.DisputeState.ValueType:
        """Of a status that is not known yet, the first: nothing is decided by a word we do not know."""
        return _STATES.get(self.status, pb.DISPUTE_STATE_NEEDS_RESPONSE)


@dataclass(frozen=True)
class Dispute:
    """A dispute. `held` is what the bank has, in the currency the rail keeps; `frozen_minor` what was frozen of the
    cooperative's share."""

    id: str
    order_id: str
    rail_id: str
    amount: Money
    reason: str
    create_time: dt.datetime
    state: pb.DisputeState.ValueType = pb.DISPUTE_STATE_NEEDS_RESPONSE
    held: Money | None = None
    frozen_minor: int = 0
    evidence_due_time: dt.datetime | None = None
    evidence_time: dt.datetime | None = None
    close_time: dt.datetime | None = None

    @property
    def name(self) -> str:
        return f"orders/{self.order_id}/disputes/{self.id}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    def resource(self) -> pb.Dispute:
        return pb.Dispute(
            name=self.name,
            amount=self.amount,
            reason=self.reason,
            state=self.state,
            evidence_due_time=to_timestamp(self.evidence_due_time),
            evidence_time=to_timestamp(self.evidence_time),
            create_time=to_timestamp(self.create_time),
            close_time=to_timestamp(self.close_time),
        )


def judge(dispute: Dispute, seen: SeenDispute, at: dt.datetime) -> Dispute:
    """The dispute as it is now; one that was decided never changes, whatever arrives late."""
    if not dispute.is_open:
        return dispute
    state = max(dispute.state, seen.state)
    return replace(
        dispute,
        state=state,
        amount=seen.amount,
        evidence_due_time=seen.evidence_due_time or dispute.evidence_due_time,
        evidence_time=dispute.evidence_time or (at if seen.evidence_given else None),
        close_time=None if state in OPEN else at,
    )


def not_open(dispute: Dispute) -> Refusal:
    state = pb.DisputeState.Name(dispute.state).removeprefix("DISPUTE_STATE_")
    given = dispute.evidence_time is not None and dispute.is_open
    return Refusal(
        "DISPUTE_NOT_OPEN",
        f"{dispute.name} has its evidence already." if given else f"{dispute.name} is {state.lower()}.",
        Kind.STATE,
        dispute=dispute.name,
        state=state,
    )
