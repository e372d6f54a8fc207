"""Starts an ingestion in its own limited process and turns its end into an answer; it leaves out the ingestion."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable

from data_gateway.ingest.answer import MEMORY_EXHAUSTED, PROGRESS, decode_answer, encode_job
from data_gateway.ingest.engine import discard
from data_gateway.ingest.job import IngestJob, IngestProgress, IngestRefusal, IngestRefused, IngestResult

_log = logging.getLogger(__name__)

# The subprocess gets no variable it does not need: ours may hold credentials, and it reads files of strangers.
_PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")


async def run_job(job: IngestJob, on_progress: Callable[[IngestProgress], None]) -> IngestResult:
    """Ingests one file. Raises IngestRefused, after which neither the version folder nor a private file exists.

    A second call for a version that exists is refused with VERSION_EXISTS; what an earlier, interrupted call left
    behind is removed first. Two calls for the same version at the same time are the caller's to prevent.
    """
    if job.version_folder.exists():
        raise IngestRefused("VERSION_EXISTS", "The version exists already; versions are never written twice.")
    if not job.source.is_file():
        raise IngestRefused("SOURCE_MISSING", "There is no file to ingest.")
    job.job_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    discard(job)
    result_file = job.job_folder / "result.json"
    result_file.unlink(missing_ok=True)
    try:
        status, cause = await _run(job, on_progress)
    except BaseException:
        discard(job)
        raise
    if status != 0 or not result_file.exists():
        discard(job)
        raise IngestRefused(
            "INGESTION_KILLED",
            "Reading the file took more than it may; it may be damaged or made to exhaust us. Nothing was stored.",
            cause=cause or _cause(status),
        )
    answer = decode_answer(result_file.read_bytes())
    if isinstance(answer, IngestRefusal):
        discard(job)
        raise IngestRefused(answer.reason, answer.message, **answer.facts)
    return answer


async def _run(job: IngestJob, on_progress: Callable[[IngestProgress], None]) -> tuple[int, str | None]:
    """The exit status, and the cause if it was we who ended the process."""
    key_fd = _key_pipe(job.pseudonym_key) if job.pseudonym_key is not None and job.member_column else None
    try:
        job_file = job.job_folder / "job.json"
        job_file.touch(mode=0o600)
        job_file.write_bytes(encode_job(job, key_fd))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "data_gateway.ingest",
            str(job_file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=() if key_fd is None else (key_fd,),
            env=_environment(),
        )
    finally:
        if key_fd is not None:
            os.close(key_fd)
    cause = None
    log = asyncio.create_task(_last_bytes(process.stderr))
    try:
        async with asyncio.timeout(job.limits.wall_seconds):
            assert process.stdout is not None
            async for line in process.stdout:
                on_progress(PROGRESS.validate_json(line))
            await process.wait()
    except TimeoutError:
        cause = "WALL_CLOCK"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        faults = (await log).decode("utf-8", "replace").strip()
        if faults:
            _log.error("ingestion fault: %r", faults)
    return process.returncode or (1 if cause else 0), cause


async def _last_bytes(stream: asyncio.StreamReader | None, keep: int = 8_192) -> bytes:
    kept = b""
    while stream is not None and (chunk := await stream.read(keep)):
        kept = (kept + chunk)[-keep:]
    return kept


def _key_pipe(key: bytes) -> int:
    """The reading end of a pipe that already holds the key; it fits into the pipe's buffer many times over."""
    reading, writing = os.pipe()
    try:
        os.write(writing, key)
    finally:
        os.close(writing)
    return reading


def _environment() -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    return passed | threads | {"PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _cause(status: int) -> str:
    if status == MEMORY_EXHAUSTED:
        return "MEMORY"
    if status == -signal.SIGXCPU or status == -signal.SIGKILL:
        # With one value for both limits the kernel sends SIGKILL; an administrator's kill looks the same.
        return "CPU_TIME"
    return f"EXIT_{status}" if status >= 0 else f"SIGNAL_{-status}"
