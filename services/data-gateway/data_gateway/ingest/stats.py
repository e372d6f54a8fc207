"""Column statistics that may be published, because no number in them is the number of fewer than ten members.

The rule. A *member* is a pseudonym, or a row where no member column was named. K is ten.

* With fewer than K members in the version nothing is said at all. Of the member column nothing is ever said.
* Numbers are first put into cells: all values that round to the same two significant digits share a cell. `low` and
  `high` name the lowest and the highest cell into which values of at least K different members fall. A cell with
  fewer members is passed over, so a rare value moves nothing.
* `null_fraction` is the share of rows without a value, to two digits, if at least K members have such a row and at
  least K have a row with a value; otherwise it is 0.0 or 1.0, whichever side the many are on. 0.0 therefore means
  "fewer than ten members lack it", not "nobody does". The same goes for the digits: fewer than K members who lack a
  value cannot be seen in it.
* `distinct_at_least` is a power of ten (or 2) that stays true whichever nine members leave: it counts values that K
  members share, or else one value for each member, taken from the member's first row, less nine.
* For text, the lowest and highest of a few ranges of length are named, again each with K members behind it.

Left out on purpose: exact extremes, sums, means, examples, and counts of members. Known limit: whoever sees two
versions that differ by one member can compare them; a version says nothing about another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

K = 10
_TRACKED_VALUES = 1_000
_DISTINCT_CAP = 10_000
_LENGTHS = (0, 10, 100, 1_000, 10_000)
_LENGTH_NAMES = ("0", "1-10", "11-100", "101-1000", "1001-10000", "more than 10000")
_LEVELS = (10_000, 1_000, 100, 10, 2, 1)

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ColumnStatistics:
    """What may be published about one column. A field is None where too few members stand behind it."""

    name: str
    type: str
    null_fraction: float | None = None
    distinct_at_least: int | None = None
    low: float | None = None
    high: float | None = None
    shortest: str | None = None
    longest: str | None = None


class _Support:
    """Counts the different members behind each key, up to K; afterwards it only remembers that there are enough."""

    def __init__(self, tracked: int | None = None) -> None:
        self._members: dict[int, set[int]] = {}
        self._enough: Keys = np.empty(0, np.int64)
        self._tracked = tracked
        self.closed = False

    def feed(self, keys: Keys, members: Keys) -> None:
        if self.closed:
            return
        if len(self._enough):
            open_keys = ~np.isin(keys, self._enough)
            keys, members = keys[open_keys], members[open_keys]
        if not len(keys):
            return
        order = np.lexsort((members, keys))
        keys, members = keys[order], members[order]
        new_key = np.append(True, keys[1:] != keys[:-1])
        new_pair = new_key | np.append(True, members[1:] != members[:-1])
        keys, members, new_key = keys[new_pair], members[new_pair], new_key[new_pair]
        first = np.flatnonzero(new_key)
        rank = np.arange(len(keys)) - np.repeat(first, np.diff(np.append(first, len(keys))))
        enough = []
        for key, member in zip(keys[rank < K].tolist(), members[rank < K].tolist(), strict=True):
            behind = self._members.setdefault(key, set())
            if len(behind) < K:
                behind.add(member)
                if len(behind) == K:
                    enough.append(key)
        for key in enough:
            del self._members[key]
        self._enough = np.append(self._enough, np.array(enough, np.int64))
        if self._tracked is not None and len(self._members) + len(self._enough) > self._tracked:
            # Too many different values to follow; those already known to be shared stay counted.
            self._members.clear()
            self.closed = True

    def enough(self, key: int) -> bool:
        return bool(np.any(self._enough == key))

    def supported(self) -> Keys:
        return np.sort(self._enough)


class ColumnObserver:
    """Gathers one column. Memory is bounded by the number of cells and the caps, not by rows or members."""

    def __init__(self, name: str, delta_type: str) -> None:
        self._name, self._type = name, delta_type
        self._presence = _Support()
        self._nulls = self._rows = 0
        self._cells = _Support()
        self._values = _Support(_TRACKED_VALUES)
        self._first_values: set[int] = set()

    def feed(self, values: pa.Array, members: Keys, first: npt.NDArray[np.bool_]) -> None:
        """`members` is a code per row, `first` marks the rows that are their member's first in the version."""
        missing = pc.is_null(values, nan_is_null=True).to_numpy(zero_copy_only=False)
        self._presence.feed(missing.astype(np.int64), members)
        self._rows += len(values)
        self._nulls += int(missing.sum())
        if missing.any():
            present = ~missing
            values, members, first = values.filter(pa.array(present)), members[present], first[present]
        if not len(values):
            return
        if pa.types.is_string(values.type):
            lengths = pc.utf8_length(values).to_numpy(zero_copy_only=False)
            self._cells.feed(np.searchsorted(_LENGTHS, lengths).astype(np.int64), members)
        elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
            finite = np.isfinite(numbers)
            self._cells.feed(_cells(numbers[finite]), members[finite])
        self._feed_distinct(values, members, first)

    def _feed_distinct(self, values: pa.Array, members: Keys, first: npt.NDArray[np.bool_]) -> None:
        if not self._values.closed:
            self._values.feed(_value_keys(values), members)
        if len(self._first_values) < _DISTINCT_CAP + K and first.any():
            keys = _value_keys(values.filter(pa.array(first)))
            self._first_values.update(np.unique(keys).tolist())

    def publish(self) -> ColumnStatistics:
        some_missing, some_present = self._presence.enough(1), self._presence.enough(0)
        if not some_present:
            return ColumnStatistics(self._name, self._type, null_fraction=1.0 if some_missing else None)
        null_fraction = round(self._nulls / self._rows, 2) if some_missing else 0.0
        shared = max(len(self._values.supported()), len(self._first_values) - (K - 1))
        distinct = next((level for level in _LEVELS if shared >= level), None)
        cells = self._cells.supported()
        found: dict[str, Any] = {}
        if len(cells) and self._type in ("long", "double"):
            found = {"low": _cell_value(int(cells[0])), "high": _cell_value(int(cells[-1]))}
        elif len(cells):
            found = {"shortest": _LENGTH_NAMES[cells[0]], "longest": _LENGTH_NAMES[cells[-1]]}
        return ColumnStatistics(self._name, self._type, null_fraction, distinct, **found)


