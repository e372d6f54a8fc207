"""How numbers, times, statistics and samples read on a page. Answers for anything a service sends, however broken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.catalog.v1 import catalog_pb2
from rochdale_kit.scope_words import moment

MODALITIES = {
    catalog_pb2.MODALITY_TABULAR: "tables",
    catalog_pb2.MODALITY_TEXT: "written language",
    catalog_pb2.MODALITY_AUDIO: "speech and sound",
    catalog_pb2.MODALITY_IMAGE: "pictures",
    catalog_pb2.MODALITY_VIDEO: "moving pictures",
}
SAMPLE_ROWS = 20
_LONGEST_CELL = 200


def day(stamp: Timestamp) -> str:
    """A date in UTC, such as "2026-03-01"."""
    return moment(stamp)[:10]


def count(number: int, one: str, many: str = "") -> str:
    """ "1 row", "20,190 rows"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(size_bytes: int) -> str:
    """Bytes for people: "1.4 MB"."""
    amount = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} TB"


def missing(permille: int) -> str:
    """The share of missing values."""
    return "withheld" if permille < 0 else f"{permille / 10:g} %"


def statistics(column: catalog_pb2.Column) -> str:
    """A column's statistics in words; what this version has no words for is given by its name."""
    if column.member_pseudonym:
        return "stands for a member; nothing is said about it"
    values = _read(column.statistics_json)
    if not isinstance(values, dict):
        return "withheld"
    known = {name: value for name, value in values.items() if isinstance(value, int | float | str)}
    told: list[str] = []
    if "low" in known and "high" in known:
        told.append(f"about {_cell(known.pop('low'))} to {_cell(known.pop('high'))}")
    if "shortest" in known and "longest" in known:
        shortest, longest = _cell(known.pop("shortest")), _cell(known.pop("longest"))
        lengths = shortest if shortest == longest else f"{shortest} to {longest}"
        told.append(f"{lengths} characters long")
    if "distinct_at_least" in known:
        told.append(f"at least {_cell(known.pop('distinct_at_least'))} different values")
    for repeated in ("null_fraction", "name", "type"):
        known.pop(repeated, None)
    told += [f"{name.replace('_', ' ')} {_cell(value)}" for name, value in known.items()]
    return "; ".join(told) or "withheld"


@dataclass(frozen=True)
class Sample:
    """Rows the steward approved for everybody, cell by cell."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left_out: int


def sample(sample_json: str, offered: Sequence[str]) -> Sample | None:
    """The approved sample, in the columns that are on offer; None if there is none."""
    rows = _read(sample_json)
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    columns = [column for column in offered if any(column in row for row in rows)]
    if not columns:
        return None
    shown = [[_cell(row.get(column)) for column in columns] for row in rows[:SAMPLE_ROWS]]
    return Sample(columns, shown, max(0, len(rows) - SAMPLE_ROWS))


def _read(text: str) -> object:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + "…"
