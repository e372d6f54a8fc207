"""Sends one file, or a part of it, in pieces; and breaks off when the right to it ends. Finding files is not here."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import Send

from data_gateway.domain.ranges import Span, Unsatisfiable, matches, requested
from data_gateway.doors.reading import Reading
from data_gateway.enforcement import Leave
from data_gateway.ingest import DataFile
from data_gateway.shelf import Selection
from data_gateway.streams import LiveStreams
from data_gateway.usage import UsageMeter
from rochdale_kit.refusals import Kind, Refusal

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
_NOWAIT = getattr(os, "RWF_NOWAIT", None)
_MEDIA_TYPE = b"application/vnd.apache.parquet"


def connection_of(send: Send) -> Any:
    """The transport behind an answer, or None. ASGI has no word for breaking a connection off, and closing it would
    first send what is buffered; so we take the transport from the server's own object, of which `send` is a method."""
    return getattr(getattr(send, "__self__", None), "transport", None)


class Sender:
    def __init__(self, reading: Reading, streams: LiveStreams, usage: UsageMeter) -> None:
        self._reading = reading
        self._streams = streams
        self._usage = usage

    def prepare(
        self, method: str, headers: Mapping[str, str], leave: Leave, selection: Selection, file: DataFile
    ) -> Callable[[Send], Awaitable[None]]:
        """The answer to a GET or HEAD of a file; headers are the request's, in lower case. Whatever can fail fails here,
        before the answer begins."""
        etag = f'"{file.sha256}"'
        common = [
            (b"accept-ranges", b"bytes"),
            (b"etag", etag.encode()),
            (b"x-content-sha256", file.sha256.encode()),
            (b"cache-control", b"private, no-store"),
        ]
        if matches(headers.get("if-none-match"), etag):
            return _empty(304, common)
        try:
            ranged = headers.get("range") if method == "GET" else None
            span = requested(ranged, headers.get("if-range"), etag, file.size_bytes)
        except Unsatisfiable:
            common += [(b"content-range", f"bytes */{file.size_bytes}".encode()), (b"content-length", b"0")]
            return _empty(416, common)
        common += [(b"content-type", _MEDIA_TYPE), (b"content-length", str(span.length).encode())]
        if method == "HEAD":
            return _empty(200, common)
        if span.status == 206:
            common.append((b"content-range", f"bytes {span.first}-{span.last}/{file.size_bytes}".encode()))
        try:
            descriptor = os.open(selection.folder / file.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            log.error("a file of %s cannot be read: %s", selection.name, error)
            raise Refusal("INTERNAL", "The service failed; the operator can find out why.", Kind.INTERNAL) from None

        async def answer(send: Send) -> None:
            try:
                await _start(send, span.status, common)
                sent = await self._pieces(send, descriptor, span, leave, selection)
            finally:
                os.close(descriptor)
            self._usage.sent(leave, selection, sent)

        return answer

    async def _pieces(self, send: Send, descriptor: int, span: Span, leave: Leave, selection: Selection) -> int:
        """How many bytes were given to the connection."""
        connection = connection_of(send)
        cut = asyncio.Event()

        def break_off() -> None:
            cut.set()
            if connection is not None:
                connection.abort()

        position = span.first
        with self._streams.enter(lambda: self._reading.allows(leave, selection), break_off):
            while position <= span.last:
                try:
                    self._reading.require(leave, selection)
                except Refusal as refusal:
                    log.info("a stream of %s is cut: %s", leave.grant.name, refusal.reason)
                    break_off()
                wanted = min(PIECE_BYTES, span.last - position + 1)
                piece = b"" if cut.is_set() else await _read(descriptor, wanted, position)
                if cut.is_set() or not piece:
                    if not cut.is_set():
                        log.error("a file of %s is shorter than it was", leave.grant.license)
                        break_off()
                    await _gone(connection)
                    break
                await _body(send, piece, more=position + len(piece) <= span.last)
                if connection is not None and connection.is_closing():
                    break
                position += len(piece)
        return position - span.first


async def _gone(connection: Any) -> None:
    """Waits until the server has noticed that the connection is gone, so that it does not call the answer unfinished."""
    if connection is None:
        raise ConnectionAbortedError("the answer was broken off")
    for _ in range(3):
        await asyncio.sleep(0)


async def _read(descriptor: int, size: int, offset: int) -> bytes | memoryview:
    """Bytes at an offset, fewer only at the end. What the kernel has at hand is read at once, without the way to a thread
    and back, which costs more than reading; the disk is waited for in a thread."""
    if _NOWAIT is not None:
        buffer = bytearray(size)
        try:
            count = os.preadv(descriptor, [buffer], offset, _NOWAIT)
        except OSError:  # not at hand, or a file system that does not know the question
            count = 0
        if count > 0:
            return memoryview(buffer)[:count]
    return await asyncio.to_thread(os.pread, descriptor, size, offset)


def _empty(status: int, headers: list[tuple[bytes, bytes]]) -> Callable[[Send], Awaitable[None]]:
    async def answer(send: Send) -> None:
        await _start(send, status, headers)
        await _body(send, b"")

    return answer


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _body(send: Send, piece: bytes | memoryview, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": more})
