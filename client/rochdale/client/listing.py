"""A gateway's list of the files a license opens, read with suspicion: every field is checked before anything is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from rochdale.client.gateway_http import Door, TryAgainError
from rochdale.client.refusals import MarketError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SLUG = re.compile(r"[a-z][a-z0-9-]{0,60}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the gateway lists it: sha256 in lower-case hexadecimal, url absolute and of that gateway."""

    path: str
    sha256: str
    size_bytes: int
    row_count: int
    url: str


@dataclass(frozen=True, slots=True)
class Listing:
    """One version of one dataset, as far as the license opens it. `dataset` is the id without its cooperative."""

    license: str
    dataset: str
    version: int
    columns: tuple[str, ...]
    files: tuple[RemoteFile, ...]

    @property
    def default_directory(self) -> str:
        """A directory name that says what is in it."""
        return f"{self.dataset}-v{self.version}"


def read_listing(door: Door, license: str) -> Listing:
    """Asks for the list. Refuses with LISTING_INVALID, FILE_URL_FOREIGN, and whatever the gateway refuses with."""
    url = door.url(f"v1/licenses/{quote(license, safe='')}/files")
    failures = 0
    while True:
        try:
            return parse_listing(door.get(url, {}, _json), license, door)
        except TryAgainError as again:
            failures = door.pause(failures + 1, again)


def parse_listing(body: Any, license: str, door: Door) -> Listing:
    """The list in a JSON document."""
    try:
        dataset, version = str(body["dataset"]).rpartition("/")[2], int(body["version"])
        base = f"v1/licenses/{quote(license, safe='')}/datasets/{dataset}/versions/{version}/"
        files = tuple(
            RemoteFile(
                path=str(file["path"]),
                sha256=str(file["sha256"]),
                size_bytes=int(file["size_bytes"]),
                row_count=int(file.get("row_count", 0)),
                url=door.url(str(file.get("url") or base + quote(str(file["path"])))),
            )
            for file in body["files"]
        )
        columns = tuple(str(column) for column in body.get("columns") or ())
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _invalid(license) from None
    if not _SLUG.fullmatch(dataset) or any(not _SHA256.fullmatch(file.sha256) or file.size_bytes < 0 for file in files):
        raise _invalid(license)
    return Listing(license, dataset, version, columns, files)


def _json(response: httpx.Response) -> Any:
    response.read()
    try:
        return response.json()
    except ValueError:
        return None


def _invalid(license: str) -> MarketError:
    return MarketError("LISTING_INVALID", "The gateway's list of files cannot be read.", {"license": license})
