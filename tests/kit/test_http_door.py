"""Over a real connection: heads that never end, heads that never come, and bodies that may be as long as they like."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rochdale_kit import http_door
from rochdale_kit.server import Service
from rochdale_kit.telemetry import Telemetry


async def count(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@pytest_asyncio.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    service = Service("kit", Telemetry("kit"))
    service.serve_http("127.0.0.1:0", Starlette(routes=[Route("/", count, methods=["GET", "PUT"])]))
    async with service.running():
        host, _, port = service.http_address.rpartition(":")
        yield host, int(port)


async def answer(address: tuple[str, int], *pieces: bytes, pause: float = 0) -> bytes:
    """All that comes back until the server ends the connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("piece", [b"x" * 65536, b"X-A: y\r\n" * 8192], ids=["one header", "many headers"])
async def test_a_head_that_does_not_end_is_cut(address: tuple[str, int], piece: bytes) -> None:
    assert await answer(address, b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ", *[piece] * 1000) == b""


async def test_a_head_that_does_not_come_is_not_waited_for(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_door, "HEAD_SECONDS", 0.2)
    assert await answer(address, b"GET / HTTP/1.1\r\nHos") == b""
    # Nor that of a second request behind a first.
    two = await answer(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HT", pause=0.1)
    assert two.startswith(b"HTTP/1.1 200") and two.endswith(b"0")


async def test_a_long_body_is_no_head(address: tuple[str, int]) -> None:
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3000000\r\n\r\n"
    assert (await answer(address, head + b"x" * 100_000, b"x" * 2_900_000)).endswith(b"3000000")


async def test_a_token_of_full_size_fits(address: tuple[str, int]) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer " + b"x" * 8192
    assert (await answer(address, head + b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_nobody_gets_a_websocket_or_a_line_of_log(
    address: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert (await answer(address, head)).startswith(b"HTTP/1.1 200")
    assert not caplog.records