def _cells(numbers: npt.NDArray[np.float64]) -> Keys:
    """The cell of each number: sign, power of ten and two digits in one integer that sorts as the numbers do."""
    size = np.abs(numbers)
    zero = size < 1e-300
    size = np.where(zero, 1.0, size)
    exponent = np.floor(np.log10(size)).astype(np.int64)
    digits = np.rint(size / np.power(10.0, exponent) * 10).astype(np.int64)
    over, under = digits > 99, digits < 10
    exponent, digits = exponent + over - under, np.where(over, 10, np.where(under, 99, digits))
    cells: Keys = np.where(zero, 0, np.sign(numbers).astype(np.int64) * ((exponent + 400) * 100 + digits))
    return cells


def _cell_value(cell: int) -> float:
    if cell == 0:
        return 0.0
    exponent, digits = divmod(abs(cell), 100)
    return float(f"{'-' if cell < 0 else ''}{digits}e{exponent - 401}")


def _value_keys(values: pa.Array) -> Keys:
    """A 64-bit stand-in for each value."""
    if pa.types.is_string(values.type):
        encoded = pc.dictionary_encode(values)
        hashes = b"".join(
            hashlib.blake2b(text.encode(), digest_size=8).digest() for text in encoded.dictionary.to_pylist()
        )
        table = np.frombuffer(hashes, np.int64)
        keys: Keys = table[encoded.indices.to_numpy(zero_copy_only=False)]
        return keys
    if pa.types.is_floating(values.type):
        return values.to_numpy(zero_copy_only=False).astype(np.float64).view(np.int64)  # type: ignore[no-any-return]
    integers = pc.cast(values, pa.int32()) if pa.types.is_date(values.type) else values
    return pc.cast(integers, pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
