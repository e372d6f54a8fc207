"""HTTP connections as uvicorn serves them, with an end to how large and how slow a request's head may be."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Request line and headers. A token has 6 KiB at most, and a signed address less than one.
MAX_HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 15.0


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's own protocol bounds neither: anybody could fill the memory with headers that never end, or hold a
    connection by sending one byte now and then."""

    _head_bytes = 0
    _in_head = True
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type] # what a server's connections always have
        self._late = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # Only what is still a head after a piece counts, so a body that came with its head in one piece is none of it.
        if self._in_head and self._head_bytes:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._in_time()
                self.transport.abort()
            elif self._late is None:
                self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._in_time()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _unsupported_upgrade_warning(self) -> None:
        """Two lines of log for whoever asks for a WebSocket; the answer says enough."""
