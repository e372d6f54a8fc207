"""The loop that turns complete uploads into versions. A restart begins an interrupted one again from its upload."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Iterator

from data_gateway.domain.versions import describe, exposed_member_column
from data_gateway.ingest import (
    Format,
    IngestJob,
    IngestProgress,
    IngestRefused,
    Limits,
    OnBrokenRow,
    PartTarget,
    read_sample,
    run_job,
)
from data_gateway.storage import Storage
from data_gateway.store import ingestions, versions
from data_gateway.store.ingestions import Ingestion
from rochdale.catalog.v1 import catalog_pb2
from rochdale.data_gateway.v1 import data_gateway_pb2 as pb
from rochdale_kit.database import LOST, Database

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
PROGRESS_SECONDS = 0.5
_FORMATS: dict[int, Format | None] = {
    pb.SOURCE_FORMAT_UNSPECIFIED: None,
    pb.SOURCE_FORMAT_CSV: Format.CSV,
    pb.SOURCE_FORMAT_JSON_LINES: Format.JSON_LINES,
    pb.SOURCE_FORMAT_PARQUET: Format.PARQUET,
}


class Intake:
    """One at a time: an ingestion may take two gibibytes of memory. The storage's lock says that nobody else is at it,
    so the oldest row that waits is ours; a row is no longer waiting only when its end is committed."""

    def __init__(
        self, database: Database, storage: Storage, pseudonym_key: bytes, parts: PartTarget | None = None
    ) -> None:
        self._database = database
        self._storage = storage
        self._pseudonym_key = pseudonym_key
        self._parts = parts or PartTarget()
        self._wake = asyncio.Event()
        # Set once what a crash left behind is removed.
        self.swept = asyncio.Event()

    def wake(self) -> None:
        """There is something to process."""
        self._wake.set()

    async def run(self) -> None:
        """Until canceled. A database that is away is waited out."""
        while True:
            try:
                if not self.swept.is_set():
                    await self._sweep()
                    self.swept.set()
                if not await self._process_next():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_SECONDS):
                            await self._wake.wait()
                    self._wake.clear()
            except LOST as error:
                log.warning("intake waits: %s", error)
                await asyncio.sleep(0.5)

    async def _sweep(self) -> None:
        """Removes what a crash left between a decision and its files."""
        async with self._database.read() as connection:
            states = await ingestions.states(connection)
        keeping = (pb.INGESTION_STATE_UPLOADING, pb.INGESTION_STATE_PROCESSING)
        for ingestion in self._storage.ingestions():
            state = states.get(ingestion, pb.INGESTION_STATE_FAILED)
            if state == pb.INGESTION_STATE_FAILED:
                await asyncio.to_thread(self._storage.discard, ingestion)
            elif state not in keeping:
                await asyncio.to_thread(self._storage.discard_upload, ingestion)

    async def _process_next(self) -> bool:
        async with self._database.read() as connection:
            row = await ingestions.next_to_process(connection)
        if row is None:
            return False
        await asyncio.to_thread(self._storage.discard_attempts, row.id)
        try:
            await self._process(row)
        except IngestRefused as refused:
            log.info("ingestion %s failed: %s", row.id, refused.refusal.reason)
            async with self._database.begin() as connection:
                await ingestions.fail(connection, row.id, refused.refusal.reason, refused.refusal.message)
            await asyncio.to_thread(self._storage.discard, row.id)
        return True

    async def _process(self, row: Ingestion) -> None:
        attempt = await asyncio.to_thread(self._storage.attempt, row.id)
        job = IngestJob(
            source=self._storage.upload(row.id),
            version_folder=attempt / "version",
            job_folder=attempt / "private",
            format=_FORMATS[row.format],
            member_column=row.member_column or None,
            pseudonym_key=self._pseudonym_key,
            on_broken_row=OnBrokenRow.SET_ASIDE if row.broken_rows == pb.BROKEN_ROWS_SET_ASIDE else OnBrokenRow.STOP,
            parts=self._parts,
            limits=Limits(),
        )
        seen = _Seen()
        saving = asyncio.create_task(self._save_progress(row.id, seen))
        try:
            result = await run_job(job, seen)
            sample = await asyncio.to_thread(read_sample, job.version_folder, result.files, job.member_column)
            version = describe(result, sample)
            await self._keep_members_hidden(row.dataset, version)
            await asyncio.to_thread(self._storage.keep, row.id, attempt)
        except OSError as error:
            # Not the database's: trying it again would read the same file for ever.
            log.error("the storage failed while %s was processed: %s", row.id, error)
            raise IngestRefused(
                "STORAGE_FAILED", "The gateway's storage failed, or is full. Nothing of the file is kept."
            ) from None
        finally:
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
        async with self._database.begin() as connection:
            await ingestions.finish(
                connection, row.id, seen.processed_bytes, result.reject_count, version, result.delta_schema
            )
        # What members' own names stand in is not needed any more.
        await asyncio.to_thread(self._storage.discard_upload, row.id)

    async def _keep_members_hidden(self, dataset: str, version: catalog_pb2.Version) -> None:
        async with self._database.read() as connection:
            earlier = await versions.member_columns(connection, dataset)
        if (column := exposed_member_column(version, earlier)) is not None:
            raise IngestRefused(
                "MEMBER_COLUMN_EXPOSED",
                f"Column {column!r} names members in an earlier version of {dataset}, and this file was added without "
                "saying so. Name it as the member column. Nothing was stored.",
                column=column,
                dataset=dataset,
            )

    async def _save_progress(self, id: str, seen: _Seen) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            if not seen.changed:
                continue
            seen.changed = False
            with _losing(id):
                async with self._database.begin() as connection:
                    await ingestions.save_progress(connection, id, seen.processed_bytes, seen.rows)


@contextlib.contextmanager
def _losing(id: str) -> Iterator[None]:
    """Progress is for looking at; a database that is away must not end an ingestion."""
    try:
        yield
    except LOST as error:
        log.warning("progress of %s cannot be saved: %s", id, error)


@dataclasses.dataclass
class _Seen:
    """The latest progress, over both passes where there are two."""

    processed_bytes: int = 0
    rows: int = 0
    changed: bool = False
    _inspected: bool = False

    def __call__(self, progress: IngestProgress) -> None:
        self._inspected = self._inspected or progress.phase == "INSPECT"
        earlier = progress.bytes_total if self._inspected and progress.phase != "INSPECT" else 0
        self.processed_bytes = earlier + progress.bytes_done
        self.rows = progress.rows
        self.changed = True
