"""What holds for every table: values arrive exactly, no row is lost, and no statistic shows fewer than ten members."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_gateway.ingest import (
    ColumnStatistics,
    CsvOptions,
    Format,
    IngestJob,
    IngestRefused,
    IngestResult,
    OnBrokenRow,
    PartTarget,
    csv_source,
    json_source,
    pseudonym,
)
from data_gateway.ingest.csv_records import find_records
from data_gateway.ingest.engine import ingest
from data_gateway.ingest.stats import ColumnObserver, K, _cells

KEY = bytes(32)
NASTY = st.text(
    st.one_of(
        st.sampled_from(list("\"',;|\t\n\r \ufeff\x00é漢🜁a01-.eE")),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=8,
)
LIKE_NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-9, 99).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["007", "-0", "+1", "1e5", ".5", "5.", "inf", "NaN", "true", "FALSE", "2024-02-29", "2023-02-29",
                     "2024-01-01T10:00:00Z", "9007199254740993", "1e999", " 1", "1_0"]),
)  # fmt: skip
NAMES = st.lists(
    st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=6).filter(str.isprintable),
    min_size=2,
    max_size=4,
    unique_by=str.casefold,
)
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def run(content: bytes, **more: Any) -> tuple[IngestResult, pa.Table, list[dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").write_bytes(content)
        (folder / "job").mkdir()
        job = IngestJob(folder / "source", folder / "v", folder / "job", **more)
        result = ingest(job, KEY if job.member_column else None, lambda _: None)
        table = pa.concat_tables([pq.read_table(folder / "v" / file.path) for file in result.files])
        log = folder / "job/rejects.jsonl"
        rejects = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        assert table.num_rows == result.row_count and len(rejects) == result.reject_count
        return result, table, rejects


def same_text(text: str | None, value: Any, blank_is_null: bool = False) -> bool:
    """Whether a stored value says what the source said."""
    if isinstance(value, str):
        return value == text
    if value is None:
        return not text if blank_is_null else text is None or text == ""
    assert text is not None
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(value, int):
        return text == str(value)
    if isinstance(value, float):
        return (math.isnan(value) and text.lower() == "nan") or float(text) == value
    return text.startswith(value.isoformat()[:10]) or text.endswith("Z")


def small_blocks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(csv_source, "BLOCK_BYTES", size)
    monkeypatch.setattr(json_source, "BLOCK_BYTES", size)


@RELAXED
@given(data=st.data(), names=NAMES)
def test_any_table_arrives_exactly_through_csv(
    data: st.DataObject, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, data.draw(st.sampled_from([1, 7, 64, 1 << 20])))
    delimiter = data.draw(st.sampled_from(",;\t|"))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    kinds = [data.draw(st.sampled_from([NASTY, LIKE_NUMBERS, LIKE_NUMBERS | NASTY, st.just("")])) for _ in names]
    rows = data.draw(st.lists(st.tuples(*[st.none() | kind for kind in kinds]), min_size=1, max_size=12))

    def field(text: str | None) -> str:
        # A null is nothing at all; a blank text is a pair of quotes.
        if text is None:
            return ""
        must = not text or any(c in text for c in '"\r\n' + delimiter) or text[0] == '"'
        return '"' + text.replace('"', '""') + '"' if must or data.draw(st.booleans()) else text

    lines = [delimiter.join(field(value) for value in row) for row in [tuple(names), *rows]]
    text = end.join(lines) + (end if data.draw(st.booleans()) else "")
    bom = b"\xef\xbb\xbf" if data.draw(st.booleans()) else b""
    if not lines[-1] or lines[0].startswith(("{", "[", "\ufeff", "PAR1", "Obj\x01", "ORC", "BZh", "%PDF")):
        return
    try:
        result, table, _ = run(bom + text.encode(), csv=CsvOptions(delimiter), parts=PartTarget(rows=5))
    except IngestRefused as refused:
        assert refused.refusal.reason == "FORMAT_UNKNOWN" and sum(ord(c) < 32 for c in text) > 2, refused
        return
    assert table.column_names == names and table.num_rows == len(rows)
    for position, column in enumerate(result.columns):
        values = table.column(column.name).to_pylist()
        text_column = column.type == "string"
        for row, value in zip(rows, values, strict=True):
            assert value == row[position] if text_column else same_text(row[position], value), (column, row, value)


@RELAXED
@given(
    text=st.text(st.sampled_from(list('ab1,"\n\r é')), max_size=60),
    size=st.sampled_from([1, 3, 7, 1 << 20]),
)
@example(text='5" pipe,"x\n2"\n3\n', size=3)
@example(text='"a""b",""\n"",\r\r\n,,\n', size=1)
@example(text='a"b"c,"d"e"f\n', size=7)
def test_every_row_is_sound_or_set_aside_as_pythons_reader_sees_it(
    text: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, size)
    closed = list(csv.reader(io.StringIO(text + "\nS,S\n", newline="")))[-1] == ["S", "S"]
    reader = csv.reader(io.StringIO("x,y\n" + text, newline=""))
    next(reader)
    sound, broken, blank, line = [], [], 0, 2
    for row in reader:
        if not row:
            blank += 1
        elif len(row) == 2:
            sound.append(row)
        else:
            broken.append(line)
        line = reader.line_num + 1
    content = ("x,y\n" + text).encode()
    try:
        result, table, rejects = run(content, on_broken_row=OnBrokenRow.SET_ASIDE, csv=CsvOptions(","))
    except IngestRefused as refused:
        assert refused.refusal.reason == ("FILE_EMPTY" if closed else "FILE_TRUNCATED")
        assert not closed or not sound
        return
    assert closed
    assert [reject["line"] for reject in rejects] == broken
    assert (result.row_count, result.blank_line_count) == (len(sound), blank)
    for row, stored in zip(sound, table.to_pylist(), strict=True):
        for expected, value in zip(row, stored.values(), strict=True):
            assert same_text(expected, "" if value is None else value, blank_is_null=True)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | NASTY,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NASTY, inner, max_size=2),
    max_leaves=4,
)


@RELAXED
@given(
    data=st.data(),
    names=NAMES,
    size=st.sampled_from([1, 7, 64, 1 << 20]),
    ascii_only=st.booleans(),
)
def test_any_table_arrives_exactly_through_json_lines(
    data: st.DataObject, names: list[str], size: int, ascii_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, size)
    kinds = [
        data.draw(st.sampled_from([NASTY, st.integers(-9, 2**64), st.floats(-9, 9), st.booleans(), JSON_VALUES]))
        for _ in names
    ]
    cells = [st.fixed_dictionaries({}, optional=dict(zip(names, kinds, strict=True)))]
    rows = data.draw(st.lists(cells[0], min_size=1, max_size=8))
    if not any(rows):
        return
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    result, table, _ = run(text.encode(), format=Format.JSON_LINES)
    for column in result.columns:
        nested = any("JSON text" in note for note in column.notes)
        mixed = any("kept as text" in note or "stored as text" in note for note in column.notes)
        for row, value in zip(rows, table.column(column.name).to_pylist(), strict=True):
            source = row.get(column.name)
            if nested:
                assert value is None if source is None else json.loads(value) == source
            elif mixed and source is not None and not isinstance(source, str):
                assert json.loads(value) == source
            else:
                assert value == source


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=60).map(lambda b: bytes(b'",\n\rab'[c % 6] for c in b)), final=st.booleans())
def test_rows_cover_the_block_without_gaps(data: bytes, final: bool) -> None:
    records = find_records(data, b",", final)
    assert [0, *records.stops.tolist()][:-1] == records.starts.tolist() if len(records.starts) else True
    assert (records.starts <= records.ends).all() and (records.ends <= records.stops).all()
    assert records.consumed == (records.stops[-1] if len(records.stops) else 0)
    if final and not records.open_quote:
        assert records.consumed == len(data)


@given(number=st.integers(-(2**53), 2**53))
@settings(max_examples=30, deadline=None)
def test_a_member_has_one_name_in_every_format(number: int) -> None:
    expected = [pseudonym(KEY, str(number))]
    sources: list[bytes] = [f"m,v\n{number},1\n".encode(), json.dumps({"m": number}).encode() + b"\n"]
    sources += [json.dumps({"m": str(number)}).encode() + b"\n", f"m,v\n{number}.0,1\n".encode()]
    for array in (pa.array([number]), pa.array([float(number)]), pa.array([str(number)])):
        sink = io.BytesIO()
        pq.write_table(pa.table({"m": array}), sink)
        sources.append(sink.getvalue())
    for source in sources:
        assert run(source, member_column="m")[1].column("m").to_pylist() == expected


# Statistics ------------------------------------------------------------------------------------------------------


def observe(values: Sequence[Any], members: list[int], kind: pa.DataType, delta: str, cuts: int) -> ColumnStatistics:
    observer = ColumnObserver("c", delta)
    seen: set[int] = set()
    for start in range(0, len(values), cuts):
        part = members[start : start + cuts]
        first = []
        for member in part:
            first.append(member not in seen)
            seen.add(member)
        column = pa.array(values[start : start + cuts], kind)
        observer.feed(column, np.array(part, np.int64), np.array(first))
    return observer.publish()


NUMBERS = st.one_of(
    st.integers(-200, 200).map(float), st.floats(-1e9, 1e9), st.sampled_from([0.0, 1.0, 17.0, 1e-9, 123456.0])
)


@RELAXED
@given(data=st.data(), count=st.integers(10, 80), people=st.integers(10, 25))
def test_no_number_shows_fewer_than_ten_members(data: st.DataObject, count: int, people: int) -> None:
    members = [*range(people), *data.draw(st.lists(st.integers(0, people - 1), min_size=count, max_size=count))]
    pool = data.draw(st.lists(st.none() | NUMBERS, min_size=1, max_size=6))
    values = data.draw(st.lists(st.sampled_from(pool) | NUMBERS, min_size=len(members), max_size=len(members)))
    published = observe(values, members, pa.float64(), "double", data.draw(st.integers(1, 60)))

    for number in (published.low, published.high):
        if number is not None:
            assert number == float(f"{number:.1e}")
            near = {m for v, m in zip(values, members, strict=True) if v is not None and in_cell(v, number)}
            assert len(near) >= K
    missing = {m for v, m in zip(values, members, strict=True) if v is None}
    present = {m for v, m in zip(values, members, strict=True) if v is not None}
    if len(missing) < K <= len(present):
        assert published.null_fraction == 0.0
    if len(present) < K:
        assert published.null_fraction in (None, 1.0)
        assert (published.low, published.high, published.distinct_at_least) == (None, None, None)

    # A value in a cell that fewer than ten members share moves no range: taking all such away changes nothing.
    holders: dict[int, set[int]] = defaultdict(set)
    for value, member in zip(values, members, strict=True):
        if value is not None:
            holders[cell(value)].add(member)
    without = [v if v is not None and len(holders[cell(v)]) >= K else None for v in values]
    again = observe(without, members, pa.float64(), "double", 1_000)
    if again.null_fraction != 1.0 and again.null_fraction is not None:
        assert (again.low, again.high) == (published.low, published.high)


def cell(value: float) -> int:
    return int(_cells(np.array([value]))[0])


def in_cell(value: float, label: float) -> bool:
    if label == 0:
        return abs(value) < 1e-299
    step = 10.0 ** (math.floor(math.log10(abs(label)) + 1e-12) - 1)
    return abs(value - label) <= step / 2 * (1 + 1e-6)


@RELAXED
@given(data=st.data(), people=st.integers(10, 40))
def test_the_distinct_count_stays_true_when_any_nine_members_leave(data: st.DataObject, people: int) -> None:
    members = list(range(people)) * 2
    values = data.draw(st.lists(st.integers(0, 12).map(str), min_size=len(members), max_size=len(members)))
    published = observe(values, members, pa.string(), "string", data.draw(st.integers(1, 90)))
    if published.distinct_at_least is None:
        return
    for _ in range(20):
        gone = set(data.draw(st.lists(st.integers(0, people - 1), max_size=K - 1)))
        left = {v for v, m in zip(values, members, strict=True) if m not in gone}
        assert len(left) >= published.distinct_at_least


def test_nothing_is_said_about_nine_members_nor_about_who_they_are() -> None:
    rows = "".join(f"{m},{v}\n" for m in range(9) for v in range(50))
    assert run(("m,v\n" + rows).encode(), member_column="m")[0].statistics == ()
    ten = run(("m,v\n" + rows + "9,1\n").encode(), member_column="m")[0]
    assert [s.name for s in ten.statistics] == ["v"]
    # Values 0 and 2 to 49 belong to nine members each; only the value 1 belongs to ten.
    assert (ten.statistics[0].low, ten.statistics[0].high) == (1.0, 1.0)


# Types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (["1", "", "3"], "long", [1, None, 3]),
        (["1", '"2"', '""'], "long", [1, 2, None]),
        (["9223372036854775807", ""], "long", [2**63 - 1, None]),
        (["9223372036854775808", "1"], "string", ["9223372036854775808", "1"]),
        (["9007199254740993", "1.5"], "string", ["9007199254740993", "1.5"]),
        (["007", "8"], "string", ["007", "8"]),
        (["1", "2.5", ""], "double", [1.0, 2.5, None]),
        (["1", "x"], "string", ["1", "x"]),
        (["inf", "1"], "double", [math.inf, 1.0]),
        (["nan", ""], "string", ["nan", None]),
        (["1e999", "1"], "string", ["1e999", "1"]),
        (["true", "False"], "boolean", [True, False]),
        (["true", "1"], "string", ["true", "1"]),
        (["2024-02-29", ""], "date", ["2024-02-29", None]),
        (["2023-02-29", ""], "string", ["2023-02-29", None]),
        (["2024-01-01T10:00", ""], "timestamp", ["2024-01-01T10:00:00+00:00", None]),
        (["2024-01-01T10:00:00+02:00", '""'], "timestamp", ["2024-01-01T08:00:00+00:00", None]),
        (["2024-01-01", "2024-01-01T10:00:00Z"], "string", ["2024-01-01", "2024-01-01T10:00:00Z"]),
        (['""', ""], "string", ["", None]),
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_a_type_is_chosen_over_all_rows(
    texts: list[str], kind: str, values: list[Any], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, block)
    for order in (1, -1):
        content = "v,x\n" + "".join(f"{text},a\n" for text in texts[::order])
        result, table, _ = run(content.encode())
        stored = [v.isoformat() if hasattr(v, "isoformat") else v for v in table.column("v").to_pylist()]
        assert (result.columns[0].type, stored) == (kind, values[::order])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter: str) -> None:
    rows = [["a", "b", "c"], ["1,5", "x;y", "p|q"], ["2,5", "z", "r\ts"]]
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter).writerows(rows)
    result, table, _ = run(sink.getvalue().encode())
    assert result.delimiter == delimiter and table.to_pylist()[0] == dict(zip(*rows[:2], strict=True))


def test_one_column_without_any_delimiter_is_a_table() -> None:
    _, table, _ = run(b'word\nalpha\n\n"be,ta"\n')
    assert table.to_pydict() == {"word": ["alpha", "be,ta"]}


def test_parquet_types_arrive_as_delta_types() -> None:
    table = pa.table(
        {
            "u8": pa.array([1, None], pa.uint8()),
            "u64": pa.array([2**64 - 1, None], pa.uint64()),
            "f32": pa.array([0.5, None], pa.float32()),
            "money": pa.array([None, 1], pa.decimal128(5, 2)),
            "when": pa.array([1_500, None], pa.timestamp("ns")),
            "label": pa.array(["a", None]).dictionary_encode(),
            "nested": pa.array([{"a": [1, 2]}, None]),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    result, stored, _ = run(sink.getvalue())
    assert [c.type for c in result.columns] == ["long", "string", "double", "string", "timestamp", "string", "string"]
    row = {k: v[0] for k, v in stored.slice(0, 1).to_pydict().items()}
    assert (row["u64"], row["f32"], row["label"], row["nested"]) == (str(2**64 - 1), 0.5, "a", '{"a":[1,2]}')
    assert row["when"].microsecond == 1 and stored.column("money").to_pylist() == [None, "1.00"]
