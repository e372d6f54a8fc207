"""What left, counted in memory and announced at most once a second for each token and version."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from dataclasses import dataclass

from data_gateway.enforcement import Leave
from data_gateway.shelf import Selection
from data_gateway.store import deliveries
from rochdale.data_gateway.v1 import events_pb2
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.database import LOST, Database
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
_CACHE_SIZE = 100_000


@dataclass
class _Count:
    grant: str
    license: str
    # When the first of it left: told a second later, it may be later than a withdrawal that came after it.
    begun: dt.datetime
    sent_bytes: int = 0
    listed_files: int = 0


class UsageMeter:
    """No write to the database per request. What a kill -9 loses is at most the last second's counts, never a byte's
    right to leave; a database that is away loses nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: dict[tuple[str, str], _Count] = {}
        # Which files with members' rows went under which license: whoever withdraws wants them back.
        self._deliveries: dict[tuple[str, str, str], Selection] = {}
        self._written: set[tuple[str, str, str]] = set()

    def listed(self, leave: Leave, selection: Selection, files: int) -> None:
        self._count(leave, selection.name).listed_files += files

    def sent(self, leave: Leave, selection: Selection, size_bytes: int) -> None:
        if size_bytes:
            self._count(leave, selection.name).sent_bytes += size_bytes
            if selection.version.member_column is not None:
                delivery = (leave.grant.license, selection.name, selection.kind)
                if delivery not in self._written:
                    self._deliveries[delivery] = selection

    def _count(self, leave: Leave, version: str) -> _Count:
        key = (leave.token_id, version)
        if (count := self._counts.get(key)) is None:
            count = self._counts[key] = _Count(leave.grant.name, leave.grant.license, now())
        return count

    async def run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except LOST as error:
                log.warning("usage cannot be recorded yet: %s", error)

    async def flush(self) -> None:
        """Announces what was counted since the last time."""
        counts, self._counts = self._counts, {}
        sent = dict(self._deliveries)
        if not counts:
            return
        at = now()
        try:
            async with self._database.begin() as connection:
                for (license, _, _), selection in sent.items():
                    await deliveries.save(connection, license, selection.version, _files(selection), at)
                for (token_id, version), count in counts.items():
                    event = events_pb2.UsageRecorded(
                        grant=count.grant,
                        license=count.license,
                        token_id=token_id,
                        version=version,
                        sent_bytes=count.sent_bytes,
                        listed_files=min(count.listed_files, 2**31 - 1),
                        record_time=to_timestamp(count.begun),
                    )
                    await announce(connection, event, at)
        except BaseException:
            for key, count in counts.items():
                later = self._counts.setdefault(key, _Count(count.grant, count.license, count.begun))
                later.begun = min(later.begun, count.begun)
                later.sent_bytes += count.sent_bytes
                later.listed_files += count.listed_files
            raise
        if len(self._written) > _CACHE_SIZE:
            self._written.clear()
        for delivery in sent:
            self._deliveries.pop(delivery, None)
            self._written.add(delivery)

    async def close(self) -> None:
        """The last second's counts."""
        try:
            await self.flush()
        except LOST as error:
            log.warning("the last usage could not be recorded: %s", error)


def _files(selection: Selection) -> deliveries.Delivered:
    return deliveries.Delivered(selection.kind, selection.files, selection.excluded)
