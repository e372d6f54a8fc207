"""Which of a member's rows reached whom, and the notice that asks for their deletion."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.consent import covers
from rochdale_kit.signing import DELETION_NOTICE_PREFIX, SigningKey, canonical_hash, sign_hash

DAY_SECONDS = 86_400
# A gateway tells once a second what left, by the time the first of it did; in doubt it is a use.
TOLD_WITHIN = dt.timedelta(seconds=2)
FIELDS = (
    "name",
    "cooperative",
    "license",
    "recipient",
    "versions",
    "rows_hashes",
    "row_count",
    "ground",
    "due_time",
    "issue_time",
)


@dataclass(frozen=True)
class Delivered:
    """Rows of one member in a version that was delivered under a license. Times bound the deliveries."""

    license: str
    recipient: str
    category: int
    purposes: tuple[str, ...]
    dataset: str
    version: str
    row_count: int
    rows_hash: str
    first_time: dt.datetime
    last_time: dt.datetime


def reached(delivered: Delivered, history: Iterable[pb.Consent]) -> bool:
    """Whether the member's rows were in what was delivered: at some time of the deliveries a consent covered it."""
    return any(_covered_within(consent, delivered) for consent in history)


def _covered_within(consent: pb.Consent, delivered: Delivered) -> bool:
    begun = from_timestamp(consent.give_time) <= delivered.last_time + TOLD_WITHIN
    over = consent.HasField("end_time") and from_timestamp(consent.end_time) < delivered.first_time
    if not begun or over:
        return False
    # As it was while it stood; its end is a later matter.
    given = pb.Consent()
    given.CopyFrom(consent)
    given.status = pb.CONSENT_STATUS_GIVEN if consent.purposes else pb.CONSENT_STATUS_REFUSED
    return covers(given, delivered.dataset, delivered.category, delivered.purposes)


def notice(
    name: str,
    cooperative: str,
    rows: Sequence[Delivered],
    ground: pb.DeletionGround.ValueType,
    deletion_seconds: int,
    now: dt.datetime,
    key: SigningKey,
) -> pb.DeletionNotice:
    """The signed notice to one licensee. rows: of one license, at least one."""
    made = pb.DeletionNotice(
        name=name,
        cooperative=cooperative,
        license=rows[0].license,
        recipient=rows[0].recipient,
        versions=sorted({one.version for one in rows}),
        rows_hashes=sorted({one.rows_hash for one in rows}),
        row_count=sum(one.row_count for one in rows),
        ground=ground,
        due_time=to_timestamp(now + dt.timedelta(seconds=deletion_seconds or 30 * DAY_SECONDS)),
        issue_time=to_timestamp(now),
    )
    made.signature.CopyFrom(sign_hash(key, DELETION_NOTICE_PREFIX, canonical_hash(made, *FIELDS)))
    return made
