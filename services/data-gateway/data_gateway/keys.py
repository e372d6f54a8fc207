"""Public keys of another service, fetched from where the settings say and remembered on disk. What they sign: elsewhere."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from rochdale_kit.signing import KeySet

log = logging.getLogger(__name__)

KEY_REFRESH_SECONDS = 30.0


class RemoteKeys:
    """Never fetched from where a signed thing says. whose: "broker" or "licensing", for the log."""

    def __init__(self, whose: str, fetch: Callable[[], Awaitable[str]], cache: Path) -> None:
        self._whose = whose
        self._fetch = fetch
        self._cache = cache
        self._document = ""
        self._keys = KeySet({})
        self._asked = float("-inf")
        self._lock = asyncio.Lock()
        # Called when other keys came.
        self.on_change: Callable[[], None] = lambda: None

    @property
    def keys(self) -> KeySet:
        return self._keys

    def load(self) -> None:
        """Remembers the keys of the last run, so that a restart while the other restarts costs nothing."""
        try:
            self._keys = KeySet.from_jwks(self._cache.read_text("utf-8"))
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, OSError) as error:
            log.warning("the remembered keys of the %s cannot be read: %s", self._whose, type(error).__name__)

    async def refresh(self) -> None:
        """Fetches now, but at most once a second: a flood of unknown key ids must not become a flood of calls."""
        async with self._lock:
            if time.monotonic() - self._asked < 1.0:
                return
            self._asked = time.monotonic()
            document = await self._fetch()
            keys = KeySet.from_jwks(document)
            if not len(keys):
                return
            self._keys = keys
            if document != self._document:
                self._document = document
                await asyncio.to_thread(write_json, self._cache, json.loads(document))
                self.on_change()

    async def run(self) -> None:
        """Refreshes until canceled."""
        while True:
            try:
                await self.refresh()
            except (grpc.aio.AioRpcError, ValueError) as error:
                log.warning("the keys of the %s cannot be fetched: %s", self._whose, type(error).__name__)
            await asyncio.sleep(KEY_REFRESH_SECONDS if len(self._keys) else 0.3)


def write_json(path: Path, document: object) -> None:
    """Replaces a small file, whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(document))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
