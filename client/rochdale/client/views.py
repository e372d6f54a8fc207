"""How scopes, datasets' columns and samples look in a terminal. Everything that one command alone shows is with it."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.names import short
from rochdale.client.output import say, table
from rochdale.client.terms import ACTIONS, CATEGORIES, DUTIES, EXCLUSIVITIES, MODES, count, days, price, when
from rochdale.type.v1 import scope_pb2

_SAMPLE_ROWS, _SAMPLE_COLUMNS, _NAMED_COLUMNS = 10, 8, 12


def scope_fields(scope: scope_pb2.SharingScope, *, tiers: bool = False) -> dict[str, str]:
    """A scope as fields; `tiers` leaves out categories and price, which an offering shows tier by tier."""
    shown = {f"data {short(entry.dataset)}": _data(entry) for entry in scope.datasets}
    if not tiers:
        shown["categories"] = CATEGORIES.format_all(scope.categories)
        shown["price"] = price(scope.floor_price)
    shown |= {
        "purposes": ", ".join(scope.purposes),
        "actions": ACTIONS.format_all(scope.actions),
        "access mode": MODES.format(scope.max_mode),
        "territories": ", ".join(scope.territories),
        "duration": days(scope.max_duration_seconds),
        "not before": when(scope, "not_before"),
        "not after": when(scope, "not_after"),
        "licenses": str(scope.max_licenses) if scope.max_licenses else "no limit",
        "exclusivity": EXCLUSIVITIES.format(scope.max_exclusivity),
        "duties": DUTIES.format_all(scope.duties),
    }
    return shown


def _data(entry: scope_pb2.DatasetScope) -> str:
    versions = (
        f"versions {entry.first_version} to {entry.last_version}"
        if entry.last_version
        else (f"versions from {entry.first_version}")
    )
    if entry.first_version == entry.last_version:
        versions = f"version {entry.first_version}"
    named = ", ".join(entry.columns[:_NAMED_COLUMNS])
    rest = len(entry.columns) - _NAMED_COLUMNS
    return f"{versions}; {count(len(entry.columns), 'column')}: {named}" + (
        f" and {rest} more, which --json names" if rest > 0 else ""
    )


def columns_table(version: catalog_pb2.Version) -> None:
    """The columns of a version with what is known about each."""
    rows = [
        [
            column.name,
            column.type,
            "withheld" if column.missing_permille < 0 else f"{column.missing_permille / 10:.1f} %",
            "member pseudonym" if column.member_pseudonym else _statistics(column.statistics_json),
        ]
        for column in version.columns
    ]
    table(["column", "type", "missing", "statistics"], rows)


def _statistics(text: str) -> str:
    try:
        values = json.loads(text) if text else {}
    except ValueError:
        return ""
    if not isinstance(values, dict):
        return ""
    known = {name: _cell(value) for name, value in values.items() if isinstance(value, int | float | str)}
    told = []
    if "low" in known and "high" in known:
        told.append(f"about {known.pop('low')} to {known.pop('high')}")
    if "shortest" in known and "longest" in known:
        told.append(f"{known.pop('shortest')} to {known.pop('longest')} characters")
    if "distinct_at_least" in known:
        told.append(f"{known.pop('distinct_at_least')} or more different values")
    told += [f"{name.replace('_', ' ')} {value}" for name, value in known.items()]
    return ", ".join(told[:5])


def sample_table(sample_json: str, title: str = "Sample", columns: Collection[str] = ()) -> None:
    """The first rows and columns of a sample, of `columns` only if any are named, and a sentence about what is not shown."""
    rows = json.loads(sample_json) if sample_json else []
    if columns:
        rows = [{name: value for name, value in row.items() if name in columns} for row in rows if row]
    if not rows or not rows[0]:
        say("No sample.")
        return
    names = list(rows[0])
    table(
        names[:_SAMPLE_COLUMNS],
        [[_cell(row.get(name)) for name in names[:_SAMPLE_COLUMNS]] for row in rows[:_SAMPLE_ROWS]],
        title,
    )
    if len(rows) > _SAMPLE_ROWS or len(names) > _SAMPLE_COLUMNS:
        say(f"The sample has {len(rows)} rows and {len(names)} columns; --json prints all of it.")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
