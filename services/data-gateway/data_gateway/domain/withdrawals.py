"""Where in the files a licensee got a member's rows stand. What was delivered to whom is not here."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

Positions = Mapping[str, Sequence[int]]


def received(own: Positions, left_out: Iterable[Positions]) -> dict[str, list[int]]:
    """A member's positions per file in files without the rows of others: all positions given are those of the version as
    it was published."""
    missing: dict[str, list[int]] = {}
    for positions in left_out:
        for path, rows in positions.items():
            missing.setdefault(path, []).extend(rows)
    for rows in missing.values():
        rows.sort()
    return {path: [row - bisect_left(missing.get(path, []), row) for row in rows] for path, rows in own.items()}
