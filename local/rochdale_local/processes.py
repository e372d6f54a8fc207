"""One child process: start, stop, and leave nothing running; knows no particular program and never restarts."""

import asyncio
import atexit
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LOG_LIMIT_BYTES = 10 * 1024 * 1024
LAUNCHER = Path(__file__).with_name("launch.py")
# Lines of a log that name the cause, in the words of PostgreSQL, nats-server and Python.
CAUSES = ("FATAL", "PANIC", "[FTL]", "Error", "error:", "cannot ")


class CannotStart(Exception):
    """A part of the one-machine edition cannot start; the message is a sentence for the person who started it."""


def private_folder(path: Path) -> Path:
    """The folder, made if needed, that nobody but its owner can read."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(f"{path} cannot be used as a folder: {error.strerror}.") from None
    return path


def write_private(path: Path, content: str | bytes) -> None:
    """Replace a file of mode 0600 in one step, so that a reader sees the old content or the new, never half of one."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        # A full disk is not made fuller with each attempt.
        partial.unlink(missing_ok=True)
        raise


def kept_password(path: Path) -> str:
    """The password in this file, made on first use: 256 random bits, mode 0600."""
    try:
        password = path.read_text().strip()
    except FileNotFoundError:
        password = secrets.token_urlsafe(32)
        write_private(path, password + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"The password file {path} cannot be read: {error}.") from None
    if not password:
        raise CannotStart(f"The password file {path} is empty; restore it from a backup.")
    return password


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address now."""
    with socket.socket() as probe:
        # As servers do; without it, a port that was in use a moment ago would look taken for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# Ports we chose, bound and not listening, for as long as this process lives. Between choosing a port and a server
# listening on it lie seconds, in which the system would give it to any connection or to another market.
_held: list[socket.socket] = []


@atexit.register
def _release() -> None:
    for door in _held:
        door.close()


def _hold(port: int) -> int:
    """Keeps a port for a server of ours, which may listen beside us; 0 lets the system choose. Raises OSError if taken."""
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(("127.0.0.1", port))
    except OSError:
        door.close()
        raise
    _held.append(door)
    chosen: int = door.getsockname()[1]
    return chosen


def kept_port(path: Path, wanted: int) -> int:
    """The wanted port, or for 0 the port remembered in this file, or another when that one is taken meanwhile."""
    if wanted:
        if not is_free(wanted):
            raise CannotStart(f"Port {wanted} of 127.0.0.1 is taken by another program; choose another, or 0 for any.")
        return wanted
    # A file that holds no port is no loss, nor is a port that somebody has: we choose a new one.
    with suppress(OSError, ValueError, OverflowError):
        remembered = int(path.read_text())
        if remembered > 0:
            return _hold(remembered)
    port = _hold(0)
    write_private(path, f"{port}\n")
    return port


class HomeLock:
    """Holds a home folder for one owner. The system lets go of it when the owner's process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        self._path = home / "lock"
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the folder, or raise CannotStart naming who has it."""
        private_folder(self._path.parent)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise CannotStart(
                f"{self._path.parent} is in use by process {owner}; stop that one first, or choose another home."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the folder; the file stays, because removing it would let two owners hold two files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@dataclass
class Child:
    """A program we own, which ends when we stop it and, on Linux, when our process dies by whatever cause.

    Start it from a thread that lives as long as the process does, best the main one: Linux ends the child when the
    *thread* that started it ends. Elsewhere a killed parent leaves the child running; the next start on the same
    home finds it by the process id and start time recorded in `home/run` and stops it first.

    `ready` is asked until it says yes, for `ready_seconds` at most; it may raise CannotStart. `stop_signals` are sent
    in turn, each with the seconds it is given; SIGKILL always follows. Output goes to `home/logs/<name>.log`.
    `uid` (of root only) is the user and group to become; `cover` shows one folder in the place of another to it.
    """

    name: str
    argv: Sequence[str]
    home: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    ready: Callable[[], Awaitable[bool]] | None = None
    ready_seconds: float = 30.0
    stop_signals: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 10.0),)
    orphan_signal: signal.Signals = signal.SIGKILL
    uid: int | None = None
    cover: tuple[Path, Path] | None = None
    pass_fds: Sequence[int] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _log_start_bytes: int = field(default=0, init=False, repr=False)

    @property
    def log(self) -> Path:
        return self.home / "logs" / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    async def start(self) -> None:
        """Start and wait until ready, or raise CannotStart with the cause from the log, leaving nothing running."""
        if self.pid:
            raise CannotStart(f"{self.name} is already running as process {self.pid}.")
        await self.stop_leftover()
        self._process = process = self._spawn()
        deadline = time.monotonic() + self.ready_seconds
        try:
            while self.ready and not await self.ready():
                if process.poll() is not None:
                    raise CannotStart(
                        f"{self.name} stopped while starting: {self.last_words()}. Its log is {self.log}."
                    )
                if time.monotonic() > deadline:
                    raise CannotStart(
                        f"{self.name} did not answer within {self.ready_seconds:g} seconds: {self.last_words()}. "
                        f"Its log is {self.log}."
                    )
                await asyncio.sleep(0.02)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop it and whatever it started; does nothing when it is not running."""
        if (process := self._process) is None:
            return
        if process.poll() is None:
            await _end(psutil.Process(process.pid), lambda: process.poll() is not None, self.stop_signals)
        self._process = None
        self._record.unlink(missing_ok=True)

    async def stop_leftover(self) -> None:
        """Stop what an earlier owner of this home left running, if it is truly the same process and not its number."""
        try:
            record = json.loads(self._record.read_text())
            leftover = psutil.Process(int(record["pid"]))
            same = abs(leftover.create_time() - float(record["started"])) < 1.0
        except (FileNotFoundError, ValueError, TypeError, KeyError, psutil.NoSuchProcess):
            return
        if same:
            await _end(leftover, lambda: not _alive(leftover), self.stop_signals)

    async def wait(self) -> int:
        """Return the exit code once it has ended (negative: the signal that ended it)."""
        # We look rather than be told: this works in any event loop and thread, and costs one system call each time.
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 -- nobody sets an event for us
            await asyncio.sleep(0.05)
        return code

    def last_words(self) -> str:
        """The line of the log since the last start that names the cause best."""
        with suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(max(self._log_start_bytes, self.log.stat().st_size - 65536))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
            causes = [line for line in lines if any(cause in line for cause in CAUSES)]
            if lines:
                return (causes or lines)[-1].rstrip(".")
        return "it said nothing"

    @property
    def _record(self) -> Path:
        return self.home / "run" / f"{self.name}.json"

    def _spawn(self) -> subprocess.Popen[bytes]:
        private_folder(self.log.parent)
        private_folder(self._record.parent)
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        order = {
            "argv": list(self.argv),
            "parent": os.getpid(),
            "orphan_signal": int(self.orphan_signal),
            "uid": self.uid,
            "cover": [str(path) for path in self.cover] if self.cover else None,
        }
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._log_start_bytes = os.fstat(log).st_size
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(order)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                cwd=self.cwd,
                pass_fds=self.pass_fds,
                # A Ctrl-C in the terminal is for us alone; we then stop the children in order.
                start_new_session=True,
            )
        finally:
            os.close(log)
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(process.pid).create_time()
            write_private(self._record, json.dumps({"pid": process.pid, "started": started}))
        return process


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


async def _end(
    process: psutil.Process, gone: Callable[[], bool], signals: Sequence[tuple[signal.Signals, float]]
) -> None:
    """Send each signal in turn until the process is gone, then end those of its descendants that outlive it."""
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        family = process.children(recursive=True)
    for number, seconds in (*signals, (signal.SIGKILL, 10.0)):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        if await _until(gone, seconds):
            break
    if not await _until(lambda: not any(_alive(member) for member in family), 2.0):
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        await _until(lambda: not any(_alive(member) for member in family), 5.0)
