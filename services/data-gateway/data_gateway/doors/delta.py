"""The Delta Sharing protocol over what a token opens: one share, one schema, one table. Bytes leave by the door of files."""

from __future__ import annotations

import json
import uuid
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from data_gateway.domain.addresses import LIFE_SECONDS, FileAddress
from data_gateway.domain.versions import project_schema
from data_gateway.doors.reading import Reading
from data_gateway.enforcement import Pass
from data_gateway.ingest import DataFile
from data_gateway.shelf import Selection
from data_gateway.store.versions import Version
from data_gateway.usage import UsageMeter
from rochdale.type.v1 import scope_pb2
from rochdale_kit import paging
from rochdale_kit.clock import seconds
from rochdale_kit.refusals import Kind, Refusal, not_found

SCHEMA = "data"
MAX_QUERY_BYTES = 256 * 1024
# Rows are read over the network into a client's memory; whole files to keep are asked for at the door of files.
MODE = scope_pb2.ACCESS_MODE_STREAM
_NAMESPACE = uuid.UUID("8f8f4a52-6a2e-4d5e-9c71-184400000000")
_UNSUPPORTED = ("timestamp", "startingVersion", "endingVersion", "startingTimestamp", "endingTimestamp")

Line = dict[str, Any]
T = TypeVar("T")


class DeltaSharing:
    """share = the cooperative, schema = "data", table = the dataset; the table's Delta version = the version's number."""

    def __init__(self, reading: Reading, usage: UsageMeter, cooperative: str, public_url: str, url_key: bytes) -> None:
        self._reading = reading
        self._usage = usage
        self._share = cooperative
        self._public_url = public_url.rstrip("/")
        self._url_key = url_key

    async def shares(self, request: Request) -> Response:
        await self._holder(request)
        return _page(request, [{"name": self._share, "id": _id(self._share)}])

    async def share(self, request: Request) -> Response:
        await self._holder(request)
        return JSONResponse({"share": {"name": self._share, "id": _id(self._share)}})

    async def schemas(self, request: Request) -> Response:
        await self._holder(request)
        return _page(request, [{"name": SCHEMA, "share": self._share}])

    async def tables(self, request: Request) -> Response:
        return _page(request, [self._table(await self._holder(request))])

    async def table_version(self, request: Request) -> Response:
        holder = await self._holder(request)
        if "startingTimestamp" in request.query_params:
            raise _unsupported("startingTimestamp")
        version = await self._reading.version(holder, None, MODE)
        return Response(b"", headers={"delta-table-version": str(version.number), "cache-control": "no-store"})

    async def metadata(self, request: Request) -> Response:
        holder, asked = await self._holder(request), _Capabilities(request)
        version = await self._reading.version(holder, _version(dict(request.query_params)), MODE)
        return _lines(version, asked, [asked.protocol, asked.metadata(version, self._reading.columns(holder, version))])

    async def query(self, request: Request) -> Response:
        holder, asked = await self._holder(request), _Capabilities(request)
        body = await _body(request)
        if unsupported := [name for name in _UNSUPPORTED if body.get(name) not in (None, "")]:
            raise _unsupported(unsupported[0])
        # Predicate hints are best effort and ignored: what may be seen was decided by columns and versions already, and
        # a filter on rows would tell about columns that may not be seen.
        limit = _whole(body, "limitHint")
        version = await self._reading.version(holder, _version(body), MODE)
        columns = self._reading.columns(holder, version)
        selection = await self._reading.select(holder, version)
        files = _until(selection.files, limit)
        expires = int(min(seconds() + LIFE_SECONDS, holder.leave.expires))
        lines = [asked.protocol, asked.metadata(version, columns)]
        lines += [asked.file(one, self._url(holder, selection, one, expires), expires) for one in files]
        if asked.end_stream_action:
            lines.append({"endStreamAction": {"minUrlExpirationTimestamp": expires * 1000}})
        self._usage.listed(holder.leave, selection, len(files))
        return _lines(version, asked, lines)

    async def changes(self, request: Request) -> Response:
        await self._holder(request)
        raise Refusal(
            "UNSUPPORTED_CHANGES",
            "Versions here are whole and immutable; there is no feed of changes. Query the version you want.",
            Kind.INVALID,
        )

    async def _holder(self, request: Request) -> Pass:
        """The pass, if the address names what it opens. Names count without case, as the protocol has it."""
        holder = await self._reading.enforcement.admit(request.headers.getlist("authorization"))
        own = {"share": self._share, "schema": SCHEMA, "table": holder.dataset.rsplit("/", 1)[1]}
        for kind, name in request.path_params.items():
            if str(name).lower() != own[kind]:
                raise not_found(f"The {kind}")
        return holder

    def _table(self, holder: Pass) -> Line:
        return {
            "name": holder.dataset.rsplit("/", 1)[1],
            "schema": SCHEMA,
            "share": self._share,
            "shareId": _id(self._share),
            "id": _id(holder.dataset),
        }

    def _url(self, holder: Pass, selection: Selection, file: DataFile, expires: int) -> str:
        address = FileAddress(
            dataset=holder.dataset.rsplit("/", 1)[1],
            number=selection.version.number,
            selection=selection.kind,
            file=file.path,
            grant=holder.leave.grant.name,
            token_id=holder.leave.token_id,
            key_id=holder.leave.key_id,
            expires=expires,
        )
        return address.url(self._public_url, self._url_key)


