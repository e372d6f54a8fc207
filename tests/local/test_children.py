"""Any child process, as services will be: started, watched, ended with all it started, its log kept short."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from rochdale_local.processes import LOG_LIMIT_BYTES, CannotStart, Child
from rochdale_local.supervisor import Supervisor


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def family(pid: int | None) -> list[psutil.Process]:
    assert pid
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


async def test_a_leftover_is_stopped_and_a_stranger_with_its_number_is_not(tmp_path: Path) -> None:
    leftover = Child("sleeper", ["/bin/sleep", "60"], tmp_path)
    await leftover.start()
    record = (tmp_path / "run/sleeper.json").read_text()
    # The same home again, by an owner that does not know the first: as after a kill where children outlive parents.
    second = Child("sleeper", ["/bin/sleep", "60"], tmp_path)
    await second.start()
    assert await leftover.wait() == -signal.SIGTERM
    started = psutil.Process(second.pid).create_time()
    (tmp_path / "run/sleeper.json").write_text(f'{{"pid": {second.pid}, "started": {started - 100}}}')
    third = Child("sleeper", ["/bin/sleep", "60"], tmp_path)
    await third.start()
    assert second.pid
    (tmp_path / "run/sleeper.json").write_text(record[:7])
    await third.stop()
    await second.stop()


async def test_a_child_that_cannot_run_names_the_cause(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    missing = Child("missing", [str(tmp_path / "nothing")], tmp_path, ready=never)
    with pytest.raises(CannotStart, match="No such file or directory"):
        await missing.start()
    silent = Child("silent", ["/bin/sleep", "60"], tmp_path, ready=never, ready_seconds=0.2)
    with pytest.raises(CannotStart, match=r"did not answer within 0\.2 seconds: it said nothing"):
        await silent.start()
    assert silent.pid is None


async def test_a_child_that_will_not_listen_is_ended_with_its_children(tmp_path: Path) -> None:
    script = "trap '' TERM; (trap '' TERM; sleep 60) & echo up; sleep 60; sleep 60"
    child = Child("deaf", ["/bin/sh", "-c", script], tmp_path, stop_signals=((signal.SIGTERM, 0.2),))
    await child.start()
    await until(lambda: child.last_words() == "up")
    await until(lambda: len(family(child.pid)) >= 3)
    processes = family(child.pid)
    await child.stop()
    assert alive(processes) == []


async def test_a_child_that_keeps_falling_is_started_ever_more_slowly(tmp_path: Path) -> None:
    told: list[tuple[float, bool]] = []
    supervisor = Supervisor(lambda name, healthy, sentence: told.append((time.monotonic(), healthy)))
    await supervisor.start(Child("falling", ["/bin/sh", "-c", "exit 3"], tmp_path))
    await until(lambda: len(told) >= 7)
    await supervisor.stop()
    falls = [when for when, healthy in told if not healthy]
    assert falls[2] - falls[1] > falls[1] - falls[0] > 0.2


async def test_a_long_log_is_put_aside_at_start(tmp_path: Path) -> None:
    child = Child("chatty", ["/bin/echo", "hello"], tmp_path, env={"A": "b"}, cwd=tmp_path)
    child.log.parent.mkdir()
    child.log.write_bytes(b"x" * (LOG_LIMIT_BYTES + 1))
    await child.start()
    assert await child.wait() == 0
    assert child.log.read_text() == "hello\n"
    assert child.log.with_suffix(".log.1").stat().st_size == LOG_LIMIT_BYTES + 1
    await child.stop()
