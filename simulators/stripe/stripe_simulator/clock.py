"""The simulator's time: a clock from outside and how far it was moved on from there. Leaves out what falls due."""

import math
from collections.abc import Callable

from .errors import Json
from .store import Store

LONGEST_ADVANCE_SECONDS = 20 * 365 * 86_400


class Clock:
    """Seconds since 1970 that never run backwards by our doing; how far time was moved survives a restart."""

    def __init__(self, outside: Callable[[], float], store: Store, moved: Callable[[int], None]) -> None:
        self._outside = outside
        self._store = store
        self._moved = moved
        kept = store.get("clock", "clock")
        self._advanced_seconds: int = 0 if kept is None else kept["advanced_seconds"]
        if self._advanced_seconds:
            moved(self._advanced_seconds)

    def now(self) -> float:
        """The simulator's time."""
        return self._outside() + self._advanced_seconds

    def move_to(self, time: float) -> None:
        """Moves on so that the time is at least `time`; does nothing when it is already later."""
        # Whole seconds, so that an object created at a due time never reads one second less than it.
        advanced = math.ceil(round(time - self._outside(), 3))
        if advanced > self._advanced_seconds:
            self._moved(advanced - self._advanced_seconds)
            self._advanced_seconds = advanced
            self._store.commit({("clock", "clock"): {"id": "clock", "advanced_seconds": advanced}})

    def describe(self) -> Json:
        """The time, as the control endpoint shows it."""
        return {"now": int(self.now()), "advanced_seconds": self._advanced_seconds}


def checked_advance(asked: object) -> int:
    """The whole seconds to move on by; raises ValueError for anything else, and for going back."""
    if type(asked) is not int or not 0 <= asked <= LONGEST_ADVANCE_SECONDS:
        raise ValueError(f"advance_seconds is a whole number from 0 to {LONGEST_ADVANCE_SECONDS}, not {asked!r}.")
    return asked
