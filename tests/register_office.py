"""The public registers as a real HTTP server on loopback, answering with recorded shapes. It looks up nothing itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

FOLDER = Path(__file__).parent / "licensing" / "registers"

KEY = "charity-key"


def _lei(name: str) -> str:
    return str(json.loads((FOLDER / f"{name}.json").read_text())["data"]["id"])


PARENT, SUBSIDIARY, ALONE = _lei("lei_parent"), _lei("lei_subsidiary"), _lei("lei_alone")
SECRET, SILENT, LAPSED = _lei("lei_secret"), _lei("lei_silent"), _lei("lei_lapsed")
PLATFORM_SUBSIDIARY, PLATFORM = _lei("lei_platform_subsidiary"), _lei("lei_platform")
UNIVERSITY, COMPANY, WITHDRAWN = "02feahw73", "05a0ya142", "04wxnsj81"
HEALTH, ARTS, REMOVED = "1089464", "1076204", "1054321"

_RECORDS = "/gleif/lei-records"
_FILES = {
    f"/ror/organizations/{UNIVERSITY}": "ror_university",
    f"/ror/organizations/{COMPANY}": "ror_company",
    f"/ror/organizations/{WITHDRAWN}": "ror_withdrawn",
    f"{_RECORDS}/{PARENT}": "lei_parent",
    f"{_RECORDS}/{PARENT}/ultimate-parent-reporting-exception": "lei_parent_exception",
    f"{_RECORDS}/{SUBSIDIARY}": "lei_subsidiary",
    f"{_RECORDS}/{SUBSIDIARY}/ultimate-parent": "lei_parent",
    f"{_RECORDS}/{ALONE}": "lei_alone",
    f"{_RECORDS}/{ALONE}/ultimate-parent-reporting-exception": "lei_alone_exception",
    f"{_RECORDS}/{SECRET}": "lei_secret",
    f"{_RECORDS}/{SECRET}/ultimate-parent-reporting-exception": "lei_secret_exception",
    f"{_RECORDS}/{SILENT}": "lei_silent",
    f"{_RECORDS}/{LAPSED}": "lei_lapsed",
    f"{_RECORDS}/{PLATFORM_SUBSIDIARY}": "lei_platform_subsidiary",
    f"{_RECORDS}/{PLATFORM_SUBSIDIARY}/ultimate-parent": "lei_platform",
    f"/charity/allcharitydetailsV2/{HEALTH}/0": "charity_health",
    f"/charity/allcharitydetailsV2/{ARTS}/0": "charity_arts",
    f"/charity/allcharitydetailsV2/{REMOVED}/0": "charity_removed",
}


class Office:
    """Answers GET. `odd` overrides a path with (status, headers, body), for what registers do on bad days."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.odd: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.delay_seconds = 0.0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def settings(self) -> dict[str, str]:
        """What licensing has to be told to ask here."""
        return {
            "ror_url": f"{self.url}/ror",
            "gleif_url": f"{self.url}/gleif",
            "charity_url": f"{self.url}/charity",
            "charity_api_key": KEY,
        }

    def _answer(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if path in self.odd:
            return self.odd[path]
        if path.startswith("/charity/") and headers.get("ocp-apim-subscription-key") != KEY:
            return 401, {}, b'{"statusCode": 401, "message": "Access denied due to invalid subscription key."}'
        if name := _FILES.get(path):
            return 200, {}, (FOLDER / f"{name}.json").read_bytes()
        missing = "ror_not_found" if path.startswith("/ror/") else "lei_not_found"
        return 404, {}, (FOLDER / f"{missing}.json").read_bytes()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            path = head[0].split(" ")[1]
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name
            }
            self.asked.append(path)
            await asyncio.sleep(self.delay_seconds)
            status, extra, body = self._answer(path, headers)
            lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in extra.items()] + ["connection: close", "", ""]
            writer.write("\r\n".join(lines).encode() + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked has had enough
        finally:
            writer.close()
