"""Answers under way, so that they can be broken off from outside: a slow reader must not keep a revoked stream open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SWEEP_SECONDS = 0.25


@dataclass(eq=False)
class _Stream:
    allowed: Callable[[], bool]
    cut: Callable[[], None]


class LiveStreams:
    """Each stream looks for itself between two pieces, too; this loop is for one that waits for its reader."""

    def __init__(self) -> None:
        self._streams: set[_Stream] = set()

    @contextlib.contextmanager
    def enter(self, allowed: Callable[[], bool], cut: Callable[[], None]) -> Iterator[None]:
        stream = _Stream(allowed, cut)
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)

    def sweep(self) -> None:
        """Breaks off every stream that may no longer flow."""
        for stream in [stream for stream in self._streams if not stream.allowed()]:
            self._streams.discard(stream)
            stream.cut()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep()
