"""The gateway's folder: what lies where, and that one process has it. No name from outside ever becomes a path.

uploads/{ingestion}               bytes as they arrive
work/{ingestion}/{attempt}/       one attempt at processing
versions/{ingestion}/             the finished version, immutable; in g1, g2 … once erased members' rows were taken out
private/{ingestion}/              the cooperative's own: rejects and rows per pseudonym
projections/{digest}/ and .json   some columns and rows of a version, and what their files are
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from pathlib import Path

_INGESTION = re.compile(r"ing_[0-9A-Z]{26}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Kept free for the database's and the system's own needs.
RESERVED_BYTES = 64 * 1024 * 1024


class Storage:
    """All folders are the gateway's own (0700), and so is everything in them."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Two processes on one folder would ingest the same upload twice; the kernel frees the lock of a dead one.
        self._lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise SystemExit(f"Another gateway uses {self.root}; one folder belongs to one gateway.") from None
        for name in ("uploads", "work", "versions", "private", "projections"):
            (self.root / name).mkdir(mode=0o700, exist_ok=True)

    def upload(self, ingestion: str) -> Path:
        return self.root / "uploads" / _checked(_INGESTION, ingestion)

    def attempt(self, ingestion: str) -> Path:
        """A new folder for one attempt at processing. An earlier attempt's process may still be dying in its own."""
        folder = self.root / "work" / _checked(_INGESTION, ingestion) / secrets.token_hex(8)
        folder.mkdir(mode=0o700, parents=True)
        return folder

    def version(self, ingestion: str) -> Path:
        return self.root / "versions" / _checked(_INGESTION, ingestion)

    def version_files(self, ingestion: str, generation: int) -> Path:
        """Where a version's files are now; each time rows are taken out of them they get a folder of their own."""
        folder = self.version(ingestion)
        return folder / f"g{generation}" if generation else folder

    def members_file(self, ingestion: str) -> Path:
        """The private table of the pseudonyms in a version."""
        return self.root / "private" / _checked(_INGESTION, ingestion) / "members.parquet"

    def tidy(self, ingestion: str, generation: int) -> None:
        """Removes what a version's files were before rows were taken out of them, and what was begun and not kept."""
        folder = self.version(ingestion)
        for path in folder.iterdir() if folder.exists() else ():
            if path.name != (f"g{generation}" if generation else "data"):
                shutil.rmtree(path, ignore_errors=True)
        if generation:
            (self.root / "private" / ingestion / "rejects.jsonl").unlink(missing_ok=True)

    def projection(self, digest: str) -> Path:
        return self.root / "projections" / _checked(_DIGEST, digest)

    def keep(self, ingestion: str, attempt: Path) -> None:
        """Gives a finished attempt's `version` and `private` folders their places, each whole or not at all."""
        for kind in ("private", "versions"):
            target = self.root / kind / _checked(_INGESTION, ingestion)
            shutil.rmtree(target, ignore_errors=True)
            (attempt / ("private" if kind == "private" else "version")).rename(target)
            sync(target.parent)
        shutil.rmtree(attempt.parent, ignore_errors=True)

    def discard_attempts(self, ingestion: str) -> None:
        shutil.rmtree(self.root / "work" / _checked(_INGESTION, ingestion), ignore_errors=True)

    def discard_upload(self, ingestion: str) -> None:
        self.upload(ingestion).unlink(missing_ok=True)

    def discard(self, ingestion: str) -> None:
        """Everything of an ingestion that failed or was rejected."""
        self.discard_upload(ingestion)
        for kind in ("work", "versions", "private"):
            shutil.rmtree(self.root / kind / _checked(_INGESTION, ingestion), ignore_errors=True)

    def ingestions(self) -> set[str]:
        """Every ingestion something is kept of."""
        kinds = ("uploads", "work", "versions", "private")
        names = {path.name for kind in kinds for path in (self.root / kind).iterdir()}
        return {name for name in names if _INGESTION.fullmatch(name)}

    def received_bytes(self, ingestion: str) -> int:
        try:
            return self.upload(ingestion).stat().st_size
        except FileNotFoundError:
            return 0

    def free_bytes(self) -> int:
        return max(0, shutil.disk_usage(self.root).free - RESERVED_BYTES)

    async def close(self) -> None:
        os.close(self._lock)


def _checked(pattern: re.Pattern[str], name: str) -> str:
    assert pattern.fullmatch(name), "only ids of our own become paths"
    return name


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
