"""How jobs and answers travel between the two processes, as JSON; it leaves out the pseudonym key, which never does."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from data_gateway.ingest.job import IngestJob, IngestProgress, IngestRefusal, IngestResult

# The exit status of a process that had no memory left to say anything.
MEMORY_EXHAUSTED = 77

JOB = TypeAdapter(IngestJob)
PROGRESS = TypeAdapter(IngestProgress)
_RESULT = TypeAdapter(IngestResult)
_REFUSAL = TypeAdapter(IngestRefusal)


def encode_job(job: IngestJob, key_fd: int | None) -> bytes:
    content: dict[str, Any] = JOB.dump_python(job, mode="json", exclude={"pseudonym_key"})
    return json.dumps({"job": content, "key_fd": key_fd}).encode()


def encode_answer(answer: IngestResult | IngestRefusal) -> bytes:
    if isinstance(answer, IngestRefusal):
        return json.dumps({"refusal": _REFUSAL.dump_python(answer, mode="json")}).encode()
    return json.dumps({"result": _RESULT.dump_python(answer, mode="json")}).encode()


def decode_answer(text: bytes) -> IngestResult | IngestRefusal:
    content = json.loads(text)
    if "refusal" in content:
        return _REFUSAL.validate_python(content["refusal"])
    return _RESULT.validate_python(content["result"])
