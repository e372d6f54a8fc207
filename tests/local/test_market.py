"""The one-machine edition as its operator meets it: started, stopped, killed, started again, and refused in a sentence."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from house import request_id
from walk import MarketPeople

from rochdale.governance.v1 import governance_pb2 as governance
from rochdale_local.market import Market
from rochdale_local.processes import CannotStart
from rochdale_local.rooms import Options, Rooms

COMMAND = str(Path(sys.executable).parent / "rochdale")
SERVING = health_pb2.HealthCheckResponse.SERVING
# Those that have a database, and so feel its absence.
PACKAGES = ["identity", "governance", "catalog", "licensing", "billing", "access_broker"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROCHDALE", "STRIPE", "PYTEST"))}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200", **more}


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def command_lines(processes: list[psutil.Process]) -> dict[int, str]:
    lines = {}
    for process in processes:
        try:
            lines[process.pid] = " ".join(process.cmdline())
        except psutil.Error:
            continue
    return lines


class Up:
    """`rochdale up --json`, in a process of its own, from a folder in which its home has a relative path."""

    def __init__(self, folder: Path, home: str, *arguments: str) -> None:
        self.home = folder / home
        self._errors = folder / "up.log"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [COMMAND, "up", "--home", home, "--json", *arguments],
                cwd=folder,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.errors
        self.document: dict[str, Any] = json.loads(line)

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def command(self, *arguments: str, key_file: Path | None = None) -> subprocess.CompletedProcess[str]:
        known = environment(ROCHDALE_MARKET=self.document["market"], ROCHDALE_KEY_FILE=str(key_file or ""))
        return subprocess.run([COMMAND, *arguments], env=known, capture_output=True, text=True)

    def end(self, *signals: signal.Signals) -> int:
        """The exit code, once it is seen that nothing is left running."""
        processes = family(self.process.pid)
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.1)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        assert self.process.stdout.read() == "", "more than one line on standard output"
        self.process.stdout.close()
        deadline = time.monotonic() + (10 if code < 0 else 0)
        while left := alive(processes):
            assert time.monotonic() < deadline, f"left running: {left}"
            time.sleep(0.05)
        named = [line for line in command_lines(list(psutil.process_iter())).values() if str(self.home) in line]
        assert named == []
        return code


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Up(tmp_path, "José's home")
    home, operator = first.home, first.home / "keys/operator.key"
    assert json.loads((home / "market.json").read_text()).items() <= first.document.items()
    valley = tmp_path / "valley.key"
    name = ("--name", "Valley", "--email", "ada@valley.example", "--save-key", str(valley))
    for words, key_file in [
        (("organization", "register", "valley", "--kind", "cooperative", *name), None),
        (("organization", "verify", "valley"), operator),
        (("cooperative", "create", "--name", "Valley", "--description", "A valley."), valley),
    ]:
        told = first.command(*words, key_file=key_file)
        assert told.returncode == 0, told.stderr
    assert first.end(signal.SIGINT, signal.SIGINT) == 0
    assert first.errors == "", "an ordinary start and stop has nothing to warn of"
    assert not (home / "market.json").exists()

    second = Up(tmp_path, "José's home")
    assert second.document == first.document
    # The cooperative's gateway is up when the market says it is.
    port = int((home / "ports/gateway-valley-http").read_text())
    assert httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "SERVING"
    assert "Valley" in second.command("cooperative", "show", "valley", key_file=valley).stdout
    assert second.end(signal.SIGKILL) == -signal.SIGKILL

    # Not told to stop, and run the other way: it is the same market.
    third = Up(tmp_path, "José's home", "--own-processes")
    assert third.document == first.document
    assert "Valley" in third.command("cooperative", "show", "valley", key_file=valley).stdout
    (fallen,) = [pid for pid, line in command_lines(family(third.process.pid)).items() if line.endswith("-m licensing")]
    os.kill(fallen, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while "licensing ended by itself" not in third.errors or third.command("status").returncode != 0:
        assert time.monotonic() < deadline, third.errors
    assert third.end(signal.SIGHUP) == 0
    assert not (home / "market.json").exists()
    assert "Traceback" not in third.errors + "".join(log.read_text() for log in (home / "logs").glob("*.log"))
    secrets = [path.read_text().strip() for path in [operator, valley, *(home / "passwords").iterdir()]]
    for log in home.rglob("logs/*"):
        assert not any(secret in log.read_text() for secret in secrets), log


def test_asked_to_stop_while_it_starts_it_stops(tmp_path: Path) -> None:
    for number, part in ((signal.SIGTERM, "postgres/run/postgres.json"), (signal.SIGINT, "nats/port")):
        home = tmp_path / part.replace("/", " ")
        starting = subprocess.Popen([COMMAND, "up", "--home", home], env=environment(), stdout=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while not (home / part).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        processes = family(starting.pid)
        starting.send_signal(number)
        said, _ = starting.communicate(timeout=30)
        assert (starting.returncode, said, alive(processes)) == (0, b"", [])


def test_what_cannot_be_is_said_and_no_key_repeated(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    live = "sk_live_" + "a" * 24
    for home, more, code, sentence in [
        (tmp_path / "file", {}, 1, f"{tmp_path / 'file'} cannot be used as a folder: File exists."),
        (tmp_path / "new", {"STRIPE_TEST_KEY": live}, 2, "STRIPE_TEST_KEY must be a key of Stripe's test mode"),
    ]:
        told = subprocess.run([COMMAND, "up", "--home", home], env=environment(**more), capture_output=True, text=True)
        assert (told.returncode, told.stdout) == (code, "")
        assert sentence in told.stderr and live not in told.stderr and "Traceback" not in told.stderr
    assert not (tmp_path / "new").exists()


async def test_a_damaged_home_is_a_sentence_and_a_taken_port_is_none(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path, Options())
    operator, sealing = tmp_path / "keys/operator.key", tmp_path / "keys/identity.sealing.key"
    rooms.operator_secret()
    whole = operator.read_text()
    for damaged, told in ((b"", "is not an API key"), (whole[:-2].encode(), "is not an API key"), (b"\xff", "be read")):
        operator.write_bytes(damaged)
        with pytest.raises(CannotStart, match=rf"operator\.key.*{told}.*Restore it from a backup"):
            rooms.operator_secret()
        assert operator.read_bytes() == damaged, "what the market knows must not be replaced"
    operator.write_text(whole)

    sealing.write_bytes(b"short")
    market = Market(tmp_path, durable=False)
    with pytest.raises(CannotStart, match=r"identity\.sealing\.key holds 5 bytes"):
        await market.start()
    assert market.postgres.pid is None and market.nats.pid is None
    sealing.unlink()
    if os.geteuid() == 0:
        # As a copy made by root without `-p` is.
        for path in (tmp_path / "postgres/server/data").rglob("*"):
            os.chown(path, 0, 0)
        os.chown(tmp_path / "postgres/server/data", 0, 0)

    # Half a port file, half a market.json, and a stranger on the port that was ours.
    (tmp_path / "ports/licensing-grpc").write_text("")
    (tmp_path / "market.json").write_text('{"ver')
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        (tmp_path / "ports/catalog-grpc").write_text(f"{taken}\n")
        market = Market(tmp_path, durable=False)
        await market.start()
        document = json.loads(market.market_file.read_text())
        await market.stop()
    assert document["services"]["catalog"] == f"127.0.0.1:{(tmp_path / 'ports/catalog-grpc').read_text().strip()}"
    assert document["services"]["catalog"] != f"127.0.0.1:{taken}"


# One market for what follows.


@pytest_asyncio.fixture(scope="module")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MarketPeople]:
    people = MarketPeople(tmp_path_factory.mktemp("market"))
    await people.start()
    yield people
    await people.stop()


async def states(market: MarketPeople) -> list[int | None]:
    """What each service says of itself; None when it says nothing."""

    async def state(package: str) -> int | None:
        stub = health_pb2_grpc.HealthStub(market.channel(package))
        try:
            return int((await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)).status)
        except grpc.aio.AioRpcError:
            return None

    return list(await asyncio.gather(*map(state, PACKAGES)))


async def well(market: MarketPeople) -> bool:
    return await states(market) == [SERVING] * len(PACKAGES)


async def test_a_home_has_one_market(market: MarketPeople) -> None:
    home = market.market.home
    before = market.market.market_file.read_text()
    with pytest.raises(CannotStart, match=f"{home} is in use by process {os.getpid()}; stop that one first"):
        await Market(home).start()
    assert market.market.market_file.read_text() == before
    assert await well(market)


async def test_secrets_are_for_the_owner_only(market: MarketPeople) -> None:
    home = market.market.home
    kept = [path for folder in ("keys", "passwords") for path in (home / folder).iterdir()]
    assert len(kept) > 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in [*kept, market.market.market_file]} == {0o600}
    assert {stat.S_IMODE((home / folder).stat().st_mode) for folder in ("keys", "passwords", "gateways")} == {0o700}


async def test_a_database_that_hangs_is_no_health_and_status_tells(market: MarketPeople) -> None:
    assert market.market.postgres.pid
    server = family(market.market.postgres.pid)
    for process in server:
        process.suspend()
    try:

        async def none_serves() -> bool:
            return not set(await states(market)) & {SERVING, None}

        await until(none_serves)
        known = environment(ROCHDALE_MARKET=str(market.market.market_file))
        told = await asyncio.to_thread(
            subprocess.run, [COMMAND, "status", "--json"], env=known, capture_output=True, text=True
        )
        assert told.returncode == 1
        said = {entry["service"]: entry["state"] for entry in json.loads(told.stdout)["services"]}
        assert {said[package] for package in PACKAGES} == {"not serving"}
    finally:
        for process in server:
            process.resume()
    await until(lambda: well(market))


@pytest.mark.parametrize("server", ["postgres", "nats"])
async def test_a_killed_server_comes_back_and_a_new_cooperative_gets_its_gateway(
    market: MarketPeople, server: str
) -> None:
    steward = await market.steward(f"coop-{server}")
    await market.stub("governance").CreateCooperative(
        governance.CreateCooperativeRequest(
            request_id=request_id(), display_name=server, charter=governance.Charter(required_approvals=1)
        ),
        metadata=steward.metadata,
    )
    part = market.market.postgres if server == "postgres" else market.market.nats
    killed = part.pid
    assert killed
    os.kill(killed, signal.SIGKILL)

    async def back() -> bool:
        return part.pid not in (None, killed) and f"coop-{server}" in market.market.gateways and await well(market)

    await until(back)
    room = market.market.gateways[f"coop-{server}"]

    async def open_again() -> bool:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://{room.http_address}/health")).status_code == 200

    await until(open_again)


async def test_a_lost_pseudonym_key_is_never_replaced(market: MarketPeople) -> None:
    """With another key a member's new rows would silently no longer meet the old ones."""
    plan, postgres, nats = market.market.plan, market.market.postgres, market.market.nats
    plan.gateway("lost", postgres, nats)
    for name in ("pseudonym.key", "gateway.key"):
        key = market.market.home / "gateways/lost" / name
        kept = key.read_bytes()
        key.unlink()
        with pytest.raises(CannotStart, match=rf"{name} is missing, and this gateway has data; restore it"):
            plan.gateway("lost", postgres, nats)
        assert not key.exists()
        key.write_bytes(kept)
