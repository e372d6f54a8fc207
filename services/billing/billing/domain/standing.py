"""Whether a license may be used as far as its money is concerned: what follows from everything that speaks against it."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass

from rochdale.billing.v1 import events_pb2 as pb


class Cause(enum.StrEnum):
    """What speaks against a license; its name is the reason that is told. The first of several is the one told."""

    REFUNDED = "REFUNDED"
    NOT_PAID = "NOT_PAID"
    CANCELED = "CANCELED"
    DISPUTED = "DISPUTED"
    PAST_DUE = "PAST_DUE"
    CAP_REACHED = "CAP_REACHED"

    @property
    def final(self) -> bool:
        """Whether it ends the license for good; the others hold it while they last."""
        return self in (Cause.REFUNDED, Cause.NOT_PAID, Cause.CANCELED)


@dataclass(frozen=True)
class Standing:
    """How a license stands; `sequence` counts the changes that were told, 0 for none."""

    state: pb.Standing.ValueType = pb.STANDING_GOOD
    reason: str = ""
    sequence: int = 0


def after(standing: Standing, causes: Collection[Cause]) -> Standing:
    """How it stands with these causes. The same object when nothing changes; what ended stays as it ended."""
    if standing.state == pb.STANDING_ENDED:
        return standing
    first = next((cause for cause in Cause if cause in causes), None)
    if first is None:
        state, reason = pb.STANDING_GOOD, ""
    else:
        state, reason = (pb.STANDING_ENDED if first.final else pb.STANDING_HELD), first.value
    if (state, reason) == (standing.state, standing.reason):
        return standing
    return Standing(state, reason, standing.sequence + 1)
