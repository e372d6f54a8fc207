"""A real PostgreSQL server of our own in one folder: made, started, stopped, and given roles and databases."""

import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from rochdale_local.postgres_programs import (
    MAJOR_VERSION,
    Programs,
    find_programs,
    give_all,
    given_folder,
    known_uid,
)
from rochdale_local.processes import CannotStart, Child, HomeLock, kept_password, kept_port, private_folder

SUPERUSER = "rochdale_superuser"
IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Nothing of the caller's surroundings: a PGPORT or PGOPTIONS of theirs would change our server.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    # Inside the data folder rather than in /dev/shm, which is outside our home and tiny in containers.
    "dynamic_shared_memory_type": "mmap",
    "huge_pages": "off",
    # Reading in each backend itself spares three processes that a laptop has little use for.
    "io_method": "sync",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_min_messages": "warning",
}
# Commits still reach the operating system before they are answered, so even then a killed server loses nothing; a
# machine that loses power may lose all.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
# The first two pass by themselves: backends of a killed server end a moment after it.
PASSING = ("pre-existing shared memory block", "shared memory block (key", "Address already in use")
ATTEMPTS = 20


class Postgres:
    """One server, owned by one process; `home` holds its data, password, port, log and lock.

    `port` 0 chooses a free one and keeps it for later starts as long as it stays free. `durable=False` is for tests.
    """

    name = "postgres"

    def __init__(self, home: Path, port: int = 0, *, durable: bool = True) -> None:
        self.home = home.absolute()
        self.port = port
        self._wanted_port = port
        self._durable = durable
        self._lock = HomeLock(self.home)
        self._programs: Programs | None = None
        self._child: Child | None = None
        self._password = ""

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Return when the server answers; raises CannotStart with a sentence."""
        again = self._lock.held
        if not again:
            self._lock.acquire()
        elif self.pid:
            raise CannotStart(f"PostgreSQL in {self.home} is already running as process {self.pid}.")
        try:
            self._password = kept_password(self.home / "password")
            self._programs = self._programs or await find_programs(self.home)
            await self._make_data(self._programs)
            await self._serve(self._programs, keep_port=again)
        except BaseException as error:
            # A start after a fall keeps what it has: whoever supervises us tries again.
            if not again:
                await self.stop()
            if isinstance(error, OSError):
                raise CannotStart(f"PostgreSQL in {self.home} cannot start: {error}.") from error
            raise

    async def stop(self) -> None:
        """Stop, sending clients away; the data is complete on disk. Does nothing when it is not running."""
        if self._child:
            await self._child.stop()
        self._child = None
        if self._programs:
            self._programs.remove_copy()
        self._programs = None
        self._lock.release()

    async def wait(self) -> int:
        """Return the exit code once the server has ended."""
        if self._child is None:
            raise RuntimeError("PostgreSQL was not started")
        return await self._child.wait()

    def dsn(self, database: str, user: str, password: str) -> str:
        """The address of a database as SQLAlchemy takes it."""
        return f"postgresql+asyncpg://{quote(user)}:{quote(password, safe='')}@127.0.0.1:{self.port}/{quote(database)}"

    async def ensure_database(
        self, name: str, owner: str, password: str, application_role: str = "", application_password: str = ""
    ) -> None:
        """Make the role and the database it owns, which no other role may enter; saying it again changes nothing.

        With an application role, that is made too; it may enter once the owner's migrations let it. The password of an
        existing role becomes the given one. Raises ValueError for names that would need quoting.
        """
        for identifier in (name, owner, application_role or owner):
            if not IDENTIFIER.fullmatch(identifier):
                raise ValueError(f"{identifier!r} is no name for a database or role; use a-z, 0-9 and _.")
        connection = await self._connect()
        try:
            # One at a time: two callers that both find the role missing would both create it. Any fixed number does.
            await connection.execute("select pg_advisory_lock(8052301844)")
            await self._give_role(connection, owner, password)
            if application_role:
                await self._give_role(connection, application_role, application_password)
            if not await connection.fetchval("select true from pg_database where datname = $1", name):
                await connection.execute(f'create database "{name}" owner "{owner}"')
            for database in (name, "postgres", "template1"):
                await connection.execute(f'revoke all on database "{database}" from public')
        finally:
            await connection.close()

    @staticmethod
    async def _give_role(connection: Any, name: str, password: str) -> None:
        literal = await connection.fetchval("select quote_literal($1::text)", password)
        known = await connection.fetchval("select true from pg_roles where rolname = $1", name)
        verb = "alter" if known else "create"
        rights = "login nosuperuser nocreatedb nocreaterole noreplication"
        await connection.execute(f'{verb} role "{name}" {rights} password {literal}')

    async def _connect(self) -> Any:
        return await asyncpg.connect(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=self._password,
            database="postgres",
            ssl=False,
            timeout=10,
        )

    async def _make_data(self, programs: Programs) -> None:
        server = self.home / "server"
        version = server / "data" / "PG_VERSION"
        if version.exists():
            if (found := version.read_text(errors="replace").strip()) != MAJOR_VERSION:
                raise CannotStart(
                    f"The data in {server} is of PostgreSQL version {found!r}, and this is {MAJOR_VERSION}; "
                    "use the Rochdale it was made with, or another home."
                )
            if programs.uid is not None and (server / "data").stat().st_uid != programs.uid:
                # Copied or restored by root without its owner.
                give_all(server / "data", programs.uid)
            return
        if (server / "data").exists():
            raise CannotStart(f"{server / 'data'} is no PostgreSQL data folder; restore it, or use another home.")
        private_folder(self.home)
        initdb_uid = known_uid(programs.uid)
        with given_folder(server, initdb_uid) as (path, descriptors):
            # Made under another name first, so that a start cut short is not taken for a finished one later.
            shutil.rmtree(server / "data.partial", ignore_errors=True)
            (server / "initial-password").unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(server / "initial-password", flags, 0o600), "w") as file:
                if initdb_uid is not None:
                    os.fchown(file.fileno(), initdb_uid, initdb_uid)
                file.write(self._password + "\n")
            argv = [
                str(programs.bin / "initdb"),
                f"--pgdata={path / 'data.partial'}",
                f"--pwfile={path / 'initial-password'}",
                f"--username={SUPERUSER}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                # PostgreSQL's own C.UTF-8: the same order of text on every system, today and after upgrades.
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-instructions",
                *([] if self._durable else ["--no-sync"]),
            ]
            initdb = self._new_child("initdb", argv, replace(programs, uid=initdb_uid), descriptors)
            await initdb.start()
            try:
                code = await initdb.wait()
            finally:
                await initdb.stop()
                (server / "initial-password").unlink(missing_ok=True)
            if code != 0:
                raise CannotStart(
                    f"PostgreSQL could not make its data folder: {initdb.last_words()}. Its log is {initdb.log}."
                )
            if programs.uid is not None:
                give_all(server / "data.partial", programs.uid)
            (server / "data.partial").rename(server / "data")

    async def _serve(self, programs: Programs, keep_port: bool) -> None:
        settings = SETTINGS | ({} if self._durable else NOT_DURABLE)
        for attempt in range(1, ATTEMPTS + 1):
            # Those who know our address keep it while we live; so after a fall only the same port will do.
            if not keep_port:
                self.port = kept_port(self.home / "port", self._wanted_port)
            with given_folder(self.home / "server", programs.uid) as (path, descriptors):
                argv = [str(programs.bin / "postgres"), "-D", str(path / "data"), "-p", str(self.port)]
                argv += [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
                self._child = self._new_child(self.name, argv, programs, descriptors)
                self._child.ready = self._answers
                await self._child.stop_leftover()
                self._remove_stale_pid_file()
                try:
                    await self._child.start()
                    return
                except CannotStart as error:
                    if attempt == ATTEMPTS or not any(words in str(error) for words in PASSING):
                        raise

    def _new_child(self, name: str, argv: list[str], programs: Programs, descriptors: tuple[int, ...]) -> Child:
        return Child(
            name,
            argv,
            self.home,
            env=ENVIRONMENT,
            cwd=Path("/"),
            # SIGINT: roll back and leave in order. SIGQUIT: leave at once, and recover at the next start.
            stop_signals=((signal.SIGINT, 15.0), (signal.SIGQUIT, 7.0)),
            # Not SIGKILL: then its own children would have to notice by themselves.
            orphan_signal=signal.SIGQUIT,
            uid=programs.uid,
            cover=programs.cover,
            pass_fds=descriptors,
            # Recovery after a power cut reads up to `max_wal_size` of log.
            ready_seconds=60.0,
        )

    def _remove_stale_pid_file(self) -> None:
        # We hold the lock and have stopped what an earlier start left, so the server it names is gone. PostgreSQL
        # would still refuse if the number meanwhile belongs to another process of ours, as after a reboot. Should
        # backends of a killed server be alive, the shared memory block tells it so, not this file.
        (self.home / "server" / "data" / "postmaster.pid").unlink(missing_ok=True)

    async def _answers(self) -> bool:
        try:
            connection = await self._connect()
        except (OSError, TimeoutError, asyncpg.InterfaceError):
            return False
        # While it starts, it may also take a connection and close it again.
        except (asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        except asyncpg.InvalidPasswordError:
            raise CannotStart(
                f"The server on port {self.port} does not accept the password in {self.home / 'password'}; "
                "restore that file from a backup."
            ) from None
        except asyncpg.PostgresError as error:
            raise CannotStart(f"PostgreSQL on port {self.port} answers with an error: {error}.") from None
        await connection.close()
        return True
