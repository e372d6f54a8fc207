"""What a benchmark says: two sides measured in turns, their ratio, and whether the goal is reached. It measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reading:
    """One repetition's figure of one side, and how many of its operations failed."""

    value: float
    failed: int = 0


@dataclass(frozen=True)
class Side:
    """One of the two things compared: what it is, in which unit, and its figure in each repetition."""

    name: str
    unit: str
    readings: tuple[Reading, ...]

    @property
    def median(self) -> float:
        return statistics.median(reading.value for reading in self.readings)

    @property
    def failed(self) -> int:
        return sum(reading.failed for reading in self.readings)

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": _short(self.median),
            "values": [_short(reading.value) for reading in self.readings],
            "failed_operations": self.failed,
        }


@dataclass(frozen=True)
class Goal:
    """The ratio to reach: at least a number, or at most one."""

    number: float
    at_most: bool = False

    def reached(self, ratio: float) -> bool:
        return ratio <= self.number if self.at_most else ratio >= self.number

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.number:g}"


def at_least(number: float) -> Goal:
    return Goal(number)


def at_most(number: float) -> Goal:
    return Goal(number, at_most=True)


@dataclass(frozen=True)
class Row:
    """One line of the table. The ratio is ours to the baseline; inverted, the baseline to ours."""

    number: str
    what: str
    ours: Side
    baseline: Side
    goal: Goal | None
    inverted: bool = False
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        pairs = zip(self.ours.readings, self.baseline.readings, strict=True)
        values = [(ours.value, baseline.value) for ours, baseline in pairs]
        return [low / high if self.inverted else high / low for high, low in values]

    @property
    def reached(self) -> bool | None:
        """None without a goal. A side with failed operations reaches nothing, however fast it was."""
        if self.goal is None:
            return None
        return not self.ours.failed and not self.baseline.failed and self.goal.reached(statistics.median(self.ratios))

    def document(self) -> dict[str, Any]:
        ratios = sorted(self.ratios)
        return {
            "row": self.number,
            "what": self.what,
            "ratio": {
                "of": "baseline / ours" if self.inverted else "ours / baseline",
                "min": _short(ratios[0]),
                "median": _short(statistics.median(ratios)),
                "max": _short(ratios[-1]),
            },
            "ours": self.ours.document(),
            "baseline": self.baseline.document(),
            "goal": str(self.goal) if self.goal else None,
            "reached": self.reached,
            "note": self.note,
            "absent": None,
        }


@dataclass(frozen=True)
class Absent:
    """A line that could not be measured, and why: visibly missing rather than left out."""

    number: str
    what: str
    why: str

    def document(self) -> dict[str, Any]:
        return {
            "row": self.number,
            "what": self.what,
            "ratio": None,
            "ours": None,
            "baseline": None,
            "goal": None,
            "reached": None,
            "note": "",
            "absent": self.why,
        }


Line = Row | Absent


@dataclass
class Turns:
    """Readings of several sides, taken in turns (A B A B …), so that what slows the machine slows all of them."""

    repetitions: int
    say: Callable[[str], None]
    taken: dict[str, list[Any]] = field(default_factory=dict)

    async def take(self, sides: dict[str, Callable[[], Awaitable[Any]]]) -> dict[str, list[Any]]:
        """What each side returned, by name, in the order of repetitions."""
        for repetition in range(self.repetitions):
            for name, measure in sides.items():
                self.say(f"{name}, {repetition + 1} of {self.repetitions}")
                self.taken.setdefault(name, []).append(await measure())
        return self.taken


def side(name: str, unit: str, readings: list[Reading]) -> Side:
    return Side(name, unit, tuple(readings))


def _short(value: float) -> float:
    """Four significant digits: more would only look exact."""
    return float(f"{value:.4g}")
