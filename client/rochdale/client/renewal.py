"""A credential that is renewed before it ends, by one caller at a time while the others wait for the result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

# A credential is renewed this long before it ends, or earlier in its life if it lives less than four times as long.
_MARGIN_SECONDS = 60.0


class Credential(Protocol):
    """Anything sent as "authorization: Bearer …" until it ends."""

    @property
    def token(self) -> str:
        """What is sent."""

    @property
    def expires_at(self) -> float:
        """When it ends, in seconds since the epoch."""


C = TypeVar("C", bound=Credential)


class Renewable(Generic[C]):
    """Holds the current credential. Safe to use from many threads; `issue` is never called by two at once."""

    def __init__(self, issue: Callable[[], C], clock: Callable[[], float] = time.time) -> None:
        self._issue, self._clock = issue, clock
        self._lock = threading.Lock()
        self._current: C | None = None
        self._renew_at = 0.0

    def current(self) -> C:
        """The credential to send now."""
        with self._lock:
            if self._current is None or self._clock() >= self._renew_at:
                return self._renew()
            return self._current

    def replace(self, stale: C) -> C:
        """A credential other than `stale`, which was refused; another thread may have fetched it already."""
        with self._lock:
            if self._current is None or self._current is stale:
                return self._renew()
            return self._current

    def _renew(self) -> C:
        self._current = self._issue()
        lifetime = self._current.expires_at - self._clock()
        self._renew_at = self._current.expires_at - min(_MARGIN_SECONDS, max(lifetime, 0.0) / 4)
        return self._current
