"""Ranged requests as RFC 9110 has them: which bytes to send, or why none. No files here."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE = re.compile(r"([0-9]*)-([0-9]*)")


@dataclass(frozen=True)
class Span:
    """Bytes to send: from `first` to `last`, both included. status is 200 for all of them, 206 for a part."""

    status: int
    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


class Unsatisfiable(Exception):
    """No byte of the file is in the range: 416."""


def requested(range_header: str | None, if_range: str | None, etag: str, size: int) -> Span:
    """What a GET of a file of `size` bytes (at least one) gets. Raises Unsatisfiable.

    An If-Range that is not exactly our ETag means that the client holds parts of something else: it gets everything. So
    does whoever asks for several ranges at once, which a server may ignore and no client of ours sends, and whoever
    asks for something that is no range.
    """
    whole = Span(200, 0, size - 1)
    if range_header is None or (if_range is not None and if_range.strip() != etag):
        return whole
    unit, equals, text = range_header.partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes":
        return whole
    # A list may have empty members, and spaces around the others.
    members = [member for one in text.split(",") if (member := one.strip(" \t"))]
    if len(members) != 1 or not (match := _ONE.fullmatch(members[0])):
        return whole
    first, last = match.groups()
    if not first and not last:
        return whole
    if not first:
        # The last bytes of the file; more than it has means all of it.
        wanted = _number(last, size)
        if wanted == 0:
            raise Unsatisfiable
        return Span(206, max(0, size - wanted), size - 1)
    begin = _number(first, size)
    end = _number(last, size) if last else size - 1
    if last and _less(last, first):
        return whole
    if begin >= size:
        raise Unsatisfiable
    return Span(206, begin, min(end, size - 1))


def _less(left: str, right: str) -> bool:
    left, right = left.lstrip("0"), right.lstrip("0")
    return (len(left), left) < (len(right), right)


def _number(digits: str, size: int) -> int:
    """The number, or the size if it is larger: a thousand digits are a range too, and must cost nothing."""
    digits = digits.lstrip("0") or "0"
    return min(int(digits), size) if len(digits) <= 20 else size


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has the file already (weak comparison, as RFC 9110 wants it for If-None-Match)."""
    if if_none_match is None:
        return False
    members = [member.strip(" \t") for member in if_none_match.split(",")]
    return "*" in members or any(member.removeprefix("W/") == etag for member in members)


_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")


def content_range(header: str) -> tuple[int, int, int] | None:
    """first, last and size of an upload's Content-Range; None if it is none."""
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if not match:
        return None
    first, last, size = (int(group) for group in match.groups())
    return (first, last, size) if first <= last < size else None
