"""A gateway that misbehaves on request, over real HTTP on loopback: what a download or an upload must survive."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LICENSE = "lic_01JABCDEFGHJKMNPQRSTVWXYZ0"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class BadGateway:
    """What it serves, and what is wrong with it. Requests are counted, headers remembered."""

    files: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, bytes] = field(default_factory=dict)  # announced hashes, where they differ from what is served
    urls: dict[str, str] = field(default_factory=dict)  # announced addresses, where they are not the usual ones
    ignores_ranges: bool = False
    breaks_after_bytes: int = 0  # every answer to a GET of a file ends after so many bytes …
    breaks: int = 0  # … so many times
    busy: int = 0  # answers 503 so many times
    etag: str | None = None
    valid_tokens: set[str] = field(default_factory=lambda: {"token-1"})
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    upload_size: int = 0
    uploaded: bytearray = field(default_factory=bytearray)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def take(self, counter: str) -> bool:
        with self.lock:
            left: int = getattr(self, counter)
            if left > 0:
                setattr(self, counter, left - 1)
            return left > 0

    def file_requests(self) -> list[dict[str, str]]:
        return [headers for method, path, headers in self.requests if method == "GET" and "/versions/" in path]

    def listing(self) -> bytes:
        files = []
        for path, content in self.files.items():
            announced = self.listed.get(path, content)
            default = f"{self.url}/v1/licenses/{LICENSE}/datasets/randhie/versions/1/{path}"
            files.append(
                {
                    "path": path,
                    "sha256": digest(announced),
                    "size_bytes": len(announced),
                    "row_count": 1,
                    "url": self.urls.get(path, default),
                }
            )
        dataset = "cooperatives/valley-health/datasets/randhie"
        return json.dumps(
            {"license": LICENSE, "dataset": dataset, "version": 1, "columns": ["a"], "files": files}
        ).encode()


def serve(gateway: BadGateway) -> ThreadingHTTPServer:
    """Starts it on a free port; `gateway.url` is its address. Shut it down and close it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def setup(self) -> None:
            super().setup()
            self.close_connection = True

        def do_GET(self) -> None:
            gateway.requests.append(("GET", self.path, {k.lower(): v for k, v in self.headers.items()}))
            if not self._known():
                return
            if gateway.take("busy"):
                self._answer(503, b'{"errorCode": "SERVICE_UNAVAILABLE", "message": "Busy."}')
                return
            if self.path.endswith("/files"):
                self._answer(200, gateway.listing())
                return
            content = gateway.files.get(self.path.partition("/versions/1/")[2])
            if content is None:
                self._answer(404, b'{"errorCode": "NOT_FOUND", "message": "There is no such file."}')
                return
            etag = gateway.etag or f'"{digest(content)}"'
            headers = {"ETag": etag}
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if wanted and not gateway.ignores_ranges and self.headers.get("If-Range") in (None, etag):
                first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                self._answer(206, content[first : last + 1], headers, may_break=True)
            else:
                self._answer(200, content, headers, may_break=True)

        def do_HEAD(self) -> None:
            if self._known():
                self._answer(200, b"", {"Upload-Offset": str(len(gateway.uploaded))})

        def do_PUT(self) -> None:
            gateway.requests.append(("PUT", self.path, {k.lower(): v for k, v in self.headers.items()}))
            if not self._known():
                return
            wanted = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", self.headers.get("Content-Range", ""))
            if (int(wanted[1]) if wanted else 0) != len(gateway.uploaded):
                self._answer(409, b'{"errorCode": "UPLOAD_OFFSET_MISMATCH", "message": "Not where we are."}')
                return
            left = int(self.headers["Content-Length"])
            if gateway.take("breaks"):
                left = min(left, gateway.breaks_after_bytes)
                gateway.uploaded += self.rfile.read(left)
                self.connection.close()
                return
            gateway.uploaded += self.rfile.read(left)
            self._answer(200, json.dumps({"received_bytes": len(gateway.uploaded), "state": "PROCESSING"}).encode())

        def _known(self) -> bool:
            if self.headers.get("Authorization", "").removeprefix("Bearer ") in gateway.valid_tokens:
                return True
            self._answer(401, b'{"errorCode": "TOKEN_EXPIRED", "message": "The token ended.", "facts": {"at": "x"}}')
            return False

        def _answer(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, may_break: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if may_break and gateway.breaks_after_bytes and gateway.take("breaks"):
                body = body[: gateway.breaks_after_bytes]
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server
