"""Decides which type a column of text has, over all of its rows, and converts it; it leaves out where text comes from.

A type is chosen only if every value, written back, would say the same: '007' is not the number 7.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("us", "UTC")

_EXACT = 2**53  # whole numbers beyond this do not all exist as float64
_NUMBER = r"^-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_NOT_FINITE = r"^(?i:nan|-?inf|-?infinity)$"
_WHOLE = r"^-?[0-9]+$"
_LEADING_ZERO = r"^-?0[0-9]+$"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
_PATTERNS = {
    "boolean": r"^(?:true|false|True|False|TRUE|FALSE)$",
    "date": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "timestamp_local": f"^{_TIME}$",
    "timestamp_zoned": f"^{_TIME}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})$",
}
_ARROW = {
    "long": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp_local": TIMESTAMP,
    "timestamp_zoned": TIMESTAMP,
}


class TextColumn:
    """What a column may still be. Feed it every batch, then ask."""

    def __init__(self) -> None:
        self._possible = [*_ARROW]
        self._seen = False
        self._finite_seen = False
        self._notes: list[str] = []

    @property
    def undecided(self) -> bool:
        """False once only text is left, so that further rows need not be looked at."""
        return bool(self._possible)

    def feed(self, values: pa.Array) -> None:
        values = _without_blanks(values)
        if not len(values) or not self._possible:
            return
        self._seen = True
        if "long" in self._possible and (bounds := _whole_number_bounds(values)):
            self._possible = [kind for kind in self._possible if kind in ("long", "double")]
            self._finite_seen = True
            if "double" in self._possible and (bounds[0] < -_EXACT or bounds[1] > _EXACT):
                self._possible.remove("double")
            return
        was_number = "double" in self._possible or "long" in self._possible
        self._possible = [kind for kind in self._possible if kind != "long" and self._fits(kind, values)]
        if was_number and not self._possible:
            self._explain(values)

    def decide(self) -> tuple[pa.DataType, tuple[str, ...]]:
        """The Arrow type and the notes that a steward should see."""
        if not self._seen:
            return pa.string(), ("The column is empty.",)
        kind = self._possible[0] if self._possible else "string"
        if kind == "double" and not self._finite_seen:
            kind = "string"
        if kind == "string":
            return pa.string(), tuple(self._notes)
        if kind == "timestamp_local":
            return TIMESTAMP, ("The times name no zone; they are stored as UTC.",)
        if kind == "timestamp_zoned":
            return TIMESTAMP, ("The times are stored in UTC; their own offsets are not kept.",)
        return _ARROW[kind], ()

    def _fits(self, kind: str, values: pa.Array) -> bool:
        if kind == "double":
            return self._fits_double(values)
        if not _all(pc.match_substring_regex(values, _PATTERNS[kind])):
            return False
        try:
            pc.cast(values, pa.timestamp("us") if kind == "timestamp_local" else _ARROW[kind])
        except pa.ArrowInvalid:
            return False
        return True

    def _fits_double(self, values: pa.Array) -> bool:
        number = pc.match_substring_regex(values, _NUMBER)
        if not _all(number):
            if not _all(pc.or_(number, pc.match_substring_regex(values, _NOT_FINITE))):
                return False
            values = values.filter(number)
        # A literal that overflows would silently become infinite.
        floats = pc.cast(values, pa.float64())
        if not _all(pc.is_finite(floats)):
            return False
        whole = pc.cast(values.filter(pc.match_substring_regex(values, _WHOLE)), pa.float64())
        if len(whole) and not _all(pc.less_equal(pc.abs(whole), float(_EXACT - 1))):
            return False
        self._finite_seen = self._finite_seen or len(values) > 0
        return True

    def _explain(self, values: pa.Array) -> None:
        if pc.any(pc.match_substring_regex(values, _LEADING_ZERO)).as_py():
            self._notes.append("Some numbers have leading zeros; the column is kept as text.")
        elif _all(pc.match_substring_regex(values, _NUMBER)):
            self._notes.append("Some whole numbers are too large to be exact; the column is kept as text.")


def convert(values: pa.Array, target: pa.DataType) -> pa.Array:
    """Text to its decided type. Blank is null except in a text column, where a quoted blank is an empty text."""
    if target == pa.string():
        return values
    values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    if target == TIMESTAMP:
        # Arrow refuses a text without zone here and one with zone there, so we ask by what the text ends with.
        try:
            return pc.cast(values, TIMESTAMP)
        except pa.ArrowInvalid:
            return pc.cast(pc.cast(values, pa.timestamp("us")), TIMESTAMP)
    return pc.cast(values, target)


def _without_blanks(values: pa.Array) -> pa.Array:
    values = values.drop_null()
    return values.filter(pc.not_equal(values, ""))


def _whole_number_bounds(values: pa.Array) -> tuple[int, int] | None:
    """The extremes if every value is a canonical 64-bit whole number, else None. Casting back is the proof."""
    try:
        numbers = pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        return None
    if not _all(pc.equal(pc.cast(numbers, pa.string()), values)):
        return None
    bounds = pc.min_max(numbers).as_py()
    return bounds["min"], bounds["max"]


def _all(mask: pa.Array) -> bool:
    return bool(pc.all(mask).as_py() is not False)
