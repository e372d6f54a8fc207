"""Keeps parts running: restarts what ends by itself, with growing delay, and tells who is healthy."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from rochdale_local.processes import CannotStart

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
# A part that ran this long was well; its next fall starts again with the first delay.
WELL_AFTER_SECONDS = 1.0


class Part(Protocol):
    """What can be supervised: `Postgres`, `NatsServer` or any `Child`."""

    @property
    def name(self) -> str: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def wait(self) -> int: ...


class Supervisor:
    """Starts parts in the order given, watches them, and stops them in the opposite order.

    `on_health(name, healthy, sentence)` is called on every change. Stop a part through the supervisor only: one that
    is stopped behind its back looks like one that fell over.
    """

    def __init__(self, on_health: Callable[[str, bool, str], None] | None = None) -> None:
        self.health: dict[str, bool] = {}
        self._on_health = on_health
        self._parts: list[Part] = []
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self, part: Part) -> None:
        """Start a part and keep it running; raises CannotStart when it does not start this first time."""
        await part.start()
        self._parts.append(part)
        self._report(part.name, True, f"{part.name} is running.")
        self._watchers.append(asyncio.create_task(self._watch(part), name=f"watch {part.name}"))

    async def wait(self) -> None:
        """Return only by raising: a watcher that fails must take the process with it."""
        await asyncio.gather(*self._watchers)

    async def stop(self) -> None:
        """Stop every part, the last started first."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()
        while self._parts:
            part = self._parts.pop()
            try:
                await part.stop()
                self._report(part.name, False, f"{part.name} is stopped.", wanted=True)
            except Exception:
                # One that will not stop must not keep the others running.
                log.exception("%s could not be stopped", part.name)

    async def _watch(self, part: Part) -> None:
        delay_seconds = FIRST_DELAY_SECONDS
        while True:
            since = time.monotonic()
            code = await part.wait()
            if time.monotonic() - since > WELL_AFTER_SECONDS:
                delay_seconds = FIRST_DELAY_SECONDS
            self._report(part.name, False, f"{part.name} ended by itself with code {code}; starting it again.")
            while True:
                await asyncio.sleep(delay_seconds)
                delay_seconds = min(delay_seconds * 2, LONGEST_DELAY_SECONDS)
                try:
                    await part.start()
                    break
                except (CannotStart, OSError) as error:
                    self._report(part.name, False, str(error))
            self._report(part.name, True, f"{part.name} is running again.")

    def _report(self, name: str, healthy: bool, sentence: str, wanted: bool = False) -> None:
        log.log(logging.INFO if healthy or wanted else logging.WARNING, "%s", sentence)
        self.health[name] = healthy
        if self._on_health:
            self._on_health(name, healthy, sentence)
