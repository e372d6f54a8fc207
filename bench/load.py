"""Unary gRPC load: h2load where it is installed, else a Python client in a process of its own. It knows no service."""

from __future__ import annotations

import asyncio
import re
import shutil
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench.rows import Reading
from bench.stage import process


@dataclass(frozen=True)
class Call:
    """One unary call, made over and over: the reply must always be `reply_bytes` long."""

    address: str
    path: str
    request: bytes
    reply_bytes: int
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Load:
    """What a run of calls came to. Latencies are of those that succeeded."""

    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def rate(self) -> Reading:
        return Reading(self.per_second, self.failed)

    @property
    def p50(self) -> Reading:
        return Reading(self.p50_ms, self.failed)

    @property
    def p99(self) -> Reading:
        return Reading(self.p99_ms, self.failed)


def driver() -> str:
    """The name of the client that `drive` uses on this machine."""
    return "h2load" if shutil.which("h2load") else "a Python client"


async def drive(call: Call, count: int, in_flight: int) -> Load:
    """Makes `count` calls, `in_flight` at a time over one connection."""
    if shutil.which("h2load"):
        return await _h2load(call, count, in_flight)
    return await drive_python(call, count, in_flight)


async def drive_python(call: Call, count: int, in_flight: int) -> Load:
    """The same with a Python client, which costs more than most servers."""
    async with process("bench.load") as client:
        answer = await client.ask(
            {
                "address": call.address,
                "path": call.path,
                "request": call.request.hex(),
                "reply_bytes": call.reply_bytes,
                "metadata": call.metadata,
                "count": count,
                "in_flight": in_flight,
            }
        )
    return summary(answer["seconds"], answer["elapsed"], answer["failed"])


def summary(seconds: list[float], elapsed: float, failed: int) -> Load:
    """Only what succeeded counts as done."""
    ordered = sorted(seconds) or [float("inf")]

    def at(share: float) -> float:
        return ordered[int(share * (len(ordered) - 1))] * 1_000

    return Load(len(seconds) / elapsed, at(0.50), at(0.99), failed)


async def _h2load(call: Call, count: int, in_flight: int) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        frame, log = Path(folder) / "frame", Path(folder) / "log"
        frame.write_bytes(struct.pack(">BI", 0, len(call.request)) + call.request)
        headers = [("content-type", "application/grpc"), ("te", "trailers"), *call.metadata]
        words = [word for name, value in headers for word in ("-H", f"{name}: {value}")]
        run = await asyncio.create_subprocess_exec(
            "h2load",
            *("-n", str(count), "-c", "1", "-m", str(in_flight), "-d", str(frame), "--log-file", str(log), *words),
            f"http://{call.address}{call.path}",
            stdout=asyncio.subprocess.PIPE,
        )
        said = (await run.communicate())[0].decode()
        lines = [line.split("\t") for line in log.read_text().splitlines()]
    # h2load sees no trailers, and gRPC answers a refusal with HTTP 200. But only a reply has a body, so what arrived
    # tells how many replies there were.
    arrived = re.search(r"\((\d+)\) data", said)
    assert arrived is not None, said
    replies = int(arrived[1]) / (5 + call.reply_bytes)
    failed = max(0, count - int(replies))
    begun = min(int(line[0]) for line in lines)
    ended = max(int(line[0]) + int(line[2]) for line in lines)
    seconds = [int(line[2]) / 1e6 for line in lines if line[1] == "200"]
    return summary(seconds[: count - failed], (ended - begun) / 1e6, failed)


async def _serve() -> None:
    """The Python client: one question a line."""
    loop = asyncio.get_running_loop()
    print("{}", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        import json

        print(json.dumps(await _python(json.loads(line))), flush=True)


async def _python(asked: dict[str, Any]) -> dict[str, Any]:
    seconds: list[float] = []
    failed = 0
    request = bytes.fromhex(asked["request"])
    metadata = [(name, value) for name, value in asked["metadata"]]
    numbers = iter(range(asked["count"]))
    async with grpc.aio.insecure_channel(asked["address"]) as channel:
        method: Any = channel.unary_unary(asked["path"])

        async def one_after_another() -> None:
            nonlocal failed
            for _ in numbers:
                started = time.perf_counter()
                try:
                    reply = await method(request, metadata=metadata, timeout=30)
                except grpc.aio.AioRpcError:
                    failed += 1
                    continue
                seconds.append(time.perf_counter() - started)
                failed += len(reply) != asked["reply_bytes"]

        begun = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(asked["in_flight"])))
        return {"seconds": seconds, "elapsed": time.perf_counter() - begun, "failed": failed}


if __name__ == "__main__":
    uvloop.run(_serve())
