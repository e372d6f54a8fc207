"""The benchmarks run and say what they should; how fast anything is, is nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def bench(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_quick_run_says_each_ratio_with_its_baseline_and_the_facts_of_the_machine(tmp_path: Path) -> None:
    bench("echo", "--quick", "--results", str(tmp_path))
    said: dict[str, Any] = json.loads((tmp_path / "latest.json").read_text())
    assert said["version"] == 1 and said["quick"] is True
    assert said["machine"]["cores"] >= 1 and said["machine"]["packages"]["grpcio"]
    (row,) = said["rows"]
    assert row["row"] == "3" and row["absent"] is None and isinstance(row["reached"], bool)
    assert row["ratio"]["min"] <= row["ratio"]["median"] <= row["ratio"]["max"]
    for side in (row["ours"], row["baseline"]):
        assert len(side["values"]) >= 3 and min(side["values"]) > 0
        assert side["name"] and side["unit"] and side["failed_operations"] == 0
    text = (tmp_path / "latest.md").read_text()
    assert row["what"] in text and row["baseline"]["name"] in text and "not figures" in text


def test_every_benchmark_is_listed() -> None:
    listed = bench("--list")
    assert all(name in listed for name in ("issue", "echo", "events", "catalog", "purchase", "size", "votes", "ledger"))
