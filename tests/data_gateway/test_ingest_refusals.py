"""Bad input: each gets one clear refusal and leaves nothing behind; bombs are built here and meet the real limits."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_gateway.ingest import (
    CsvOptions,
    Format,
    IngestJob,
    IngestRefusal,
    IngestRefused,
    Limits,
    OnBrokenRow,
    run_job,
)
from data_gateway.ingest.engine import ingest

KEY = bytes(32)


async def refused(folder: Path, source: Path, **more: object) -> IngestRefusal:
    """The refusal, after checking that nothing remains of the attempt."""
    job = IngestJob(source, folder / "versions/v1", folder / "job", pseudonym_key=KEY, **more)  # type: ignore[arg-type]
    with pytest.raises(IngestRefused) as caught:
        await run_job(job, lambda _: None)
    versions = folder / "versions"
    assert not versions.exists() or not list(versions.iterdir())
    assert {p.name for p in (folder / "job").glob("*")} <= {"job.json", "result.json"}
    return caught.value.refusal


def write(folder: Path, content: str | bytes, name: str = "source") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "reason", "facts"),
    [
        ("a,b\n1,2\n3\n4,5\n", "BROKEN_ROW", {"line": "3", "expected_fields": "2", "found_fields": "1"}),
        ("a,b\n1,2\n3,4,5\n", "BROKEN_ROW", {"line": "3", "rows_before": "1", "found_fields": "3"}),
        ('a,b\n"x\ny\n",2\n3\n', "BROKEN_ROW", {"line": "5", "rows_before": "1"}),
        ('a,b\r\n"x\r\ny",2\r\n\r\n3\r\n', "BROKEN_ROW", {"line": "5"}),
        ('a,b\n5" pipe,"x\n2"\n3\n', "BROKEN_ROW", {"line": "4", "rows_before": "1"}),
        ("a,b\n1,2\n3", "FILE_TRUNCATED", {"line": "3", "rows_before": "1"}),
        ('a,b\n1,2\n3,"x\n4,5\n', "FILE_TRUNCATED", {"line": "3"}),
        ('"a,b\n1,2\n', "FILE_TRUNCATED", {"line": "1"}),
        (b"a,b\n1,2\n3,\xff\n", "NOT_UTF8", {"line": "3", "rows_before": "1"}),
        (b"a,\xff\n1,2\n", "NOT_UTF8", {"line": "1"}),
        ("a,b\nx,1\n ,2\n", "NULL_MEMBER", {"line": "3", "rows_before": "1"}),
        ("a,A\n1,2\n", "COLUMN_REPEATED", {"first_position": "1", "column_position": "2"}),
        ("a,\n1,2\n", "COLUMN_NAME_INVALID", {"column_position": "2"}),
        ('a,"b\x07"\n1,2\n', "COLUMN_NAME_INVALID", {}),
        (f"a,{'b' * 256}\n1,2\n", "COLUMN_NAME_INVALID", {}),
        ("b,c\n1,2\n", "COLUMN_UNKNOWN", {"column": "a"}),
        (",".join(f"c{i}" for i in range(2_001)) + "\n", "TOO_MANY_COLUMNS", {"columns": "2001"}),
        ("", "FILE_EMPTY", {}),
        ("\ufeff \n", "FILE_EMPTY", {}),
        ("a,b\n", "FILE_EMPTY", {}),
        (b"\x1f\x8b\x08\x00", "FORMAT_UNKNOWN", {"found": "gzip"}),
        (b"\xff\xfea\x00,\x00b\x00", "FORMAT_UNKNOWN", {"found": "text in UTF-16"}),
        (bytes(range(256)) * 4, "FORMAT_UNKNOWN", {"found": "binary"}),
        ('[{"a": 1}]', "FORMAT_UNKNOWN", {"found": "a JSON array"}),
        (b"PAR1" + b"x" * 100, "FILE_TRUNCATED", {}),
        (b"PAR1" + b"x" * 100 + b"PAR1", "FILE_UNREADABLE", {}),
        ('{"a": 1}\n{"a": 2\n{"a": 3}\n', "BROKEN_ROW", {"line": "2", "rows_before": "1"}),
        ('{"a": 1}\n{"a": 2, "a": 3}\n', "BROKEN_ROW", {"line": "2"}),
        ('{"a": 1}\n[1]\n', "BROKEN_ROW", {"line": "2"}),
        ('{"a": 1, "b": NaN}\n', "BROKEN_ROW", {"line": "1"}),
        ('{"a": 1, "b": 1e999}\n', "BROKEN_ROW", {"line": "1"}),
        ('{"a": "\\ud800"}\n', "BROKEN_ROW", {"line": "1"}),
        ('{"a": 1, "b": ' + "[" * 100_000 + "\n", "BROKEN_ROW", {"line": "1"}),
        ('{"a": ' + "9" * 5_000 + "}\n", "BROKEN_ROW", {"line": "1"}),
        ('{"a": 1}\n{"a": 2', "FILE_TRUNCATED", {"line": "2"}),
        ('{"a": 1}\n{"b": 2}\n', "NULL_MEMBER", {"line": "2"}),
        ('{"b": 1}\n{"b": 2}\n', "COLUMN_UNKNOWN", {"column": "a"}),
        ('{"a": 1, "A": 2}\n', "COLUMN_REPEATED", {}),
        ('{"a": 1, "": 2}\n', "COLUMN_NAME_INVALID", {}),
    ],
)
def test_bad_text_is_refused_by_its_own_name(
    tmp_path: Path, content: str | bytes, reason: str, facts: dict[str, str]
) -> None:
    # The engine is called here without its subprocess, which would take a second for each line above.
    (tmp_path / "job").mkdir()
    job = IngestJob(write(tmp_path, content), tmp_path / "versions/v1", tmp_path / "job", member_column="a")
    with pytest.raises(IngestRefused) as caught:
        ingest(job, KEY, lambda _: None)
    refusal = caught.value.refusal
    assert refusal.reason == reason, refusal
    assert facts.items() <= refusal.facts.items()
    assert "pipe" not in refusal.message
    assert not (tmp_path / "versions").exists() and not list((tmp_path / "job").iterdir())


async def test_the_refusal_crosses_the_process_boundary(tmp_path: Path) -> None:
    refusal = await refused(tmp_path, write(tmp_path, "a,b\n1,2\n3\n4,5\n"))
    assert refusal.reason == "BROKEN_ROW"
    assert refusal.message == (
        "Line 3 has 1 fields where the header names 2. 1 rows before it were sound. Nothing was stored."
    )
    assert refusal.facts == {"line": "3", "rows_before": "1", "expected_fields": "2", "found_fields": "1"}


async def test_a_file_must_be_what_it_is_called(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": 1}\n', "data.csv")
    assert (await refused(tmp_path, path)).reason == "FORMAT_MISMATCH"
    assert (await refused(tmp_path, path, format=Format.PARQUET)).facts["found"] == "JSON_LINES"
    assert (await refused(tmp_path, tmp_path / "absent.csv")).reason == "SOURCE_MISSING"
    assert (await refused(tmp_path, tmp_path)).reason == "SOURCE_MISSING"


async def test_a_row_without_end_is_not_kept_in_memory(tmp_path: Path) -> None:
    limits = Limits(row_bytes=1_000)
    csv = write(tmp_path, 'a,b\n1,2\n"' + "x,y\n" * 500 + '",2\n', "a.csv")
    refusal = await refused(tmp_path, csv, limits=limits)
    assert (refusal.reason, refusal.facts["line"]) == ("ROW_TOO_LARGE", "3")
    lines = write(tmp_path, '{"a":1}\n{"a":"' + "x" * 5_000_000, "a.jsonl")
    assert (await refused(tmp_path, lines, limits=limits)).reason == "ROW_TOO_LARGE"


async def test_parquet_without_member_names_the_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"m": [1, 2, None, 4], "v": [1, 2, 3, 4]}), tmp_path / "a.parquet")
    refusal = await refused(tmp_path, tmp_path / "a.parquet", member_column="m")
    assert (refusal.reason, refusal.facts) == ("NULL_MEMBER", {"line": "3", "rows_before": "2"})
    pq.write_table(pa.table({"v": [b"x"]}), tmp_path / "b.parquet")
    assert (await refused(tmp_path, tmp_path / "b.parquet")).reason == "UNSUPPORTED_TYPE"
    bad = pa.array([b"ok", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"v": bad}), tmp_path / "c.parquet")
    assert (await refused(tmp_path, tmp_path / "c.parquet")).facts["line"] == "2"
    cut = (tmp_path / "a.parquet").read_bytes()
    assert (await refused(tmp_path, write(tmp_path, cut[:-9], "d.parquet"))).reason == "FILE_TRUNCATED"


def dictionary_bomb(path: Path) -> int:
    """One text of a megabyte, named a thousand times: a gigabyte in a file of a few hundred bytes."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000, pa.int32()), pa.array(["a" * 1_000_000]))
    pq.write_table(pa.table({"v": column}), path, compression="zstd", store_schema=False, write_statistics=False)
    return path.stat().st_size


