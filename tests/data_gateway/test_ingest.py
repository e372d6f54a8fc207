"""A cooperative ingests real data: it arrives equal, pseudonymous, hashed and repeatable; it leaves out bad input."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_gateway.ingest import (
    Format,
    IngestJob,
    IngestProgress,
    IngestRefused,
    IngestResult,
    PartTarget,
    project,
    pseudonym,
    read_sample,
    run_job,
)
from data_gateway.ingest.version import arrow_schema

KEY = bytes(range(32))
RAND = Path(str(importlib.resources.files("statsmodels"))) / "datasets/randhie/src/randhie.csv"


async def ingest(folder: Path, source: Path, name: str = "v1", **more: object) -> IngestResult:
    job = IngestJob(source, folder / name, folder / f"{name}-job", **{"pseudonym_key": KEY, **more})  # type: ignore[arg-type]
    return await run_job(job, lambda _: None)


def read(folder: Path, result: IngestResult, name: str = "v1") -> pa.Table:
    return pa.concat_tables([pq.read_table(folder / name / file.path) for file in result.files])


async def test_rand_arrives_equal_column_by_column(tmp_path: Path) -> None:
    seen: list[IngestProgress] = []
    job = IngestJob(RAND, tmp_path / "v1", tmp_path / "job", member_column="zper", pseudonym_key=KEY)
    result = await run_job(job, seen.append)
    source = pd.read_csv(RAND, float_precision="round_trip")
    assert (result.row_count, result.reject_count, result.member_count) == (20_190, 0, 5_912)
    table = read(tmp_path, result)
    assert table.column_names == list(source.columns)
    for name in source.columns:
        if name == "zper":
            expected = [pseudonym(KEY, str(value)) for value in source[name]]
            assert table.column(name).to_pylist() == expected
        else:
            whole = source[name].dtype == np.int64
            assert table.schema.field(name).type == (pa.int64() if whole else pa.float64())
            pd.testing.assert_series_equal(table.column(name).to_pandas(), source[name], check_exact=True)
    assert seen[0].phase == "INSPECT" and seen[-1].phase == "FINISH"
    assert seen[-1].bytes_done == seen[-1].bytes_total == RAND.stat().st_size
    assert result.source_sha256 == hashlib.sha256(RAND.read_bytes()).hexdigest()


async def test_files_are_what_the_manifest_says(tmp_path: Path) -> None:
    result = await ingest(tmp_path, RAND, member_column="zper", parts=PartTarget(rows=7_000))
    assert [f.row_count for f in result.files] == [7_000, 7_000, 6_190]
    for file in result.files:
        content = (tmp_path / "v1" / file.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size_bytes, file.sha256)
    assert {p.relative_to(tmp_path / "v1").as_posix() for p in (tmp_path / "v1").rglob("*.parquet")} == {
        f.path for f in result.files
    }
    delta = json.loads(result.delta_schema)["fields"]
    table = read(tmp_path, result)
    assert [f["name"] for f in delta] == table.column_names
    assert {f["type"] for f in delta} == {"long", "double", "string"}
    assert arrow_schema(result.arrow_schema) == table.schema


async def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    first = await ingest(tmp_path, RAND, "a", member_column="zper")
    second = await ingest(tmp_path, RAND, "b", member_column="zper")
    assert first == second


async def test_three_formats_give_the_same_member_the_same_name(tmp_path: Path) -> None:
    source = pd.read_csv(RAND, float_precision="round_trip").head(200).dropna(axis=1, how="all")
    source.to_csv(tmp_path / "a.csv", index=False)
    source.astype({"zper": float}).to_parquet(tmp_path / "b.parquet")
    source.to_json(tmp_path / "c.jsonl", orient="records", lines=True, double_precision=15)
    tables = []
    for name in ("a.csv", "b.parquet", "c.jsonl"):
        result = await ingest(tmp_path, tmp_path / name, name + "-v", member_column="zper")
        tables.append(read(tmp_path, result, name + "-v"))
    assert tables[0].equals(tables[1])
    assert tables[0].column("zper").equals(tables[2].column("zper"))


async def test_private_files_stay_private(tmp_path: Path) -> None:
    result = await ingest(tmp_path, RAND, member_column="zper")
    members = pq.read_table(tmp_path / "v1-job/members.parquet")
    counts = read(tmp_path, result).column("zper").value_counts().to_pylist()
    assert dict(zip(*members.to_pydict().values(), strict=True)) == {c["values"]: c["counts"] for c in counts}
    assert not list((tmp_path / "v1").rglob("members*"))
    for path in (tmp_path / "v1-job").iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert KEY not in path.read_bytes() and KEY.hex().encode() not in path.read_bytes()
    assert "pseudonym_key" not in json.loads((tmp_path / "v1-job/job.json").read_text())["job"]


async def test_a_key_file_must_be_its_owners_alone(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(KEY)
    key_file.chmod(0o644)
    with pytest.raises(IngestRefused) as refused:
        await ingest(tmp_path, RAND, member_column="zper", pseudonym_key=None, pseudonym_key_file=key_file)
    assert refused.value.refusal.reason == "PSEUDONYM_KEY_EXPOSED"
    key_file.chmod(0o600)
    by_file = await ingest(tmp_path, RAND, member_column="zper", pseudonym_key=None, pseudonym_key_file=key_file)
    by_pipe = await ingest(tmp_path, RAND, "v2", member_column="zper")
    assert by_file.files == by_pipe.files
    with pytest.raises(IngestRefused) as refused:
        await ingest(tmp_path, RAND, "v3", member_column="zper", pseudonym_key=None)
    assert refused.value.refusal.reason == "PSEUDONYM_KEY_MISSING"


async def test_a_sample_is_repeatable_and_names_nobody(tmp_path: Path) -> None:
    result = await ingest(tmp_path, RAND, member_column="zper", parts=PartTarget(rows=5_000))
    sample = read_sample(tmp_path / "v1", result.files, "zper")
    assert len(sample) == 20 and sample == read_sample(tmp_path / "v1", result.files, "zper")
    assert all("zper" not in row for row in sample)
    everything = read(tmp_path, result).drop_columns(["zper"]).to_pylist()
    assert all(row in everything for row in sample)
    chosen = read_sample(tmp_path / "v1", result.files, "zper", ["site", "zper", "plan"], rows=3)
    assert len(chosen) == 3 and list(chosen[0]) == ["plan", "site"]
    json.dumps(sample, allow_nan=False)
    with pytest.raises(IngestRefused) as refused:
        read_sample(tmp_path / "v1", result.files, "zper", ["ssn"])
    assert refused.value.refusal.reason == "COLUMN_UNKNOWN"


async def test_a_licensed_subset_of_columns_is_cut_out(tmp_path: Path) -> None:
    result = await ingest(tmp_path, RAND, member_column="zper", parts=PartTarget(rows=8_000))
    files = project(tmp_path / "v1", result.files, ["year", "zper", "site"], tmp_path / "p")
    again = project(tmp_path / "v1", result.files, ["site", "zper", "year"], tmp_path / "q")
    assert files == again and [f.row_count for f in files] == [f.row_count for f in result.files]
    cut = pa.concat_tables([pq.read_table(tmp_path / "p" / f.path) for f in files])
    assert cut.equals(read(tmp_path, result).select(["site", "year", "zper"]))
    for file in files:
        content = (tmp_path / "p" / file.path).read_bytes()
        assert file.sha256 == hashlib.sha256(content).hexdigest() and b"income" not in content
    for columns, reason in ((["site", "../x"], "COLUMN_UNKNOWN"), ([], "EMPTY_PROJECTION")):
        with pytest.raises(IngestRefused) as refused:
            project(tmp_path / "v1", result.files, columns, tmp_path / "r")
        assert refused.value.refusal.reason == reason and not (tmp_path / "r").exists()


async def test_a_version_is_never_written_twice(tmp_path: Path) -> None:
    result = await ingest(tmp_path, RAND)
    assert result.member_count is None and result.format is Format.CSV and result.delimiter == ","
    with pytest.raises(IngestRefused) as refused:
        await ingest(tmp_path, RAND)
    assert refused.value.refusal.reason == "VERSION_EXISTS"
