"""The door of files: a license's files by token, and single files by signed address. As bare ASGI, for it is the hot one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from data_gateway.domain.addresses import PREFIX, read_address
from data_gateway.doors.answers import refusal_body, refusal_headers
from data_gateway.doors.reading import Reading, withdrawn
from data_gateway.doors.sending import Sender
from data_gateway.enforcement import Leave
from data_gateway.ingest import DataFile
from data_gateway.shelf import Selection
from data_gateway.usage import UsageMeter
from rochdale.type.v1 import scope_pb2
from rochdale_kit.boundary import as_refusal
from rochdale_kit.refusals import Kind, Refusal, not_found

_LICENSES = "/v1/licenses/"
KIND = re.compile(r"all|[0-9a-f]{64}")
CACHE_SIZE = 10_000


class FileDoor:
    def __init__(
        self,
        reading: Reading,
        sender: Sender,
        usage: UsageMeter,
        cooperative: str,
        public_url: str,
        url_key: bytes,
    ) -> None:
        self._reading = reading
        self._sender = sender
        self._usage = usage
        self._cooperative = cooperative
        self._public_url = public_url.rstrip("/")
        self._url_key = url_key
        # What an address under a credential was found to be. A token that once opened a file opens it until it ends or
        # is revoked, which is asked every time; its window only opens once, and versions never change.
        self._found: dict[tuple[object, ...], tuple[Leave, Selection, DataFile]] = {}

    def forget(self) -> None:
        """Empties that memory."""
        self._found.clear()

    @staticmethod
    def answers(scope: Scope) -> bool:
        """Whether a request asks for the bytes of a file."""
        path: str = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            return False
        return path.startswith(PREFIX) or (path.startswith(_LICENSES) and "/datasets/" in path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            leave, selection, file = await self._find(scope)
            answer = self._sender.prepare(scope["method"], headers, leave, selection, file)
        except Exception as error:
            await _refuse(send, as_refusal(error, "file"))
            return
        await answer(send)

    async def _find(self, scope: Scope) -> tuple[Leave, Selection, DataFile]:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        key = (scope["path"], scope["query_string"], *given)
        if (found := self._found.get(key)) is not None:
            self._reading.require(found[0], found[1])
            return found
        if scope["path"].startswith(PREFIX):
            found = await self._by_address(scope)
        else:
            found = await self._by_token(scope, given)
        if len(self._found) >= CACHE_SIZE:
            self._found.clear()
        self._found[key] = found
        return found

    async def list_files(self, request: Request) -> Response:
        """`GET /v1/licenses/{license}/files`: what there is to download, with `?version=` for an earlier one."""
        holder = await self._reading.enforcement.admit(request.headers.getlist("authorization"))
        license = f"licenses/{request.path_params['license']}"
        if license != holder.license:
            raise not_found(license)
        number = _number(request.query_params)
        version = await self._reading.version(holder, number, scope_pb2.ACCESS_MODE_DOWNLOAD)
        selection = await self._reading.select(holder, version)
        self._usage.listed(holder.leave, selection, len(selection.files))
        dataset = holder.dataset.rsplit("/", 1)[1]
        base = f"{self._public_url}/v1/{license}/datasets/{dataset}/versions/{version.number}/"
        return JSONResponse(
            {
                "license": holder.license,
                "dataset": holder.dataset,
                "version": version.number,
                "columns": selection.columns,
                "files": [
                    {
                        "path": file.path,
                        "sha256": file.sha256,
                        "size_bytes": file.size_bytes,
                        "row_count": file.row_count,
                        "url": f"{base}{quote(file.path)}?selection={selection.kind}",
                    }
                    for file in selection.files
                ],
            },
            headers={"cache-control": "private, no-store"},
        )

    async def _by_token(self, scope: Scope, authorization: list[str]) -> tuple[Leave, Selection, DataFile]:
        """`/v1/licenses/{license}/datasets/{dataset}/versions/{number}/{path}`. Parts are compared, never joined. What
        was listed as other files than these rows would be now is refused: parts of two files must not be mixed."""
        holder = await self._reading.enforcement.admit(authorization)
        parts = scope["path"].split("/", 8)
        dataset = holder.dataset.rsplit("/", 1)[1]
        expected = ["", "v1", *holder.license.split("/"), "datasets", dataset, "versions"]
        number = parts[7] if len(parts) == 9 else ""
        if parts[:7] != expected or not (number.isascii() and number.isdigit() and len(number) < 10):
            raise not_found("The file")
        version = await self._reading.version(holder, int(number), scope_pb2.ACCESS_MODE_DOWNLOAD)
        selection = await self._reading.select(holder, version)
        kind = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("selection", selection.kind)
        if kind != selection.kind:
            selection = await self._listed(holder.leave, selection, kind)
        if (file := selection.file(parts[8])) is None:
            raise not_found("The file")
        return holder.leave, selection, file

    async def _listed(self, leave: Leave, current: Selection, kind: str) -> Selection:
        """What was listed before. Good as long as nobody in it withdrew, if it has the columns the token opens: then
        somebody else agreed since, and a download under way goes on."""
        known = KIND.fullmatch(kind) is not None
        listed = await self._reading.shelf.of_kind(current.version, kind) if known else None
        if listed is None or listed.columns != current.columns or not self._reading.stands(leave, listed):
            raise withdrawn(current)
        return listed

    async def _by_address(self, scope: Scope) -> tuple[Leave, Selection, DataFile]:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        address = read_address(scope["path"], query, self._url_key)
        if address is None:
            raise Refusal(
                "ADDRESS_INVALID", "This address of a file is not one that this gateway gave out.", Kind.FORBIDDEN
            )
        enforcement = self._reading.enforcement
        leave = enforcement.leave_of(address.grant, address.token_id, address.key_id, float(address.expires))
        enforcement.require(leave)
        dataset = f"cooperatives/{self._cooperative}/datasets/{address.dataset}"
        version = await self._reading.shelf.version(dataset, address.number)
        selection = await self._reading.shelf.of_kind(version, address.selection) if version is not None else None
        file = selection.file(address.file) if selection is not None else None
        if version is not None and selection is None:
            # Listed once, and removed since, as erased members' rows are.
            raise withdrawn(self._reading.shelf.whole(version))
        if selection is None or file is None:
            raise not_found("The file")
        self._reading.require(leave, selection)
        return leave, selection, file


def _number(query: Mapping[str, str]) -> int | None:
    text = query.get("version", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:10]) > 0 and len(text) < 10):
        raise Refusal("REQUEST_INVALID", "version: is a number from 1.", Kind.INVALID, field="version")
    return int(text)


async def _refuse(send: Send, refusal: Refusal) -> None:
    body = refusal_body(refusal)
    headers = [(name.encode(), value.encode()) for name, value in refusal_headers(refusal).items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": refusal.kind.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
