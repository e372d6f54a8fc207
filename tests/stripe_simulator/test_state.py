"""The simulator remembers across restarts and deaths, and its objects have the fields the library declares."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from stripe_world import OpenWorld

from stripe_simulator import StripeSimulator
from stripe_simulator.store import Store

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


async def test_a_restart_resumes_where_it_was(open_world: OpenWorld, tmp_path: Path) -> None:
    path = tmp_path / "stripe" / "state.jsonl"
    world = await open_world(state_path=path, processing_seconds=3600)
    paid = await world.pay()
    debit = await world.pay(token="pm_usBankAccount_success")
    before = world.simulator.describe()
    await world.told()
    await world.simulator.stop()
    again = await open_world(state_path=path, processing_seconds=3600)
    assert (await again.intents.retrieve_async(paid.id)).status == "succeeded"
    assert again.simulator.describe()["charges"] == before["charges"]
    await again.raw.post("/_simulator/settle")
    assert (await again.intents.retrieve_async(debit.id)).status == "succeeded"


async def test_an_undelivered_webhook_survives_a_restart(open_world: OpenWorld, tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    world = await open_world(state_path=path)
    world.receiver.statuses = [503] * 10_000
    await world.intents.create_async({"amount": 500, "currency": "usd"})
    await asyncio.sleep(0.1)
    await world.simulator.stop()
    world.receiver.statuses = []
    again = StripeSimulator(state_path=path)
    await again.start()
    await again.webhooks.drained()
    await again.stop()
    assert world.receiver.types() == ["payment_intent.created"]


def test_a_torn_last_line_is_a_request_that_never_was(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    store = Store(path)
    store.commit({("x", "1"): {"id": "1"}, ("x", "2"): {"id": "2"}})
    store.commit({("x", "1"): None})
    store.close()
    with path.open("a") as file:
        file.write('[["x","3",{"id":')
    again = Store(path)
    assert [row["id"] for row in again.rows("x")] == ["2"]
    again.close()
    assert path.read_text() == '[["x","2",{"id":"2"}]]\n'


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello\nworld\n")
    with pytest.raises(ValueError, match=r"notes\.txt line 1 is not a line of the simulator's journal"):
        Store(path)
    assert path.read_text() == "hello\nworld\n"


async def test_it_survives_kill_as_its_own_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "stripe_simulator", "--port", str(port), "--state", str(tmp_path / "s.jsonl")]
    auth: Any = {"auth": ("sk_test_x", ""), "base_url": f"http://127.0.0.1:{port}", "trust_env": False}
    sent: Any = {"url": "/v1/customers", "data": {"name": "Ada"}, "headers": {"Idempotency-Key": "k"}}
    answers: list[Any] = []
    for end in (signal.SIGKILL, signal.SIGTERM):
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        async with httpx.AsyncClient(**auth) as shop:
            for _ in range(200):
                try:
                    answers.append((await shop.post(**sent)).json())
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
        os.kill(process.pid, end)
        await process.wait()
    assert answers[0] == answers[1]
    assert answers[0]["id"].startswith("cus_")
