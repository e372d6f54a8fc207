"""Answers under way, so that they can be broken off from outside: a slow reader must not keep a revoked stream open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data_gateway.enforcement import Leave

SWEEP_SECONDS = 0.25


@dataclass(eq=False)
class _Stream:
    leave: Leave
    cut: Callable[[], None]


class LiveStreams:
    """Each stream looks for itself between two pieces, too; this loop is for one that waits for its reader."""

    def __init__(self, allows: Callable[[Leave], bool]) -> None:
        self._allows = allows
        self._streams: set[_Stream] = set()

    @contextlib.contextmanager
    def enter(self, leave: Leave, cut: Callable[[], None]) -> Iterator[None]:
        stream = _Stream(leave, cut)
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)

    def sweep(self) -> None:
        """Breaks off every stream that may no longer flow."""
        for stream in [stream for stream in self._streams if not self._allows(stream.leave)]:
            self._streams.discard(stream)
            stream.cut()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep()
