"""Which of two records of a member's consent counts. Whether one covers a license is the kit's to say."""

from __future__ import annotations

from rochdale.governance.v1 import membership_pb2
from rochdale_kit.clock import from_timestamp


def is_later(heard: membership_pb2.Consent, known: membership_pb2.Consent) -> bool:
    """Whether a record takes the place of the one known: events may come twice and in any order, and an end stays."""
    if heard.name == known.name:
        return heard.HasField("end_time") and not known.HasField("end_time")
    return (from_timestamp(heard.give_time), heard.name) > (from_timestamp(known.give_time), known.name)
