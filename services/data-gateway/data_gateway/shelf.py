"""Finds what may be served: a version whole, or some of its columns and rows, which are written once and kept. Rights are
decided elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shutil
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_gateway.ingest import DataFile, project
from data_gateway.storage import Storage, sync
from data_gateway.store import versions
from data_gateway.store.versions import Version
from rochdale_kit.clock import seconds
from rochdale_kit.database import Database
from rochdale_kit.refusals import Kind, Refusal

log = logging.getLogger(__name__)

WHOLE = "all"
_CACHE_SIZE = 256
# Files with rows left out are made anew whenever somebody asks for them; nobody's address lives so long.
FILTERED_LIFE_SECONDS = 7 * 86_400
PRUNE_SECONDS = 6 * 3600


@dataclass(frozen=True)
class Selection:
    """Columns and rows of a version as files. kind is "all" or a digest; columns are in the version's order; excluded are
    the pseudonyms whose rows are not in it."""

    version: Version
    kind: str
    folder: Path
    columns: tuple[str, ...]
    files: tuple[DataFile, ...]
    excluded: frozenset[str]

    @property
    def name(self) -> str:
        """The version's resource name."""
        return self.version.name

    def file(self, path: str) -> DataFile | None:
        """A file by the exact path it is listed under. Nothing a caller sends is ever joined to a folder."""
        return next((file for file in self.files if file.path == path), None)


@dataclass(frozen=True)
class _Made:
    """A projection's manifest. columns are None in one that an earlier version of the gateway wrote."""

    files: tuple[DataFile, ...]
    columns: tuple[str, ...]
    excluded: frozenset[str]
    ingestion: str


class Shelf:
    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        # Versions change only when erased members' rows are taken out of them; kept so that serving asks no database.
        self._versions: OrderedDict[tuple[str, int], Version] = OrderedDict()
        self._projections: OrderedDict[str, _Made] = OrderedDict()
        self._making: dict[str, asyncio.Task[_Made]] = {}
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

    async def select(self, version: Version, columns: frozenset[str], excluded: frozenset[str]) -> Selection:
        """The version's files with these columns and no others, without the rows of these pseudonyms; made if there are
        none yet."""
        every = [column.name for column in version.document.columns]
        wanted = tuple(name for name in every if name in columns)
        if len(wanted) == len(every) and not excluded:
            return self.whole(version)
        digest = _digest(version, wanted, excluded)
        made = self._projections.get(digest)
        if made is None:
            made = await self._projected(digest, version, wanted, excluded)
            self._remember(digest, made)
        return self._selection(version, digest, made)

    async def of_kind(self, version: Version, kind: str) -> Selection | None:
        """A selection this gateway listed before, by its kind; kind comes out of an address we signed, or is compared."""
        whole = self.whole(version)
        if kind in (WHOLE, whole.kind):
            return whole if kind == whole.kind else None
        made = self._projections.get(kind)
        if made is None:
            made = await asyncio.to_thread(_read_manifest, self._storage.projection(kind))
        if made is None or made.ingestion not in ("", version.ingestion_id):
            return None
        return self._selection(version, kind, made)

    def forget_version(self, version: Version) -> None:
        """After rows were taken out of a version's files: nothing made of the old ones is listed again, or kept."""
        self._versions.pop((version.dataset, version.number), None)
        for path in (self._storage.root / "projections").glob("*.json"):
            folder = path.with_suffix("")
            made = _read_manifest(folder)
            if made is None or made.ingestion in ("", version.ingestion_id):
                self._remove(folder)

    async def run(self) -> None:
        """Until canceled: now and then removes files with rows left out that nobody can have an address of any more."""
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            await asyncio.to_thread(self._prune, seconds() - FILTERED_LIFE_SECONDS)

    def _prune(self, before: float) -> None:
        for path in (self._storage.root / "projections").glob("*.json"):
            folder = path.with_suffix("")
            if path.stat().st_mtime < before and (made := _read_manifest(folder)) is not None and made.excluded:
                self._remove(folder)

    def _remove(self, folder: Path) -> None:
        self._projections.pop(folder.name, None)
        folder.with_name(f"{folder.name}.json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def whole(self, version: Version) -> Selection:
        """The version as it is stored."""
        columns = tuple(column.name for column in version.document.columns)
        kind = WHOLE if not version.purge_count else _digest(version, columns, frozenset())
        folder = self._storage.version_files(version.ingestion_id, version.purge_count)
        return Selection(version, kind, folder, columns, version.files, version.purged)

    def _selection(self, version: Version, digest: str, made: _Made) -> Selection:
        return Selection(
            version,
            digest,
            self._storage.projection(digest),
            made.columns,
            made.files,
            made.excluded | version.purged,
        )

    def _remember(self, digest: str, made: _Made) -> None:
        self._projections[digest] = made
        if len(self._projections) > _CACHE_SIZE:
            self._projections.popitem(last=False)

    async def _projected(
        self, digest: str, version: Version, columns: tuple[str, ...], excluded: frozenset[str]
    ) -> _Made:
        task = self._making.get(digest)
        if task is None:
            # Columns can be chosen in more ways than any disk holds; it must not fill up under the uploads.
            if self._storage.free_bytes() < version.document.size_bytes:
                raise Refusal(
                    "STORAGE_FULL",
                    "The gateway has no room to prepare these columns; tell the cooperative.",
                    Kind.STATE,
                )
            task = asyncio.create_task(self._make(digest, version, columns, excluded))
            self._making[digest] = task
            task.add_done_callback(lambda _: self._making.pop(digest, None))
        # Shielded: whoever asked first may go away while others wait for the same files.
        return await asyncio.shield(task)

    async def _make(self, digest: str, version: Version, columns: tuple[str, ...], excluded: frozenset[str]) -> _Made:
        whole = self.whole(version)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._maker, _make, self._storage.projection(digest), whole, columns, excluded
        )

    async def close(self) -> None:
        for task in list(self._making.values()):
            task.cancel()
        await asyncio.to_thread(self._maker.shutdown)


def _digest(version: Version, columns: tuple[str, ...], excluded: frozenset[str]) -> str:
    parts: list[Any] = [version.ingestion_id, *columns]
    if excluded or version.purge_count:
        parts = [version.ingestion_id, version.purge_count, columns, sorted(excluded)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _make(folder: Path, whole: Selection, columns: tuple[str, ...], excluded: frozenset[str]) -> _Made:
    if (made := _read_manifest(folder)) is not None:
        return made
    # A folder without its manifest is what a crash left; the manifest comes last.
    shutil.rmtree(folder, ignore_errors=True)
    files = project(whole.folder, whole.files, columns, folder, whole.version.member_column, excluded)
    made = _Made(files, columns, excluded, whole.version.ingestion_id)
    manifest = {
        "files": [asdict(one) for one in files],
        "columns": columns,
        "excluded": sorted(excluded),
        "ingestion": made.ingestion,
    }
    partial = folder.with_name(f"{folder.name}.json.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(manifest, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder.with_name(f"{folder.name}.json"))
    sync(folder.parent)
    return made


def _read_manifest(folder: Path) -> _Made | None:
    try:
        kept = json.loads(folder.with_name(f"{folder.name}.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    if isinstance(kept, list):  # written before rows were ever left out
        return _Made(tuple(DataFile(**one) for one in kept), (), frozenset(), "")
    return _Made(
        tuple(DataFile(**one) for one in kept["files"]),
        tuple(kept["columns"]),
        frozenset(kept["excluded"]),
        str(kept["ingestion"]),
    )
