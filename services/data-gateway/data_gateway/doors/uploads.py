"""The door through which a steward's file comes in: streamed to disk, resumed where it stopped. Reading it: elsewhere."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from data_gateway.domain.ranges import content_range
from data_gateway.domain.stewards import is_steward
from data_gateway.doors.answers import refuse
from data_gateway.intake import Intake
from data_gateway.storage import Storage, sync
from data_gateway.store import ingestions
from data_gateway.store.ingestions import Ingestion
from rochdale.data_gateway.v1 import data_gateway_pb2 as pb
from rochdale_kit.database import Database
from rochdale_kit.identity import Role, Sessions, authorize, bearer, roles
from rochdale_kit.refusals import Kind, Refusal, not_found

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
_ANY_ROLE = roles(*Role.values())
_FULL = (errno.ENOSPC, errno.EDQUOT)


class UploadDoor:
    def __init__(
        self, database: Database, storage: Storage, intake: Intake, sessions: Sessions, cooperative: str
    ) -> None:
        self._database = database
        self._storage = storage
        self._intake = intake
        self._sessions = sessions
        self._cooperative = cooperative
        # Uploads under way, one each: whoever asks where to go on, or goes on, ends the one before it.
        self._receiving: dict[str, asyncio.Task[int]] = {}

    async def head(self, request: Request) -> Response:
        """Answers where to go on. Ends an upload under way, which else would move the answer; its sender is gone, or has
        no business asking."""
        row = await self._mine(request)
        await self._end_receiving(row.id)
        row = await self._complete(row)
        return Response(headers={"upload-offset": str(self._received(row)), "cache-control": "no-store"})

    async def put(self, request: Request) -> Response:
        """Takes bytes from Upload-Offset on. Refuses with UPLOAD_CLOSED, UPLOAD_OFFSET_WRONG (with the right one),
        CONTENT_RANGE_INVALID, UPLOAD_TOO_LARGE, STORAGE_FULL, UPLOAD_SUPERSEDED, UPLOAD_CORRUPT."""
        row = await self._mine(request)
        if row.state != pb.INGESTION_STATE_UPLOADING:
            raise _closed(row)
        await self._end_receiving(row.id)
        offset = self._storage.received_bytes(row.id)
        first, end = _asked(request, row.size_bytes)
        if first != offset:
            refusal = Refusal(
                "UPLOAD_OFFSET_WRONG",
                f"The gateway has {offset} bytes; go on from there, not from {first}.",
                Kind.STATE,
                upload_offset=offset,
                first=first,
            )
            return refuse(refusal, **{"upload-offset": str(offset)})
        if end - offset > self._storage.free_bytes():
            raise self._full(row)
        task = asyncio.create_task(self._receive(request, self._storage.upload(row.id), offset, end))
        self._receiving[row.id] = task
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            if self._receiving.get(row.id) is task:
                del self._receiving[row.id]
        if task.cancelled():
            raise Refusal("UPLOAD_SUPERSEDED", "Another upload of the same file took over.", Kind.STATE)
        try:
            task.result()
        except ClientDisconnect:
            log.info("upload of %s stopped at %d bytes", row.id, self._storage.received_bytes(row.id))
            raise Refusal("UPLOAD_INTERRUPTED", "The connection ended before the file did.") from None
        except OSError as error:
            if error.errno in _FULL:
                raise self._full(row) from None
            raise
        row = await self._complete(row)
        return JSONResponse(
            {
                "received_bytes": self._received(row),
                "state": pb.IngestionState.Name(row.state),  # type: ignore[arg-type]
            }
        )

    async def _mine(self, request: Request) -> Ingestion:
        """The ingestion, for a steward of this cooperative; for everybody else there is none."""
        token = bearer(request.headers.getlist("authorization"))
        principal = await self._sessions.principal(token) if token is not None else None
        authorize(_ANY_ROLE, principal, "upload")
        name = f"ingestions/{request.path_params['ingestion']}"
        if principal is None or not is_steward(principal, self._cooperative):
            raise not_found(name)
        async with self._database.read() as connection:
            row = await ingestions.get(connection, request.path_params["ingestion"])
        if row is None:
            raise not_found(name)
        return row

    def _received(self, row: Ingestion) -> int:
        uploading = row.state == pb.INGESTION_STATE_UPLOADING
        return self._storage.received_bytes(row.id) if uploading else row.size_bytes

    async def _end_receiving(self, ingestion: str) -> None:
        while (task := self._receiving.get(ingestion)) is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])

    async def _receive(self, request: Request, path: Path, offset: int, end: int) -> int:
        """Appends the body, at most up to `end`, and makes it durable whatever ends it."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        pending = bytearray()
        try:
            try:
                async for chunk in request.stream():
                    if offset + len(pending) + len(chunk) > end:
                        raise Refusal(
                            "UPLOAD_TOO_LARGE", f"More bytes came than the {end} announced.", Kind.TOO_LARGE, end=end
                        )
                    pending += chunk
                    if len(pending) >= PIECE_BYTES:
                        piece, pending = pending, bytearray()
                        await asyncio.to_thread(_write, descriptor, piece, offset)
                        offset += len(piece)
            finally:
                # In the loop, not in a thread: a second cancellation must not leave a thread writing behind the next
                # upload's back. It is one piece at most.
                _write(descriptor, pending, offset)
            offset += len(pending)
            await asyncio.to_thread(os.fsync, descriptor)
            await asyncio.to_thread(sync, path.parent)
            return offset
        finally:
            os.close(descriptor)

    async def _complete(self, row: Ingestion) -> Ingestion:
        """Hands a complete upload to the intake, if its SHA-256 is the announced one; else nothing of it is kept."""
        if row.state != pb.INGESTION_STATE_UPLOADING or self._storage.received_bytes(row.id) != row.size_bytes:
            return row
        sha256 = await asyncio.to_thread(_sha256, self._storage.upload(row.id)) if row.sha256 else ""
        corrupt = sha256 != row.sha256
        message = "The file that arrived is not the one announced: its SHA-256 differs. Nothing of it is kept."
        async with self._database.begin() as connection:
            current = await ingestions.get(connection, row.id, lock=True)
            assert current is not None, "ingestions are never deleted"
            if current.state != pb.INGESTION_STATE_UPLOADING:
                return current
            if corrupt:
                await ingestions.fail(connection, row.id, "UPLOAD_CORRUPT", message)
            else:
                await ingestions.start_processing(connection, row.id)
        if corrupt:
            self._storage.discard_upload(row.id)
            raise Refusal("UPLOAD_CORRUPT", message, sha256=sha256, announced_sha256=row.sha256)
        self._intake.wake()
        async with self._database.read() as connection:
            return await ingestions.get(connection, row.id) or row

    def _full(self, row: Ingestion) -> Refusal:
        missing = row.size_bytes - self._storage.received_bytes(row.id)
        free = self._storage.free_bytes()
        return Refusal(
            "STORAGE_FULL",
            f"The gateway's disk is full: {missing} bytes are missing and {free} are free. What arrived is kept; go on "
            "when there is room.",
            Kind.TOO_LARGE,
            missing_bytes=missing,
            free_bytes=free,
        )


def _asked(request: Request, size: int) -> tuple[int, int]:
    """The first byte sent, and the one behind the last that may come."""
    header = request.headers.get("content-range")
    first, end = 0, size
    if header is not None:
        found = content_range(header)
        if found is None or found[2] != size:
            raise Refusal(
                "CONTENT_RANGE_INVALID",
                f"Content-Range is not 'bytes first-last/{size}'.",
                content_range=header[:100],
                size_bytes=size,
            )
        first, end = found[0], found[1] + 1
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and first + int(length[:18]) > end:
        raise Refusal("UPLOAD_TOO_LARGE", f"More bytes are sent than the {end} announced.", Kind.TOO_LARGE, end=end)
    return first, end


def _closed(row: Ingestion) -> Refusal:
    state = pb.IngestionState.Name(row.state).removeprefix("INGESTION_STATE_")  # type: ignore[arg-type]
    why = f": {row.failure_message}" if row.failure_message else "."
    return Refusal("UPLOAD_CLOSED", f"ingestions/{row.id} takes no bytes; it is {state}{why}", Kind.STATE, state=state)


def _write(descriptor: int, piece: bytearray, offset: int) -> None:
    view = memoryview(piece)
    while len(view):
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
