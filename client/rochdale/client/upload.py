"""Streaming a file to an ingestion's upload address, going on where a broken connection stopped. What follows is not here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from rochdale.client.refusals import MarketError, from_http
from rochdale.client.renewal import Renewable
from rochdale.client.transport import fit_for_secrets

if TYPE_CHECKING:
    from rochdale.client.market import Session

Progress = Callable[[int, int], None]

_READ_BYTES = 1024 * 1024
_RETRY_DELAYS_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0)
# The answer to the last byte may take a while: the gateway checks the SHA-256 of the whole file first.
_TIMEOUT = httpx.Timeout(30.0, read=300.0)


def upload(url: str, path: Path, sessions: Renewable[Session], *, progress: Progress | None = None) -> None:
    """Sends the file from where the gateway has it; returns when the gateway has all of it.

    Raises MarketError with the gateway's reason, or GATEWAY_UNREACHABLE after six failures without a byte between them.
    """
    fit_for_secrets(url)
    size_bytes = path.stat().st_size
    failures, best = 0, -1
    with httpx.Client(timeout=_TIMEOUT) as client:
        while True:
            try:
                offset = _offset(client, url, sessions)
                if offset >= size_bytes:
                    return
                if offset > best:
                    failures, best = 0, offset
                _put(client, url, path, offset, size_bytes, sessions, progress)
                return
            except _TryAgainError as again:
                if failures >= len(_RETRY_DELAYS_SECONDS):
                    raise again.refusal from None
                time.sleep(_RETRY_DELAYS_SECONDS[failures])
                failures += 1


class _TryAgainError(Exception):
    def __init__(self, refusal: MarketError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def _offset(client: httpx.Client, url: str, sessions: Renewable[Session]) -> int:
    response = _send(client, sessions, lambda: client.build_request("HEAD", url))
    try:
        return int(response.headers.get("upload-offset", "0"))
    except ValueError:
        return 0


def _put(
    client: httpx.Client,
    url: str,
    path: Path,
    offset: int,
    size_bytes: int,
    sessions: Renewable[Session],
    progress: Progress | None,
) -> None:
    headers = {"content-length": str(size_bytes - offset), "content-type": "application/octet-stream"}
    if offset:
        headers["content-range"] = f"bytes {offset}-{size_bytes - 1}/{size_bytes}"
    _send(
        client,
        sessions,
        lambda: client.build_request("PUT", url, headers=headers, content=_pieces(path, offset, size_bytes, progress)),
    )


def _pieces(path: Path, offset: int, size_bytes: int, progress: Progress | None) -> Iterator[bytes]:
    sent = offset
    with path.open("rb") as file:
        file.seek(offset)
        while sent < size_bytes and (piece := file.read(min(_READ_BYTES, size_bytes - sent))):
            yield piece
            sent += len(piece)
            if progress:
                progress(sent, size_bytes)
    if sent < size_bytes:
        raise MarketError("FILE_CHANGED", f"{path} became shorter while it was sent.", {"path": str(path)})


def _send(client: httpx.Client, sessions: Renewable[Session], build: Callable[[], httpx.Request]) -> httpx.Response:
    session = sessions.current()
    request = build()
    try:
        for last in (False, True):
            request.headers["authorization"] = f"Bearer {session.token}"
            response = client.send(request)
            if response.status_code != httpx.codes.UNAUTHORIZED or last:
                break
            session = sessions.replace(session)
            request = build()
    except httpx.TransportError as error:
        host = request.url.netloc.decode("ascii")
        refusal = MarketError(
            "GATEWAY_UNREACHABLE",
            f"The connection to the gateway {host} keeps breaking ({type(error).__name__}).",
            {"gateway": host},
        )
        raise _TryAgainError(refusal) from None
    if response.is_success:
        return response
    # A conflict means that the gateway is elsewhere in the file than we thought, such as while a broken request of ours
    # still drains; asking again where it is settles that.
    if response.status_code in (409, 429) or response.status_code >= 500:
        raise _TryAgainError(from_http(response))
    raise from_http(response)