class _Capabilities:
    """What a client can read, and the lines it therefore gets. Parquet unless only delta was asked for: every client that
    takes both is then spared the second format's rules."""

    def __init__(self, request: Request) -> None:
        if "fileidhash" in request.headers:
            raise Refusal("UNSUPPORTED_FILE_ID_HASH", "File ids here are the files' own SHA-256; leave fileidhash out.")
        text = request.headers.get("delta-sharing-capabilities", "")
        pairs = (one.partition("=") for one in text.lower().split(";"))
        asked = {name.strip(): {item.strip() for item in value.split(",")} for name, _, value in pairs}
        formats = asked.get("responseformat", {"parquet"})
        self.delta = "delta" in formats and "parquet" not in formats
        self.end_stream_action = asked.get("includeendstreamaction") == {"true"}

    @property
    def header(self) -> str:
        end = ";includeEndStreamAction=true" if self.end_stream_action else ""
        return f"responseformat={'delta' if self.delta else 'parquet'}{end}"

    @property
    def protocol(self) -> Line:
        if self.delta:
            return {"protocol": {"deltaProtocol": {"minReaderVersion": 1, "minWriterVersion": 2}}}
        return {"protocol": {"minReaderVersion": 1}}

    def metadata(self, version: Version, columns: frozenset[str]) -> Line:
        common: Line = {
            "id": _id(version.dataset),
            "schemaString": project_schema(version.delta_schema, columns),
            "partitionColumns": [],
            "configuration": {},
        }
        if self.delta:
            # The kernel insists on options, empty or not.
            return {"metaData": {"deltaMetadata": {**common, "format": {"provider": "parquet", "options": {}}}}}
        return {"metaData": {**common, "format": {"provider": "parquet"}}}

    def file(self, file: DataFile, url: str, expires: int) -> Line:
        stats = json.dumps({"numRecords": file.row_count}, separators=(",", ":"))
        until = expires * 1000
        if self.delta:
            add = {
                "path": url,
                "size": file.size_bytes,
                "partitionValues": {},
                "modificationTime": 0,
                "dataChange": True,
                "stats": stats,
            }
            action = {"id": file.sha256, "size": file.size_bytes, "expirationTimestamp": until}
            return {"file": {**action, "deltaSingleAction": {"add": add}}}
        return {
            "file": {
                "url": url,
                "id": file.sha256,
                "partitionValues": {},
                "size": file.size_bytes,
                "stats": stats,
                "expirationTimestamp": until,
            }
        }


def _lines(version: Version, asked: _Capabilities, lines: list[Line]) -> Response:
    body = "".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines)
    return Response(
        body.encode(),
        headers={
            "content-type": "application/x-ndjson; charset=utf-8",
            "delta-table-version": str(version.number),
            "delta-sharing-capabilities": asked.header,
            "cache-control": "private, no-store",
        },
    )


def _page(request: Request, items: list[T]) -> Response:
    """One page of a list. A token opens one table, so a second page is only ever asked for by whoever wants no items."""
    text = request.query_params.get("maxResults")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal("REQUEST_INVALID", "maxResults: is a number from 0.", field="maxResults")
    size = int(text) if text is not None else 500
    position = paging.decode(request.url.path, request.query_params.get("pageToken", ""), int)
    start = int(str(position[0])) if position else 0
    shown = items[start : start + size]
    answer: dict[str, object] = {"items": shown}
    if start + len(shown) < len(items):
        answer["nextPageToken"] = paging.encode(request.url.path, start + len(shown))
    return JSONResponse(answer, headers={"cache-control": "private, no-store"})


def _until(files: tuple[DataFile, ...], limit: int | None) -> tuple[DataFile, ...]:
    """As many files as it takes to hold `limit` rows; the client cuts the rest off."""
    if limit is None:
        return files
    rows, count = 0, 0
    while count < len(files) and rows < limit:
        rows += files[count].row_count
        count += 1
    return files[:count]


async def _body(request: Request) -> dict[str, Any]:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_QUERY_BYTES:
            raise Refusal("REQUEST_TOO_LARGE", f"A query has at most {MAX_QUERY_BYTES} bytes.", Kind.TOO_LARGE)
    try:
        body = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refusal("REQUEST_INVALID", "The query is not a JSON object.")
    return body


def _version(values: dict[str, Any]) -> int | None:
    value = values.get("version")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        values["version"] = int(value)
    return _whole(values, "version")


def _whole(values: dict[str, Any], name: str) -> int | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if type(value) is not int or not 0 <= value < 2**63:
        raise Refusal("REQUEST_INVALID", f"{name}: is a whole number.", field=name)
    return value


def _unsupported(name: str) -> Refusal:
    if name in ("startingVersion", "endingVersion"):
        return Refusal("UNSUPPORTED_CHANGES", f"{name} asks for changes between versions; here versions are whole.")
    return Refusal("UNSUPPORTED_TIME_TRAVEL", f"{name} is not understood; ask for a version by its number.")


def _id(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name))
