"""`python -m data_gateway.ingest JOB.json`: one ingestion in a process of its own, limited by the kernel."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_gateway.ingest.answer import JOB, MEMORY_EXHAUSTED, encode_answer
from data_gateway.ingest.engine import ingest
from data_gateway.ingest.job import IngestProgress, IngestRefused, read_key


def main(arguments: list[str]) -> int:
    """Answers 0 when result.json was written, whatever it says; anything else means that it could not be."""
    job_file = Path(arguments[0])
    content: dict[str, Any] = json.loads(job_file.read_text())
    limits = content["job"]["limits"]
    # We limit ourselves, before a byte of the file is read, rather than being limited between fork and exec, which
    # is not safe in a parent with threads. This code is ours; what it must be protected from is the file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory_bytes"], limits["memory_bytes"]))
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_seconds"], limits["cpu_seconds"]))
    os.umask(0o077)
    try:
        answer = _run(content)
    except MemoryError:
        # There may be no memory left to say more; the parent takes the exit status as the answer.
        os._exit(MEMORY_EXHAUSTED)
    result_file = job_file.with_name("result.json")
    temporary = job_file.with_name("result.json.partial")
    with temporary.open("wb") as file:
        file.write(answer)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(result_file)
    return 0


def _run(content: dict[str, Any]) -> bytes:
    # Threads would cost address space and make the order of things a matter of luck.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    pa.set_memory_pool(pa.system_memory_pool())
    job = JOB.validate_python(content["job"])
    try:
        key = read_key(job, content["key_fd"])
        return encode_answer(ingest(job, key, _Reporter()))
    except IngestRefused as refused:
        return encode_answer(refused.refusal)
    except UnicodeDecodeError:
        return encode_answer(IngestRefused("NOT_UTF8", "The file holds text that is not UTF-8.").refusal)
    except MemoryError:
        raise
    except BrokenPipeError:
        raise SystemExit(1) from None  # nobody is waiting any more
    except Exception as error:
        # Where it happened goes to the log; the error's own text may hold values of the file and goes nowhere.
        sys.stderr.write("".join(traceback.format_tb(error.__traceback__)) + type(error).__name__ + "\n")
        refusal = IngestRefused("INGESTION_FAILED", "The file could not be ingested because of a fault of ours.")
        return encode_answer(refusal.refusal)


class _Reporter:
    """Progress as JSON lines on standard output, at most five a second within a phase."""

    def __init__(self) -> None:
        self._phase = ""
        self._next = 0.0

    def __call__(self, progress: IngestProgress) -> None:
        now = time.monotonic()
        if progress.phase == self._phase and now < self._next:
            return
        self._phase, self._next = progress.phase, now + 0.2
        line = {
            "phase": progress.phase,
            "rows": progress.rows,
            "bytes_done": progress.bytes_done,
            "bytes_total": progress.bytes_total,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