async def test_a_dictionary_bomb_is_counted_before_it_is_decoded(tmp_path: Path) -> None:
    assert dictionary_bomb(tmp_path / "bomb.parquet") < 1_000
    refusal = await refused(tmp_path, tmp_path / "bomb.parquet")
    assert refusal.reason == "TOO_LARGE_DECODED"
    assert int(refusal.facts["limit_bytes"]) == 256 << 20


async def test_a_page_bomb_meets_the_memory_limit(tmp_path: Path) -> None:
    column = pa.array(["\0" * 400_000_000], pa.string())
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"v": pa.chunked_array([column] * 3)}), path, compression="zstd", use_dictionary=False,
                   write_statistics=False, store_schema=False)  # fmt: skip
    assert path.stat().st_size < 500_000
    refusal = await refused(tmp_path, path, limits=Limits(memory_bytes=1 << 30))
    assert refusal.reason in ("INGESTION_KILLED", "TOO_LARGE_DECODED"), refusal
    assert refusal.reason == "TOO_LARGE_DECODED" or refusal.facts["cause"] == "MEMORY"


async def test_wide_and_empty_json_rows_are_a_bomb_too(tmp_path: Path) -> None:
    wide = json.dumps({f"c{i}": 1 for i in range(2_000)})
    path = write(tmp_path, wide + "\n" + "{}\n" * 40_000, "a.jsonl")
    assert (await refused(tmp_path, path)).reason == "TOO_LARGE_DECODED"


