"""Finds where CSV rows begin and end, on which line, and how many fields each has; it leaves out the values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

_QUOTE, _LINE_FEED, _CARRIAGE_RETURN = 34, 10, 13


@dataclass(frozen=True)
class Records:
    """The whole rows of a block, one entry each. Offsets are into the block; `lines` counts from 0 at its start.

    `ends` excludes the line end, `stops` includes it. `open_quote` says that the text after `consumed` is inside
    quotes, so that it can only be the beginning of a row.
    """

    starts: Positions
    ends: Positions
    stops: Positions
    lines: Positions
    fields: Positions
    consumed: int
    line_count: int
    open_quote: bool


def find_records(data: bytes, delimiter: bytes, final: bool) -> Records:
    """Splits a block that begins at a row. `final` means that no text follows, so an unended last row is a row."""
    buffer = np.frombuffer(data, np.uint8)
    breaks = np.flatnonzero(buffer == _LINE_FEED)
    if b"\r" in data:
        # A lone carriage return ends a line too. At the end of a block we cannot know whether it is alone.
        returns = np.flatnonzero(buffer == _CARRIAGE_RETURN)
        following = np.append(buffer[1:], _LINE_FEED if not final else 0)[returns]
        breaks = np.sort(np.concatenate([breaks, returns[following != _LINE_FEED]]))
    row_breaks, delimiters, open_quote = _structure(data, buffer, breaks, delimiter, final)

    stops = row_breaks + 1
    starts = np.concatenate([np.zeros(1, np.int64), stops[:-1]]) if len(stops) else stops
    ends = row_breaks.copy()
    if len(ends):
        before = buffer[np.maximum(row_breaks - 1, 0)]
        ends -= (buffer[row_breaks] == _LINE_FEED) & (before == _CARRIAGE_RETURN) & (row_breaks > starts)
    consumed = int(stops[-1]) if len(stops) else 0
    if final and consumed < len(data) and not open_quote:
        starts, ends, stops = np.append(starts, consumed), np.append(ends, len(data)), np.append(stops, len(data))
        consumed = len(data)
    fields = np.diff(np.searchsorted(delimiters, stops), prepend=0) + 1
    lines = np.searchsorted(breaks, starts)
    return Records(starts, ends, stops, lines, fields, consumed, int(np.searchsorted(breaks, consumed)), open_quote)


def _structure(
    data: bytes, buffer: npt.NDArray[np.uint8], breaks: Positions, delimiter: bytes, final: bool
) -> tuple[Positions, Positions, bool]:
    """The line breaks and delimiters that stand outside quotes, and whether the block ends inside quotes."""
    delimiters = np.flatnonzero(buffer == delimiter[0])
    if b'"' not in data:
        return breaks, delimiters, False
    quotes = np.flatnonzero(buffer == _QUOTE)
    openers = quotes[0::2]
    before = buffer[np.maximum(openers - 1, 0)]
    # Counting quotes decides what is inside, provided that every opening quote stands where a field begins or right
    # behind a closing one (a doubled quote). One that does not, as in 5" pipe, is an ordinary character, the count is
    # off from there on, and the block is read field by field instead.
    regular = (openers == 0) | (before == delimiter[0]) | (before == _LINE_FEED) | (before == _CARRIAGE_RETURN)
    regular[1:] |= openers[1:] == quotes[1::2][: len(openers) - 1] + 1
    if not regular.all():
        return _structure_field_by_field(data, delimiter, final)
    outside_breaks = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    outside_delimiters = delimiters[np.searchsorted(quotes, delimiters) % 2 == 0]
    return outside_breaks, outside_delimiters, len(quotes) % 2 == 1


@lru_cache(maxsize=8)
def _field_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    escaped = re.escape(delimiter)
    rest = rb"[^" + escaped + rb"\r\n]*+"
    return re.compile(rb'(?:"(?:[^"]++|"")*+"' + rest + rb'|(?!")' + rest + rb")(" + escaped + rb"|\r\n|\n|\r|\Z)")


def _structure_field_by_field(data: bytes, delimiter: bytes, final: bool) -> tuple[Positions, Positions, bool]:
    match = _field_pattern(delimiter).match
    breaks: list[int] = []
    delimiters: list[int] = []
    position, length = 0, len(data)
    open_quote = False
    while position < length:
        field = match(data, position)
        if field is None:
            open_quote = True
            break
        position = field.end()
        separator = field.group(1)
        if separator == delimiter:
            delimiters.append(position - 1)
        elif separator and (separator != b"\r" or position < length or final):
            breaks.append(position - 1)
    return np.array(breaks, np.int64), np.array(delimiters, np.int64), open_quote
