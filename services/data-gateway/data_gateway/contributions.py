"""The loop that works out whose rows are where in each approved version, and tells governance, as members become known."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from data_gateway.ingest import Positions, member_rows, rows_digest
from data_gateway.storage import Storage
from data_gateway.store import contributions, versions
from data_gateway.store.contributions import Contribution
from data_gateway.store.versions import Version
from rochdale.data_gateway.v1 import events_pb2
from rochdale_kit.clock import now
from rochdale_kit.database import LOST, Database
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)

# Woken whenever there is something to do; this is for what was missed.
POLL_SECONDS = 60.0
COMMIT_SECONDS = 0.3


class Contributions:
    def __init__(self, database: Database, storage: Storage, key: bytes) -> None:
        """key: salts the hashes that stand for a member's rows."""
        self._database = database
        self._storage = storage
        self._key = key
        self._wake = asyncio.Event()
        # Called after it was worked out whose rows are where in a version: somebody may be gone already.
        self.on_change: Callable[[], None] = lambda: None

    def wake(self) -> None:
        """A version was approved, or a member became known."""
        self._wake.set()

    async def run(self) -> None:
        """Until canceled. A database that is away is waited out."""
        while True:
            self._wake.clear()
            try:
                while await self._work_out_next() or await self._tell_next():
                    pass
            except LOST as error:
                log.warning("contributions wait: %s", error)
                await asyncio.sleep(0.5)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
                    # What woke us is told a moment before it is committed.
                    await asyncio.sleep(COMMIT_SECONDS)

    async def _work_out_next(self) -> bool:
        async with self._database.read() as connection:
            version = await versions.without_contributions(connection)
        if version is None:
            return False
        found = await asyncio.to_thread(self._work_out, version)
        async with self._database.begin() as connection:
            await contributions.save(connection, found)
            await versions.set_contributed(connection, version, now())
        self.on_change()
        return True

    def _work_out(self, version: Version) -> list[Contribution]:
        if version.member_column is None:
            return []
        folder = self._storage.version_files(version.ingestion_id, version.purge_count)
        rows = member_rows(folder, version.files, version.member_column)
        return [self._contribution(version, name, positions) for name, positions in rows.items()]

    def _contribution(self, version: Version, pseudonym: str, positions: Positions) -> Contribution:
        return Contribution(
            version.dataset,
            version.number,
            pseudonym,
            sum(map(len, positions.values())),
            rows_digest(self._key, version.document.content_hash, pseudonym, positions),
            positions,
        )

    async def _tell_next(self) -> bool:
        async with self._database.begin() as connection:
            found = await contributions.untold(connection)
            if not found:
                return False
            event = events_pb2.ContributionsRecorded(
                version=f"{found[0].dataset}/versions/{found[0].number}",
                contributions=[
                    events_pb2.MemberContribution(member=one.member, row_count=one.row_count, rows_hash=one.rows_hash)
                    for one in found
                ],
            )
            await announce(connection, event)
            await contributions.set_told(connection, found)
        return True
