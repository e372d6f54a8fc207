"""Delivery of a license's files into a directory: parallel, resumed, verified. What a name may be is in paths.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from rochdale.client.gateway_http import Door, TryAgainError, quoted_etag
from rochdale.client.listing import Listing, RemoteFile, read_listing
from rochdale.client.part_file import CHUNK_BYTES, PartFile, sha256_of
from rochdale.client.paths import safe_targets
from rochdale.client.refusals import MarketError
from rochdale.client.renewal import Renewable
from rochdale.client.tokens import AccessToken, license_tokens

if TYPE_CHECKING:
    from rochdale.client.market import Market

# Called from several threads, but never by two at once, with the bytes that are here and the bytes there will be.
Progress = Callable[[int, int], None]

_TIMEOUT = httpx.Timeout(20.0, connect=10.0)
# How many files are worked on at once; the ranges of all of them share the workers.
_FILES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Delivery:
    """What arrived: the version of which dataset, which columns, and each file with its place on disk."""

    license: str
    dataset: str
    version: int
    columns: tuple[str, ...]
    directory: Path
    files: tuple[tuple[RemoteFile, Path], ...]


def download(
    license: str,
    directory: Path | str | None = None,
    *,
    market: Market | None = None,
    columns: Sequence[str] = (),
    workers: int = 4,
    progress: Progress | None = None,
) -> Delivery:
    """Downloads everything a license opens, or goes on where an earlier download into `directory` stopped.

    Without a directory, it is "{dataset}-v{version}" where you are. Without a market, it is the one Market.open() finds.
    A file gets its name only when its SHA-256 is the announced one. Raises MarketError, among others with the reasons
    of IssueToken, FILE_CHANGED, FILE_CORRUPT, FILE_EXISTS (with other contents), FILE_NAME_UNSAFE.
    """
    if market is None:
        from rochdale.client.market import Market

        with Market.open() as opened:
            return download(license, directory, market=opened, columns=columns, workers=workers, progress=progress)
    tokens = license_tokens(market, license, columns=columns)
    return fetch(tokens, license, directory, workers=workers, progress=progress)


def fetch(
    tokens: Renewable[AccessToken],
    license: str,
    directory: Path | str | None = None,
    *,
    workers: int = 4,
    chunk_bytes: int = CHUNK_BYTES,
    progress: Progress | None = None,
) -> Delivery:
    """Does what download() promises with tokens from anywhere."""
    with httpx.Client(timeout=_TIMEOUT, limits=httpx.Limits(max_connections=workers + 2)) as client:
        door = Door(client, tokens)
        listing = read_listing(door, license.removeprefix("licenses/"))
        target = Path(directory) if directory is not None else Path(listing.default_directory)
        return _Job(door, listing, target, chunk_bytes, progress).run(workers)


class _RangesIgnoredError(Exception):
    """The gateway answers a range with the whole file."""


class _Meter:
    """Counts the bytes of all files for one progress callback."""

    def __init__(self, total_bytes: int, progress: Progress | None) -> None:
        self._lock, self._done, self._total, self._progress = threading.Lock(), 0, total_bytes, progress

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._progress:
                self._progress(self._done, self._total)


class _FileMeter:
    """Counts the bytes of one file, so that a restart can take them back."""

    def __init__(self, meter: _Meter) -> None:
        self._meter, self._lock, self._done = meter, threading.Lock(), 0

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
        self._meter.add(count)

    def restart(self) -> None:
        self.add(-self._done)


class _Job:
    """One download of one listing."""

    def __init__(
        self, door: Door, listing: Listing, directory: Path, chunk_bytes: int, progress: Progress | None
    ) -> None:
        self._door, self._listing, self._directory, self._chunk_bytes = door, listing, directory, chunk_bytes
        self._meter = _Meter(sum(file.size_bytes for file in listing.files), progress)

    def run(self, workers: int) -> Delivery:
        files = self._listing.files
        targets = safe_targets(self._directory, (file.path for file in files))
        self._directory.mkdir(parents=True, exist_ok=True)
        # Two pools: the few threads of the first wait for the chunks of their file, those of the second only fetch, so
        # nobody waits for a thread that waits.
        ranges = ThreadPoolExecutor(workers, "rochdale-range")
        whole = ThreadPoolExecutor(min(_FILES_AT_ONCE, workers), "rochdale-file")
        try:
            jobs = [whole.submit(self._fetch_file, file, to, ranges) for file, to in zip(files, targets, strict=True)]
            _all_or_first_error(jobs)
        finally:
            # Also on Ctrl-C: every thread ends at its next piece, and what is whole is remembered.
            self._door.closing.set()
            whole.shutdown(cancel_futures=True)
            ranges.shutdown(cancel_futures=True)
        return Delivery(
            license=self._listing.license,
            dataset=self._listing.dataset,
            version=self._listing.version,
            columns=self._listing.columns,
            directory=self._directory,
            files=tuple(zip(files, targets, strict=True)),
        )

    def _fetch_file(self, file: RemoteFile, target: Path, ranges: ThreadPoolExecutor) -> None:
        meter = _FileMeter(self._meter)
        if target.exists():
            if target.is_file() and target.stat().st_size == file.size_bytes and sha256_of(target) == file.sha256:
                meter.add(file.size_bytes)
                return
            raise MarketError(
                "FILE_EXISTS",
                f"{target} exists with other contents. Delete it or choose another directory.",
                {"path": str(target)},
            )
        part = PartFile(target, file.sha256, file.size_bytes, self._chunk_bytes)
        meter.add(part.open())
        # A second try from nothing, because the damage may be in what an earlier run left behind.
        for _ in range(2):
            try:
                chunks = [ranges.submit(self._fetch_chunk, file, part, meter, *chunk) for chunk in part.missing()]
                _all_or_first_error(chunks)
            except _RangesIgnoredError:
                part.restart()
                meter.restart()
                self._fetch_whole(file, part, meter)
            if part.verify():
                part.finish()
                return
            part.restart()
            meter.restart()
        part.discard()
        raise MarketError(
            "FILE_CORRUPT",
            f"What arrived as {file.path} is not what the gateway announced: its SHA-256 differs, twice. Nothing is kept.",
            {"path": file.path, "sha256": file.sha256},
        )

    def _fetch_chunk(
        self, file: RemoteFile, part: PartFile, meter: _FileMeter, chunk: int, first: int, last: int
    ) -> None:
        position, failures = first, 0

        def write(response: httpx.Response) -> None:
            nonlocal position
            _check_range(response, file, position, last)
            with part.path.open("rb+") as out:
                out.seek(position)
                for piece in self._door.pieces(response):
                    if position + len(piece) > last + 1:
                        raise _changed(file, "it sends more bytes than it announced")
                    out.write(piece)
                    position += len(piece)
                    meter.add(len(piece))

        while position <= last:
            before = position
            # If-Range: a file that is no longer the announced one comes as 200, never as a range to append.
            headers = {"range": f"bytes={position}-{last}", "if-range": quoted_etag(file.sha256)}
            try:
                self._door.get(file.url, headers, write)
                if position <= last:
                    raise TryAgainError(self._door.broken_off(file.url))
            except TryAgainError as again:
                failures = self._door.pause(1 if position > before else failures + 1, again)
        part.finish_chunk(chunk)

    def _fetch_whole(self, file: RemoteFile, part: PartFile, meter: _FileMeter) -> None:
        received, failures = 0, 0

        def write(response: httpx.Response) -> None:
            nonlocal received
            if response.status_code != httpx.codes.OK:
                raise _changed(file, f"it answers {response.status_code} to a request for the whole file")
            _check_etag(response, file)
            with part.path.open("rb+") as out:
                for piece in self._door.pieces(response):
                    received += len(piece)
                    if received > file.size_bytes:
                        raise _changed(file, "it sends more bytes than it announced")
                    out.write(piece)
                    meter.add(len(piece))

        while received < file.size_bytes:
            received = 0
            meter.restart()
            try:
                self._door.get(file.url, {}, write)
                if received < file.size_bytes:
                    raise TryAgainError(self._door.broken_off(file.url))
            except TryAgainError as again:
                failures = self._door.pause(failures + 1, again)


def _all_or_first_error(jobs: list[Future[None]]) -> None:
    """Waits for all jobs. At the first error the others are called off and waited for, and the error is raised."""
    done, pending = wait(jobs, return_when=FIRST_EXCEPTION)
    error = next((job.exception() for job in done if job.exception() is not None), None)
    if error is not None:
        for job in pending:
            job.cancel()
        wait([job for job in pending if not job.cancelled()])
        raise error


def _check_range(response: httpx.Response, file: RemoteFile, first: int, last: int) -> None:
    _check_etag(response, file)
    if response.status_code == httpx.codes.OK:
        raise _RangesIgnoredError
    if response.headers.get("content-range") != f"bytes {first}-{last}/{file.size_bytes}":
        raise _changed(file, f"it sends the range {response.headers.get('content-range')!r}")


def _check_etag(response: httpx.Response, file: RemoteFile) -> None:
    etag = response.headers.get("etag")
    if etag is not None and etag.removeprefix("W/") != quoted_etag(file.sha256):
        raise _changed(file, f"its ETag is {etag}")


def _changed(file: RemoteFile, how: str) -> MarketError:
    return MarketError(
        "FILE_CHANGED",
        f"{file.path} is not the file the gateway announced: {how}. Run the download again.",
        {"path": file.path, "sha256": file.sha256},
    )
