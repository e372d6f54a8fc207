"""The one place that decides whether a sharing scope is inside another, and names every dimension that escapes.

Works on the contract's SharingScope messages: values in, values out, no clock and no connection. Every function answers
for every message, however broken. What this version cannot read (an empty set, an enum value of a newer contract, an
unknown purpose) fits nowhere, so that a doubt is always a no. How a scope reads in English is in scope_words.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.type.v1 import scope_pb2 as pb
from rochdale_kit import purposes, scope_words
from rochdale_kit.money import CURRENCIES, format_money
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope_words import describe

__all__ = [
    "DIMENSIONS",
    "Escape",
    "describe",
    "escapes",
    "ill_formed",
    "overlaps",
    "permits",
    "require_inside",
    "require_well_formed",
]

# Every name an Escape may carry, in the order they are reported. All but "versions" are the contract's field names.
DIMENSIONS = (
    "datasets",
    "versions",
    "columns",
    "categories",
    "purposes",
    "actions",
    "max_mode",
    "floor_price",
    "territories",
    "max_duration_seconds",
    "not_before",
    "not_after",
    "max_licenses",
    "max_exclusivity",
    "duties",
    "max_epsilon_nano",
)

Member = TypeVar("Member")

_WORLD = {"WORLD"}
_CATEGORIES = frozenset(scope_words.CATEGORIES)
_ACTIONS = frozenset(scope_words.ACTIONS)
_MODES = frozenset(scope_words.MODES)
_DUTIES = frozenset(scope_words.DUTIES)
_EXCLUSIVITIES = frozenset(scope_words.EXCLUSIVITIES)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Escape:
    """One dimension in which a child leaves its parent.

    dimension: one of DIMENSIONS.
    parent: what the parent allows, as text.
    child: what the child asks beyond that, as text; for sets only the members that escape.
    """

    dimension: str
    parent: str
    child: str

    def __str__(self) -> str:
        return f"{self.dimension} (asked: {self.child}; allowed: {self.parent})"


def escapes(parent: pb.SharingScope, child: pb.SharingScope) -> list[Escape]:
    """Every dimension in which the child is not inside the parent, in the order of DIMENSIONS; empty means contained.

    A child with an ill-formed dimension escapes in it from every parent, itself included.
    """
    found = _dataset_escapes(parent, child)
    _subset(found, "categories", parent.categories, child.categories, _CATEGORIES, scope_words.CATEGORIES)

    allowed_purposes = set(parent.purposes)
    outside = [term for term in child.purposes if not purposes.covered(term, allowed_purposes)]
    if outside or not child.purposes:
        found.append(Escape("purposes", scope_words.listed(sorted(allowed_purposes)), scope_words.listed(outside)))

    _subset(found, "actions", parent.actions, child.actions, _ACTIONS, scope_words.ACTIONS)
    _mode(found, parent.max_mode, child.max_mode)

    floor, price = parent.floor_price, child.floor_price
    if not price.currency or price.currency != floor.currency or not 0 <= floor.amount_minor <= price.amount_minor:
        found.append(Escape("floor_price", f"at least {format_money(floor)}", format_money(price)))

    _territories(found, parent.territories, child.territories)
    _cap(
        found,
        "max_duration_seconds",
        parent.max_duration_seconds,
        child.max_duration_seconds,
        1 <= child.max_duration_seconds <= parent.max_duration_seconds,
        scope_words.duration,
    )
    _window(found, parent, child)

    # 0 is no limit: it holds everything, and only another 0 holds it.
    limit, licenses = parent.max_licenses, child.max_licenses
    fits = licenses >= 0 if limit == 0 else 1 <= licenses <= limit
    _cap(found, "max_licenses", limit, licenses, fits, scope_words.licenses)

    ceiling = parent.max_exclusivity or pb.EXCLUSIVITY_NONE
    exclusivity = child.max_exclusivity or pb.EXCLUSIVITY_NONE
    fits = exclusivity <= ceiling and exclusivity in _EXCLUSIVITIES and ceiling in _EXCLUSIVITIES
    _cap(found, "max_exclusivity", ceiling, exclusivity, fits, _exclusivity)

    kept = set[int](child.duties)
    dropped = set[int](parent.duties) - kept
    if dropped or not kept <= _DUTIES:
        found.append(
            Escape("duties", scope_words.worded(parent.duties, scope_words.DUTIES), _duties_text(dropped, kept))
        )
    _cap(
        found,
        "max_epsilon_nano",
        parent.max_epsilon_nano,
        child.max_epsilon_nano,
        0 <= child.max_epsilon_nano <= parent.max_epsilon_nano,
        scope_words.epsilon,
    )
    return found


def permits(
    scope: pb.SharingScope,
    *,
    dataset: str,
    version: int,
    columns: Collection[str],
    mode: int,
    purpose: str | None,
    at: dt.datetime,
) -> list[Escape]:
    """Every dimension in which one request for data leaves the scope; empty means it is permitted.

    dataset: resource name. columns: what will be read, at least one. mode: an AccessMode. purpose: a DPV term, or None
    where the request does not say one and the scope's purposes bind by contract only. at: the time, with its zone.
    """
    found: list[Escape] = []
    part = _by_name(scope).get(dataset) if dataset else None
    if part is None:
        names = scope_words.listed(one.dataset for one in scope.datasets)
        found.append(Escape("datasets", names, dataset or "a dataset without a name"))
    else:
        if not part.first_version <= version or (part.last_version and part.last_version < version) or version < 1:
            interval = scope_words.versions(part.first_version, part.last_version)
            found.append(Escape("versions", interval, f"version {version}"))
        allowed = set(part.columns)
        outside = [column for column in columns if column not in allowed]
        if outside or not columns:
            found.append(Escape("columns", scope_words.listed(part.columns), scope_words.listed(outside)))
    if purpose is not None and not purposes.covered(purpose, scope.purposes):
        found.append(Escape("purposes", scope_words.listed(scope.purposes), purpose))
    _mode(found, scope.max_mode, mode)
    # Whole nanoseconds, like the bounds: a float would be wrong by more than a microsecond.
    now = (at - _EPOCH) // _MICROSECOND * 1_000
    opens, closes = _bound(scope, "not_before"), _bound(scope, "not_after")
    if opens is not None and now < opens:
        found.append(Escape("not_before", f"from {scope_words.moment(scope.not_before)}", at.isoformat()))
    if closes is not None and now >= closes:
        found.append(Escape("not_after", f"until {scope_words.moment(scope.not_after)}", at.isoformat()))
    return found


def overlaps(deny_scope: pb.SharingScope, scope: pb.SharingScope) -> bool:
    """Whether a prohibition reaches anything the scope permits; then the scope must be refused.

    Datasets with their versions and columns, categories, purposes, actions, territories and time have to meet, all of
    them. Access mode, price, duties and the other caps do not soften a prohibition. An unknown purpose meets all.
    """
    denied, asked = set(deny_scope.territories), set(scope.territories)
    if "WORLD" not in denied and "WORLD" not in asked and denied.isdisjoint(asked):
        return False
    if set(deny_scope.categories).isdisjoint(scope.categories) or set(deny_scope.actions).isdisjoint(scope.actions):
        return False
    opens = [bound for one in (deny_scope, scope) if (bound := _bound(one, "not_before")) is not None]
    closes = [bound for one in (deny_scope, scope) if (bound := _bound(one, "not_after")) is not None]
    if opens and closes and max(opens) >= min(closes):
        return False
    if not any(purposes.meet(first, second) for first in deny_scope.purposes for second in scope.purposes):
        return False
    # Not by name alone: were a dataset listed twice, each of its parts would be permitted and has to be looked at.
    return any(
        first.dataset == second.dataset
        and _versions_meet(first, second)
        and not set(first.columns).isdisjoint(second.columns)
        for first in deny_scope.datasets
        for second in scope.datasets
    )


def ill_formed(scope: pb.SharingScope) -> list[str]:
    """What is wrong with a scope by itself, one sentence each; empty means well formed.

    Says what the contract's rules for single fields say too, so that nothing depends on who checked first.
    """
    wrong: list[str] = []
    if not scope.datasets:
        wrong.append("The scope names no dataset.")
    seen: set[str] = set()
    for part in scope.datasets:
        name = part.dataset or "A dataset without a name"
        if not part.dataset:
            wrong.append("A dataset has no name.")
        if part.dataset in seen:
            wrong.append(f"{name} is listed twice.")
        seen.add(part.dataset)
        if part.first_version < 1 or (part.last_version and part.last_version < part.first_version):
            interval = scope_words.versions(part.first_version, part.last_version)
            wrong.append(f"{name} is in scope with {interval}, which is no interval of versions from 1.")
        _set_sentences(wrong, f"columns of {name}", part.columns, lambda column: bool(column))
    _set_sentences(wrong, "buyer categories", scope.categories, _CATEGORIES.__contains__)
    _set_sentences(wrong, "purposes", scope.purposes, purposes.known)
    _set_sentences(wrong, "actions", scope.actions, _ACTIONS.__contains__)
    if scope.max_mode not in _MODES:
        wrong.append(f"The access mode is {scope_words.word(scope.max_mode, scope_words.MODES)}.")
    if scope.floor_price.currency not in CURRENCIES:
        wrong.append(f"The floor price has no currency of ISO 4217: '{scope.floor_price.currency}'.")
    if scope.floor_price.amount_minor < 0:
        wrong.append("The floor price is below zero.")
    if set(scope.territories) != _WORLD:
        _set_sentences(wrong, "territories", scope.territories, _is_country)
    if scope.max_duration_seconds < 1:
        wrong.append("A license would last no time at all.")
    for field in ("not_before", "not_after"):
        if scope.HasField(field) and not _in_calendar(getattr(scope, field)):
            # Protobuf carries it, but neither its JSON nor any hash over that can.
            wrong.append(f"{field} is outside the years 1 to 9999.")
    opens, closes = _bound(scope, "not_before"), _bound(scope, "not_after")
    if opens is not None and closes is not None and opens >= closes:
        interval = f"{scope_words.moment(scope.not_before)} to {scope_words.moment(scope.not_after)}"
        wrong.append(f"The time window is empty: {interval}.")
    if scope.max_licenses < 0:
        wrong.append("The number of licenses is below zero.")
    if scope.max_exclusivity not in _EXCLUSIVITIES:
        wrong.append(f"The exclusivity is {scope_words.word(scope.max_exclusivity, scope_words.EXCLUSIVITIES)}.")
    if scope.duties:
        _set_sentences(wrong, "duties", scope.duties, _DUTIES.__contains__)
    if scope.max_epsilon_nano < 0:
        wrong.append("The privacy loss is below zero.")
    return wrong


def require_well_formed(scope: pb.SharingScope) -> None:
    """Refuses an ill-formed scope with SCOPE_ILL_FORMED, naming everything that is wrong with it."""
    if wrong := ill_formed(scope):
        raise Refusal("SCOPE_ILL_FORMED", " ".join(wrong), Kind.INVALID)


def require_inside(
    parent: pb.SharingScope,
    child: pb.SharingScope,
    reason: str,
    message_prefix: str,
    kind: Kind = Kind.STATE,
) -> None:
    """Refuses a child that is not inside its parent, naming each dimension that escapes.

    message_prefix: the start of the sentence, such as "The offering is outside sharing rule rul_01J"; the dimensions
    follow after a colon. Facts: `escapes`, the names of the dimensions, and one fact for each of them.
    """
    found = escapes(parent, child)
    if found:
        facts = {one.dimension: f"asked: {one.child}; allowed: {one.parent}" for one in found}
        sentence = f"{message_prefix}: {'; '.join(map(str, found))}."
        raise Refusal(reason, sentence, kind, escapes=", ".join(facts), **facts)


def _dataset_escapes(parent: pb.SharingScope, child: pb.SharingScope) -> list[Escape]:
    allowed = _by_name(parent)
    asked = _by_name(child)
    # A dataset listed twice, or without a name, says two things or nothing; _by_name left it out, so it escapes here.
    names = [part.dataset for part in child.datasets]
    missing = [name or "a dataset without a name" for name in names if name not in asked or name not in allowed]
    found = []
    if missing or not names:
        parent_names = scope_words.listed(sorted(allowed))
        found.append(Escape("datasets", parent_names, scope_words.listed(dict.fromkeys(missing))))
    intervals: list[tuple[str, str]] = []
    columns: list[tuple[str, str]] = []
    for name, part in asked.items():
        if (limit := allowed.get(name)) is None:
            continue
        prefix = f"{name}: " if len(asked) > 1 else ""
        first, last, limit_last = part.first_version, part.last_version, limit.last_version
        closed_inside = limit_last == 0 or 0 < last <= limit_last
        if not 1 <= limit.first_version <= first or not closed_inside or (last != 0 and last < first):
            allowed_interval = scope_words.versions(limit.first_version, limit_last)
            intervals.append((prefix + allowed_interval, prefix + scope_words.versions(first, last)))
        limit_columns = set(limit.columns)
        asked_columns = set(part.columns)
        if not asked_columns or "" in asked_columns or not asked_columns <= limit_columns:
            outside = [column for column in part.columns if not column or column not in limit_columns]
            columns.append((prefix + scope_words.listed(limit.columns), prefix + scope_words.listed(outside)))
    for dimension, pairs in (("versions", intervals), ("columns", columns)):
        if pairs:
            found.append(Escape(dimension, "; ".join(pair[0] for pair in pairs), "; ".join(pair[1] for pair in pairs)))
    return found


def _by_name(scope: pb.SharingScope) -> dict[str, pb.DatasetScope]:
    """Datasets that have a name and are listed exactly once."""
    parts = {part.dataset: part for part in scope.datasets}
    if len(parts) != len(scope.datasets):
        names = [part.dataset for part in scope.datasets]
        parts = {name: part for name, part in parts.items() if names.count(name) == 1}
    parts.pop("", None)
    return parts


def _subset(
    found: list[Escape],
    dimension: str,
    parent: Iterable[int],
    child: Collection[int],
    readable: frozenset[int],
    words: Mapping[int, str],
) -> None:
    outside = set(child) - readable.intersection(parent)
    if outside or not child:
        child_text = scope_words.worded(outside, words)
        found.append(Escape(dimension, scope_words.worded(parent, words), child_text))


def _mode(found: list[Escape], ceiling: int, mode: int) -> None:
    if mode not in _MODES or ceiling not in _MODES or mode > ceiling:
        words = scope_words.MODES
        found.append(Escape("max_mode", f"at most {scope_words.word(ceiling, words)}", scope_words.word(mode, words)))


def _territories(found: list[Escape], parent: Iterable[str], child: Iterable[str]) -> None:
    allowed, asked = set(parent), set(child)
    if asked == _WORLD:
        outside = [] if allowed == _WORLD else ["WORLD"]
    else:
        outside = sorted(code for code in asked if not _is_country(code) or (allowed != _WORLD and code not in allowed))
    if outside or not asked:
        found.append(Escape("territories", scope_words.listed(sorted(allowed)), scope_words.listed(outside)))


def _is_country(code: str) -> bool:
    return len(code) == 2 and code.isascii() and code.isalpha() and code.isupper()


def _cap(found: list[Escape], dimension: str, parent: int, child: int, fits: bool, text: Callable[[int], str]) -> None:
    if not fits:
        found.append(Escape(dimension, text(parent), text(child)))


def _exclusivity(value: int) -> str:
    return scope_words.word(value, scope_words.EXCLUSIVITIES)


def _duties_text(dropped: set[int], kept: set[int]) -> str:
    parts = []
    if dropped:
        parts.append(f"without: {scope_words.worded(dropped, scope_words.DUTIES)}")
    if unreadable := kept - _DUTIES:
        parts.append(scope_words.worded(unreadable, scope_words.DUTIES))
    return "; ".join(parts)


def _window(found: list[Escape], parent: pb.SharingScope, child: pb.SharingScope) -> None:
    earliest, opens = _bound(parent, "not_before"), _bound(child, "not_before")
    latest, closes = _bound(parent, "not_after"), _bound(child, "not_after")
    # A time that is none fits nowhere, not even where there is no bound.
    odd_opening = child.HasField("not_before") and not _in_calendar(child.not_before)
    odd_closing = child.HasField("not_after") and not _in_calendar(child.not_after)
    if odd_opening or (earliest is not None and (opens is None or opens < earliest)):
        limit = None if earliest is None else parent.not_before
        found.append(_bound_escape("not_before", limit, None if opens is None else child.not_before))
    too_late = odd_closing or (latest is not None and (closes is None or closes > latest))
    empty = opens is not None and closes is not None and opens >= closes
    if too_late or empty:
        limit = None if latest is None else parent.not_after
        found.append(_bound_escape("not_after", limit, None if closes is None else child.not_after))


def _bound(scope: pb.SharingScope, field: Literal["not_before", "not_after"]) -> int | None:
    """A bound of the window in nanoseconds since 1970, or None where there is none."""
    if not scope.HasField(field):
        return None
    stamp: Timestamp = getattr(scope, field)
    return stamp.seconds * 1_000_000_000 + stamp.nanos


def _in_calendar(stamp: Timestamp) -> bool:
    return -62_135_596_800 <= stamp.seconds <= 253_402_300_799 and 0 <= stamp.nanos < 1_000_000_000


def _bound_escape(dimension: str, parent: Timestamp | None, child: Timestamp | None) -> Escape:
    parent_text, child_text = ("no bound" if one is None else scope_words.moment(one) for one in (parent, child))
    return Escape(dimension, parent_text, child_text)


def _versions_meet(first: pb.DatasetScope, second: pb.DatasetScope) -> bool:
    lasts = [part.last_version for part in (first, second) if part.last_version]
    return not lasts or max(first.first_version, second.first_version) <= min(lasts)


def _set_sentences(wrong: list[str], what: str, members: Collection[Member], known: Callable[[Member], bool]) -> None:
    if not members:
        wrong.append(f"The scope names no {what}.")
    if len(set(members)) != len(members):
        wrong.append(f"The {what} name something twice.")
    if unknown := [str(member) for member in members if not known(member)]:
        wrong.append(f"The {what} name something unknown: {scope_words.listed(unknown)}.")
