"""A cooperative's next public key: whether it follows from those before it, and begins about now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from governance.domain.rules import CLOCKS_APART
from rochdale.governance.v1 import governance_pb2 as pb
from rochdale_kit.clock import from_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.refusals import Kind, Refusal


def require_next(cooperative: str, keys: Sequence[pb.CooperativeKey], key: pb.CooperativeKey, now: dt.datetime) -> None:
    """Refuses with COOPERATIVE_KEY_INVALID a key that does not follow the latest, or begins at another time than now.

    cooperative: resource name. keys: those it has, first to latest. A key that began earlier could sign what its
    predecessor's holder never saw.
    """
    CooperativeKeys.follow(cooperative, [*keys, key])
    if abs(from_timestamp(key.begin_time) - now) > CLOCKS_APART:
        raise Refusal(
            "COOPERATIVE_KEY_INVALID",
            f"The key {key.key_id} begins at {key.begin_time.ToJsonString()}, which is not about now.",
            Kind.INVALID,
            key_id=key.key_id,
            begin_time=key.begin_time.ToJsonString(),
        )
