"""One careful GET: bounded in time and size, never led to another host. What the answer means is not known here."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Any

import httpx

from rochdale_kit.refusals import Kind, Refusal

log = logging.getLogger(__name__)

REQUEST_SECONDS = 5.0
MAX_BYTES = 1 << 20
MAX_REDIRECTS = 2
_ELSEWHERE = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Answer:
    """What a register said. document: its JSON, None if it knows no such thing. raw: the bytes, kept as evidence."""

    document: Any
    raw: bytes


class Ask:
    """Asks registers; one client for the process."""

    def __init__(self) -> None:
        # Never through a proxy or with credentials of the environment, and no redirect is followed unseen.
        self._client = httpx.AsyncClient(timeout=REQUEST_SECONDS, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, register: str, url: str, headers: dict[str, str] | None = None) -> Answer:
        """The answer to one GET. Refuses with REGISTER_UNAVAILABLE whatever is no answer: try again."""
        asked = httpx.URL(url)
        try:
            async with asyncio.timeout(2 * REQUEST_SECONDS):
                for _ in range(MAX_REDIRECTS + 1):
                    status, raw, location = await self._once(asked, headers or {})
                    if status not in _ELSEWHERE:
                        return _answer(register, status, raw)
                    target = asked.join(location)
                    if (target.scheme, target.host, target.port) != (asked.scheme, asked.host, asked.port):
                        raise _Unusable(f"it points to {target.host}")
                    asked = target
                raise _Unusable("it points around")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, _Unusable) as error:
            log.warning("the %s register: %s %s", register, type(error).__name__, error)
            raise Refusal(
                "REGISTER_UNAVAILABLE",
                f"The {register} register gives no answer now; try again.",
                Kind.UNAVAILABLE,
                register=register,
            ) from None

    async def _once(self, url: httpx.URL, headers: dict[str, str]) -> tuple[int, bytes, str]:
        async with self._client.stream("GET", url, headers={"Accept": "application/json", **headers}) as response:
            raw = b""
            # Decoded bytes are counted: a small answer may be packed to become a large one.
            async for chunk in response.aiter_bytes():
                raw += chunk
                if len(raw) > MAX_BYTES:
                    raise _Unusable("the answer is too large")
            return response.status_code, raw, response.headers.get("location", "")


class _Unusable(Exception):
    """An answer that is none."""


def _answer(register: str, status: int, raw: bytes) -> Answer:
    if status == 404:
        return Answer(None, raw)
    if status != 200:
        # A refused key, a limit, a fault of theirs: none of it says anything about the buyer.
        raise _Unusable(f"status {status}")
    try:
        document = json.loads(raw)
    except ValueError:
        raise _Unusable("the answer is no JSON") from None
    if not isinstance(document, dict):
        raise _Unusable("the answer is no object")
    return Answer(document, raw)