async def test_time_is_limited_by_the_kernel_and_by_the_clock(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n" + "1,2\n" * 3_000_000, "a.csv")
    refusal = await refused(tmp_path, path, limits=Limits(cpu_seconds=1))
    assert (refusal.reason, refusal.facts["cause"]) == ("INGESTION_KILLED", "CPU_TIME")
    refusal = await refused(tmp_path, path, limits=Limits(wall_seconds=0.3))
    assert (refusal.reason, refusal.facts["cause"]) == ("INGESTION_KILLED", "WALL_CLOCK")


async def test_what_an_interrupted_attempt_left_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / "v1.partial/data/part-00000.parquet"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")
    job = IngestJob(write(tmp_path, "a\n1\n", "a.csv"), tmp_path / "v1", tmp_path / "job")
    result = await run_job(job, lambda _: None)
    assert result.row_count == 1 and not (tmp_path / "v1.partial").exists()


async def test_broken_rows_are_set_aside_once_each(tmp_path: Path) -> None:
    text = 'm,v\na,1\n,2\n"b\n",3\nonly\n\nc,4,5\nd,\nlast'
    job = IngestJob(write(tmp_path, text), tmp_path / "v1", tmp_path / "job", member_column="m", pseudonym_key=KEY)
    result = await run_job(replace(job, on_broken_row=OnBrokenRow.SET_ASIDE), lambda _: None)
    rejects = [json.loads(line) for line in (tmp_path / "job/rejects.jsonl").read_text().splitlines()]
    assert [(r["line"], r["reason"], r["raw"]) for r in rejects] == [
        (3, "NULL_MEMBER", ",2"),
        (6, "BROKEN_ROW", "only"),
        (8, "BROKEN_ROW", "c,4,5"),
        (10, "FILE_TRUNCATED", "last"),
    ]
    assert (result.row_count, result.reject_count, result.blank_line_count) == (3, 4, 1)
    assert (tmp_path / "job/rejects.jsonl").stat().st_mode & 0o077 == 0
    assert pq.read_table(tmp_path / "v1/data/part-00000.parquet").column("v").to_pylist() == [1, 3, None]
    unclosed = write(tmp_path, 'a,b\n1,2\n3,"x\n4,5\n')
    refusal = await refused(tmp_path / "u", unclosed, on_broken_row=OnBrokenRow.SET_ASIDE)
    assert refusal.reason == "FILE_TRUNCATED"


async def test_secrets_and_values_stay_out_of_logs_and_environment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    job = IngestJob(tmp_path, tmp_path / "v1", tmp_path / "job", member_column="m", pseudonym_key=b"S" * 32)
    assert "SSSS" not in repr(job)
    with caplog.at_level(logging.DEBUG):
        path = write(tmp_path, "m,v\nsecret-name,1\nsecret-name\n")
        refusal = await refused(tmp_path, path, member_column="m", csv=CsvOptions(","))
    assert "secret-name" not in caplog.text and "secret-name" not in str(refusal)
    from data_gateway.ingest.process import _environment

    assert "DATABASE_PASSWORD" not in _environment() and os.environ["DATABASE_PASSWORD"]
