"""The page about failures names tests that exist, and each failure once."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "billing-failures.md"


def test_every_failure_names_tests_that_exist() -> None:
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    exist = set(re.findall(r"^\s*(?:async )?def (test_\w+)", written, re.MULTILINE))
    rows = re.findall(r"^\| ([0-9]+) \|.*\|([^|]*)\|$", PAGE.read_text(), re.MULTILINE)
    assert len({number for number, _ in rows}) == len(rows) > 0
    for number, tests in rows:
        named = re.findall(r"`(test_\w+)`", tests)
        assert named, f"row {number} names no test"
        assert set(named) <= exist, f"row {number}: {sorted(set(named) - exist)} do not exist"
