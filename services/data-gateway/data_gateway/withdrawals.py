"""The loop by which a withdrawal travels on: a version without the rows takes the last one's place, and erased members'
rows leave the disk. That nobody is served them meanwhile is decided elsewhere, and at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import logging
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.consents import Consents
from data_gateway.domain.versions import describe_remainder
from data_gateway.ingest import Column, project, read_sample, remove_members
from data_gateway.intake import Intake
from data_gateway.shelf import Shelf
from data_gateway.storage import Storage
from data_gateway.store import contributions, ingestions, members, versions
from data_gateway.store.versions import Version
from rochdale.catalog.v1 import catalog_pb2
from rochdale.data_gateway.v1 import events_pb2
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import LOST, Database
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)

POLL_SECONDS = 60.0
COMMIT_SECONDS = 0.3


class _ChangedMeanwhileError(Exception):
    """Another version was approved, or somebody agreed again, while files were written."""


@dataclass(frozen=True)
class _Due:
    """Members with rows in the latest version of a dataset who are gone, with how many rows, and when it is time."""

    version: Version
    row_counts: dict[str, int]
    time: dt.datetime


class Withdrawals:
    def __init__(
        self,
        database: Database,
        storage: Storage,
        intake: Intake,
        shelf: Shelf,
        consents: Consents,
        after_seconds: int,
    ) -> None:
        self._database = database
        self._storage = storage
        self._intake = intake
        self._shelf = shelf
        self._consents = consents
        self._after = dt.timedelta(seconds=after_seconds)
        self._wake = asyncio.Event()
        # Called after a version was made, or rows were taken out of one.
        self.on_change: Callable[[], None] = lambda: None

    def wake(self) -> None:
        """Somebody's consent changed."""
        self._wake.set()

    async def run(self) -> None:
        """Until canceled. What a crash interrupts begins again; the version is told of with its commit, once."""
        # What looks like a crash's remains could be ours before that.
        await self._intake.swept.wait()
        cleaned = False
        while True:
            self._wake.clear()
            try:
                if not cleaned:
                    await self._clean_all()
                    cleaned = True
                wait = await self._step()
            except LOST as error:
                log.warning("withdrawals wait: %s", error)
                wait = 0.5
            except OSError as error:
                log.error("the storage failed while rows were taken out: %s", error)
                wait = POLL_SECONDS
            except _ChangedMeanwhileError:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
                    # What woke us is told a moment before it is committed.
                    await asyncio.sleep(COMMIT_SECONDS)

    async def _step(self) -> float:
        """Does what is due; answers after how many seconds to look again."""
        wait = POLL_SECONDS
        for due in await self._due():
            left = (due.time - now()).total_seconds()
            if left > 0:
                wait = min(wait, left)
            else:
                await self._supersede(due)
        await self._purge()
        return wait

    async def _due(self) -> list[_Due]:
        found = []
        async with self._database.read() as connection:
            for version in await versions.latest_of_each(connection):
                gone = {one.pseudonym: one.since for one in await members.gone(connection, version.dataset)}
                gone = {name: since for name, since in gone.items() if name not in version.purged}
                counts = await contributions.row_counts(connection, version.dataset, version.number, list(gone))
                # With nothing left there is no version to publish; nobody is served a row of it anyway.
                if counts and sum(counts.values()) < sum(file.row_count for file in version.files):
                    first = min(since for name, since in gone.items() if name in counts)
                    found.append(_Due(version, counts, first + self._after))
        return found

    async def _supersede(self, due: _Due) -> None:
        version, ingestion = due.version, new_id("ing")
        attempt = await asyncio.to_thread(self._storage.attempt, ingestion)
        document = await asyncio.to_thread(self._write, version, due.row_counts.keys(), attempt)
        await asyncio.to_thread(self._storage.keep, ingestion, attempt)
        try:
            async with self._database.begin() as connection:
                later = await self._number(connection, due)
                document.number, document.name = later, f"{version.dataset}/versions/{later}"
                await ingestions.insert_derived(connection, ingestion, version.ingestion_id, document, now())
                made = versions.Version(version.dataset, later, ingestion, document, version.delta_schema)
                await versions.insert_version(connection, made, now())
                await announce(connection, events_pb2.VersionPrepared(dataset=version.dataset, version=document))
                superseded = events_pb2.VersionSuperseded(
                    version=version.name,
                    superseded_by=document.name,
                    removed_row_count=sum(due.row_counts.values()),
                )
                await announce(connection, superseded)
        except _ChangedMeanwhileError:
            # Only here: after a commit whose answer was lost the files may be a version's. A restart would find them.
            await asyncio.to_thread(self._storage.discard, ingestion)
            raise
        log.info("%s takes the place of %s", document.name, version.name)
        self.on_change()

    async def _number(self, connection: AsyncConnection, due: _Due) -> int:
        number = await versions.next_number(connection, due.version.dataset)
        latest = await versions.latest_number(connection, due.version.dataset, 1, 0)
        gone = {one.pseudonym for one in await members.gone(connection, due.version.dataset)}
        if latest != due.version.number or not due.row_counts.keys() <= gone:
            raise _ChangedMeanwhileError
        return number

    def _write(self, version: Version, removed: Collection[str], attempt: Path) -> catalog_pb2.Version:
        columns = [Column(one.name, one.type, one.member_pseudonym) for one in version.document.columns]
        (attempt / "private").mkdir(mode=0o700)
        folder = self._storage.version_files(version.ingestion_id, version.purge_count)
        remainder = remove_members(
            folder, version.files, columns, removed, attempt / "version", attempt / "private" / "members.parquet"
        )
        sample = []
        if version.document.sample_json:
            shown = list(json.loads(version.document.sample_json)[0])
            sample = read_sample(attempt / "version", remainder.files, version.member_column, shown)
        return describe_remainder(columns, remainder, sample)

    async def _purge(self) -> None:
        """Takes erased members' rows out of what is stored, once a version without them is published, or cannot be."""
        async with self._database.read() as connection:
            holding = await contributions.to_purge(connection)
        for (dataset, number), names in holding.items():
            async with self._database.read() as connection:
                version = await versions.get(connection, dataset, number)
                erased = {one.pseudonym: one.since for one in await members.gone(connection, dataset) if one.erased}
            if version is None:
                continue
            due = {name for name in names if name in erased and erased[name] + self._after <= now()} - version.purged
            if due:
                await self._purge_version(version, due)

    async def _purge_version(self, version: Version, names: set[str]) -> None:
        generation = version.purge_count + 1
        out = self._storage.version_files(version.ingestion_id, generation)
        columns = [column.name for column in version.document.columns]
        folder = self._storage.version_files(version.ingestion_id, version.purge_count)
        # What a crash left of an attempt before.
        await asyncio.to_thread(shutil.rmtree, out, True)
        files = await asyncio.to_thread(project, folder, version.files, columns, out, version.member_column, names)
        async with self._database.begin() as connection:
            locked = await versions.get(connection, version.dataset, version.number, lock=True)
            if locked is None or locked.purge_count != version.purge_count:
                return
            await versions.purge(connection, version, files, names)
        async with self._database.read() as connection:
            purged = await versions.get(connection, version.dataset, version.number)
        assert purged is not None, "versions are never deleted"
        await self._clean(purged)
        log.info("rows of %d erased members left the files of %s", len(names), version.name)
        self.on_change()

    async def _clean_all(self) -> None:
        """What a crash left between the commit and the disk."""
        async with self._database.read() as connection:
            purged = await versions.every_purged(connection)
        for version in purged:
            await self._clean(version)

    async def _clean(self, version: Version) -> None:
        self._shelf.forget_version(version)
        self._consents.forget_version(version.ingestion_id)
        await asyncio.to_thread(self._storage.tidy, version.ingestion_id, version.purge_count)
        await asyncio.to_thread(_forget_members, self._storage.members_file(version.ingestion_id), version.purged)


def _forget_members(path: Path, names: Collection[str]) -> None:
    table = pq.read_table(path)
    kept = table.filter(pc.invert(pc.is_in(table["pseudonym"], pa.array(sorted(names), pa.string()))))
    if kept.num_rows != table.num_rows:
        partial = path.with_suffix(".partial")
        pq.write_table(kept, partial, compression="zstd")
        partial.chmod(0o600)
        partial.replace(path)
