"""Finds what may be served: a version whole, or some of its columns, which are written once and kept. Rights: elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from data_gateway.ingest import DataFile, project
from data_gateway.storage import Storage, sync
from data_gateway.store import versions
from data_gateway.store.versions import Version
from rochdale_kit.database import Database
from rochdale_kit.refusals import Kind, Refusal

WHOLE = "all"
_CACHE_SIZE = 256


@dataclass(frozen=True)
class Selection:
    """Columns of a version as files. kind is "all" or the digest of the projection; columns are in the version's order."""

    version: Version
    kind: str
    folder: Path
    columns: tuple[str, ...]
    files: tuple[DataFile, ...]

    @property
    def name(self) -> str:
        """The version's resource name."""
        return f"{self.version.dataset}/versions/{self.version.number}"

    def file(self, path: str) -> DataFile | None:
        """A file by the exact path it is listed under. Nothing a caller sends is ever joined to a folder."""
        return next((file for file in self.files if file.path == path), None)


class Shelf:
    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        # Versions never change, so neither do these; kept so that serving a file asks no database.
        self._versions: OrderedDict[tuple[str, int], Version] = OrderedDict()
        self._projections: OrderedDict[str, tuple[DataFile, ...]] = OrderedDict()
        self._making: dict[str, asyncio.Task[tuple[DataFile, ...]]] = {}
        # One at a time: a projection is as heavy as reading the version, and those who wait are few.
        self._maker = ThreadPoolExecutor(1, "projection")

    async def latest(self, dataset: str, first: int, last: int) -> int | None:
        """The latest version number in an interval; last 0 leaves it open."""
        async with self._database.read() as connection:
            return await versions.latest_number(connection, dataset, first, last)

    async def version(self, dataset: str, number: int) -> Version | None:
        found = self._versions.get((dataset, number))
        if found is None and 0 < number < 2**31:
            async with self._database.read() as connection:
                found = await versions.get(connection, dataset, number)
            if found is not None:
                self._versions[dataset, number] = found
                if len(self._versions) > _CACHE_SIZE:
                    self._versions.popitem(last=False)
        return found

    async def select(self, version: Version, columns: frozenset[str]) -> Selection:
        """The version's files with these columns and no others; a projection is made if there is none yet."""
        every = [column.name for column in version.document.columns]
        wanted = tuple(name for name in every if name in columns)
        if len(wanted) == len(every):
            return self._whole(version)
        digest = hashlib.sha256(json.dumps([version.ingestion_id, *wanted]).encode()).hexdigest()
        files = self._projections.get(digest)
        if files is None:
            files = await self._projected(digest, version, wanted)
            self._projections[digest] = files
            if len(self._projections) > _CACHE_SIZE:
                self._projections.popitem(last=False)
        return Selection(version, digest, self._storage.projection(digest), wanted, files)

    async def of_kind(self, version: Version, kind: str) -> Selection | None:
        """A selection this gateway listed before, by its kind; kind comes out of an address we signed."""
        if kind == WHOLE:
            return self._whole(version)
        files = self._projections.get(kind)
        if files is None:
            files = await asyncio.to_thread(_read_manifest, self._storage.projection(kind))
        return None if files is None else Selection(version, kind, self._storage.projection(kind), (), files)

    def _whole(self, version: Version) -> Selection:
        document = version.document
        files = tuple(DataFile(one.path, one.sha256, one.size_bytes, one.row_count) for one in document.files)
        columns = tuple(column.name for column in document.columns)
        return Selection(version, WHOLE, self._storage.version(version.ingestion_id), columns, files)

    async def _projected(self, digest: str, version: Version, columns: tuple[str, ...]) -> tuple[DataFile, ...]:
        task = self._making.get(digest)
        if task is None:
            # Columns can be chosen in more ways than any disk holds; it must not fill up under the uploads.
            if self._storage.free_bytes() < version.document.size_bytes:
                raise Refusal(
                    "STORAGE_FULL",
                    "The gateway has no room to prepare these columns; tell the cooperative.",
                    Kind.STATE,
                )
            task = asyncio.create_task(self._make(digest, version, columns))
            self._making[digest] = task
            task.add_done_callback(lambda _: self._making.pop(digest, None))
        # Shielded: whoever asked first may go away while others wait for the same files.
        return await asyncio.shield(task)

    async def _make(self, digest: str, version: Version, columns: tuple[str, ...]) -> tuple[DataFile, ...]:
        whole = self._whole(version)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._maker, _make, self._storage.projection(digest), whole, columns)

    async def close(self) -> None:
        for task in list(self._making.values()):
            task.cancel()
        await asyncio.to_thread(self._maker.shutdown)


def _make(folder: Path, whole: Selection, columns: tuple[str, ...]) -> tuple[DataFile, ...]:
    if (files := _read_manifest(folder)) is not None:
        return files
    # A folder without its manifest is what a crash left; the manifest comes last.
    shutil.rmtree(folder, ignore_errors=True)
    files = project(whole.folder, whole.files, columns, folder)
    partial = folder.with_name(f"{folder.name}.json.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump([asdict(one) for one in files], file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder.with_name(f"{folder.name}.json"))
    sync(folder.parent)
    return files


def _read_manifest(folder: Path) -> tuple[DataFile, ...] | None:
    try:
        text = folder.with_name(f"{folder.name}.json").read_text("utf-8")
    except FileNotFoundError:
        return None
    return tuple(DataFile(**one) for one in json.loads(text))
