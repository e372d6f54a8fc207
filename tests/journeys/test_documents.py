"""Every command block in README and the tour is executed, in order, in one shell, as a reader would."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFUSED = "# is refused"


def blocks(document: Path) -> list[list[str]]:
    """The commands of each ```console block."""
    found = re.findall(r"```console\n(.*?)```", document.read_text(), re.DOTALL)
    return [[line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")] for block in found]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROCHDALE", "PYTEST", "MAKE"))}
    # A clone's .venv/bin first, as the reader of the tour has it.
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1", **more}


class Shell:
    """One bash that stays open: what a command exports, the next one sees."""

    def __init__(self, folder: Path) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment(),
        )

    def run(self, command: str) -> tuple[int, str]:
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.write(f'{command}\necho "<<$?>>"\n')
        self._bash.stdin.flush()
        said = ""
        for line in self._bash.stdout:
            if match := re.fullmatch(r"(.*)<<(\d+)>>\n", line, re.DOTALL):
                return int(match[2]), said + match[1]
            said += line
        raise AssertionError(f"the shell ended: {said}")

    def close(self) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self._bash.wait(10)
        assert self._bash.stdout is not None
        self._bash.stdout.close()


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Path]:
    """`rochdale up --home market`, the tour's first block, in a terminal of its own. The reader is in a clone."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (first,) = blocks(ROOT / "docs" / "tour.md")[0]
    assert first == "rochdale up --home market"
    with (tmp_path / "up.log").open("w") as log:
        up = subprocess.Popen(first.split(), cwd=tmp_path, env=environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + 90
        while not (tmp_path / "market" / "market.json").exists():
            assert up.poll() is None and time.monotonic() < deadline, (tmp_path / "up.log").read_text()
            time.sleep(0.1)
        yield tmp_path
        assert up.poll() is None, (tmp_path / "up.log").read_text()
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0, (tmp_path / "up.log").read_text()


def test_the_tour_is_true(market: Path) -> None:
    shell, shapes = Shell(market), []
    for block in blocks(ROOT / "docs" / "tour.md")[1:]:
        for command in block:
            code, said = shell.run(command)
            assert (code != 0) == command.endswith(REFUSED), f"{command}\n{said}"
            assert "Traceback" not in said, f"{command}\n{said}"
            if command.startswith('python -c "import delta_sharing'):
                shapes.append(said.strip())
    shell.close()
    # Whole before the member withdrew, and without her five rows after.
    assert shapes == ["(20190, 45)", "(20185, 45)"]


def test_the_commands_of_the_readme_work(tmp_path: Path) -> None:
    first, second = blocks(ROOT / "README.md")
    assert first == ["make demo", "make test"] and second == [".venv/bin/rochdale up"]
    demo = subprocess.run(
        ["make", "demo", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert demo.returncode == 0, demo.stdout[-3000:] + demo.stderr[-2000:]
    # This test is one of those that `make test` runs, so here it only finds them all and runs none.
    found = subprocess.run(
        ["make", "test", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        env=environment(PYTEST_ADDOPTS="--collect-only"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-2000:]


def test_the_readme_leads_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            assert link.startswith("http") or (document.parent / link).exists(), f"{document.name}: {link}"
