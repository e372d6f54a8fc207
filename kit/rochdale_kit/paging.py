"""Pages by keyset: an opaque token holds where the last page ended and which list it belongs to.

A token is no secret and grants nothing: its mark tells a token of another list, or one that was altered, by accident or
in curiosity, from one of this list. Whoever computes a mark reads the same list from elsewhere.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from rochdale_kit.refusals import Refusal

DEFAULT_PAGE_SIZE = 50

T = TypeVar("T")


def invalid() -> Refusal:
    """PAGE_TOKEN_INVALID, for a list that keeps its own kind of position in a token."""
    return Refusal("PAGE_TOKEN_INVALID", "The page token is not one this list gave out; start again without one.")


def encode(list_name: str, *position: object) -> str:
    """A token for the position after the last row given. list_name names the list and everything it was filtered by."""
    where = json.dumps(position, separators=(",", ":"), ensure_ascii=False)
    mark = hashlib.sha256(f"{list_name}\0{where}".encode()).hexdigest()[:12]
    raw = json.dumps([mark, *position], separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode(list_name: str, token: str, *types: type) -> list[object] | None:
    """The position in a token, or None for the first page. Refuses with PAGE_TOKEN_INVALID."""
    if not token:
        return None
    try:
        position = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if not isinstance(position, list) or len(position) != len(types) + 1:
            raise invalid()
        # Made again and compared: neither other base64 for the same bytes nor text that UTF-8 cannot hold gets through.
        if encode(list_name, *position[1:]) != token:
            raise invalid()
    except (ValueError, RecursionError):
        raise invalid() from None
    # Exact types: true is an int to isinstance, and would reach the query as a number. Databases end at 64 bits.
    for value, wanted in zip(position[1:], types, strict=True):
        if type(value) is not wanted or (isinstance(value, int) and not -(1 << 63) <= value < 1 << 63):
            raise invalid()
    return position[1:]


def time_of(value: object) -> dt.datetime:
    """A time inside a token, which its list wrote with isoformat()."""
    try:
        moment = dt.datetime.fromisoformat(str(value))
        # Tokens can be made up: a time without a zone, or at the edge of the calendar, would fail in the query.
        if moment.tzinfo is None:
            raise invalid()
        return moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise invalid() from None


def size(requested: int) -> int:
    return requested or DEFAULT_PAGE_SIZE


def page(
    list_name: str, rows: Sequence[T], page_size: int, position: Callable[[T], Sequence[object]]
) -> tuple[list[T], str]:
    """Splits rows (one more than page_size was asked for) into a page and the next page's token."""
    shown = list(rows[:page_size])
    if len(rows) <= page_size:
        return shown, ""
    return shown, encode(list_name, *position(shown[-1]))
