"""A file while it arrives: NAME.part with its bytes, NAME.part.json with the chunks that are whole. No network."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

CHUNK_BYTES = 8 * 1024 * 1024


class PartFile:
    """Bytes of one file by chunk. A part of another sha256 or size is thrown away, never continued.

    Different chunks may be written by different threads.
    """

    def __init__(self, target: Path, sha256: str, size_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.target, self.sha256, self.size_bytes = target, sha256, size_bytes
        self._chunk_bytes = chunk_bytes
        self.path = target.with_name(target.name + ".part")
        self._state_path = target.with_name(target.name + ".part.json")
        self._lock = threading.Lock()
        self._done: set[int] = set()

    @property
    def _count(self) -> int:
        return -(-self.size_bytes // self._chunk_bytes)

    def open(self) -> int:
        """Takes up an earlier part of the same file, else starts anew. Returns how many bytes are there already."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        try:
            state = json.loads(self._state_path.read_text("utf-8"))
            fits = (state["sha256"], state["size_bytes"], state["chunk_bytes"]) == (
                self.sha256,
                self.size_bytes,
                self._chunk_bytes,
            )
            if fits and not self.path.is_symlink() and self.path.stat().st_size == self.size_bytes:
                self._done = {int(chunk) for chunk in state["done"] if 0 <= int(chunk) < self._count}
                return self.received_bytes
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no earlier part, or none that can be trusted
        self.restart()
        return 0

    def restart(self) -> None:
        """Forgets every byte received so far."""
        with self._lock:
            self._done = set()
            self._state_path.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
            # Licensed data is the buyer's alone until the buyer says otherwise. The size is reserved at once, so that a
            # full disk is noticed on most file systems before an hour of downloading.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.truncate(self.size_bytes)
            self._save()

    @property
    def received_bytes(self) -> int:
        """Bytes in whole chunks."""
        return sum(last - first + 1 for first, last in (self._bounds(chunk) for chunk in self._done))

    def missing(self) -> list[tuple[int, int, int]]:
        """The chunks still to fetch, as (number, first byte, last byte)."""
        return [(chunk, *self._bounds(chunk)) for chunk in range(self._count) if chunk not in self._done]

    def finish_chunk(self, chunk: int) -> None:
        """Remembers across interruptions that a chunk is whole."""
        with self._lock:
            self._done.add(chunk)
            self._save()

    def verify(self) -> bool:
        """Whether the bytes are exactly those the gateway announced."""
        return self.path.stat().st_size == self.size_bytes and sha256_of(self.path) == self.sha256

    def finish(self) -> None:
        """Gives the verified file its name."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self._state_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leaves nothing behind."""
        self.path.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)

    def _bounds(self, chunk: int) -> tuple[int, int]:
        first = chunk * self._chunk_bytes
        return first, min(first + self._chunk_bytes, self.size_bytes) - 1

    def _save(self) -> None:
        state = {
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "chunk_bytes": self._chunk_bytes,
            "done": sorted(self._done),
        }
        scratch = self._state_path.with_name(self._state_path.name + ".new")
        scratch.write_text(json.dumps(state), "utf-8")
        scratch.replace(self._state_path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
