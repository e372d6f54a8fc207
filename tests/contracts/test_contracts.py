"""The contracts speak for themselves: every RPC says what a retry does and which published reasons it may give."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTOS = sorted((ROOT / "proto" / "rochdale").rglob("*.proto"))
REASON = re.compile(r"\b[A-Z]{3,}(?:_[A-Z]+)+\b|\bRAIL_UNAVAILABLE\b")
TABLE = ROOT / "docs" / "reference" / "refusals.md"


def published() -> set[str]:
    """The reasons in the published table."""
    return set(re.findall(r"^\| `([A-Z_]+)` \|", TABLE.read_text(), re.MULTILINE))


def rpcs() -> list[tuple[str, str, str]]:
    """(service file, RPC, comment) for every RPC."""
    found = []
    for path in PROTOS:
        for comment, name in re.findall(r"((?:^ +//.*\n)+)^  rpc (\w+)", path.read_text(), re.MULTILINE):
            found.append((path.parent.parent.name, name, " ".join(line.strip(" /") for line in comment.splitlines())))
    return found


def reasons_in_code() -> dict[str, Path]:
    """Every reason a Refusal is made with, in the product's own code."""
    found: dict[str, Path] = {}
    for folder in ("kit", "services", "client", "local"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            pattern = (
                r'(?:Refusal|MarketError|IngestRefusal|require_inside|refuse\w*)\(\s*(?:[^"()]*,\s*)*"([A-Z][A-Z_]+)"'
            )
            for reason in re.findall(pattern, text):
                found[reason] = path
    return found


def test_there_are_rpcs_to_look_at() -> None:
    assert len(rpcs()) >= 60


@pytest.mark.parametrize(("service", "name", "comment"), rpcs())
def test_an_rpc_names_only_published_reasons(service: str, name: str, comment: str) -> None:
    enums = {"NOT_FOUND"} | published()
    refused = comment.partition("efuses")[2]
    for reason in REASON.findall(refused):
        assert reason in enums or reason in comment.partition("efuses")[0], f"{service}.{name} names {reason}"


def test_every_reason_in_the_code_is_published() -> None:
    unpublished = {reason: path.name for reason, path in reasons_in_code().items() if reason not in published()}
    assert not unpublished


def test_every_published_reason_is_in_the_code() -> None:
    code = "\n".join(
        path.read_text() for folder in ("kit", "services", "client", "local") for path in (ROOT / folder).rglob("*.py")
    )
    assert not {reason for reason in published() if f'"{reason}"' not in code}
