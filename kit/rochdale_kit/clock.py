"""Time and ids, made at the edge and handed to the rules. Nothing else in the product asks for either."""

from __future__ import annotations

import datetime as dt
import time
from typing import overload

from google.protobuf.timestamp_pb2 import Timestamp
from ulid import ULID

UTC = dt.UTC

_ahead = dt.timedelta()


def now() -> dt.datetime:
    """The time, in UTC, with microseconds."""
    return dt.datetime.now(UTC) + _ahead


def seconds() -> float:
    """The same in seconds since 1970, for what is compared with tokens and files on every request."""
    return time.time() + _ahead.total_seconds()


def move(by: dt.timedelta) -> None:
    """Moves this process's clock on (or back, before anything happened), for rehearsals that live through months in
    seconds. No service calls it."""
    global _ahead
    _ahead += by


def new_id(prefix: str) -> str:
    """A new id: prefix, underscore, 26 characters that sort by time."""
    return f"{prefix}_{ULID.from_datetime(now())}"


@overload
def to_timestamp(moment: dt.datetime) -> Timestamp: ...
@overload
def to_timestamp(moment: dt.datetime | None) -> Timestamp | None: ...
def to_timestamp(moment: dt.datetime | None) -> Timestamp | None:
    """A datetime with a zone as a protobuf timestamp; None stays None, which leaves a field absent."""
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def from_timestamp(stamp: Timestamp) -> dt.datetime:
    """A protobuf timestamp as a datetime in UTC. Callers check presence first with HasField."""
    return stamp.ToDatetime(tzinfo=UTC)
