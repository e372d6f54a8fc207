"""The gateway's RPCs, for stewards: each told as load, decide, save, announce, reply. Buyers come in by the doors."""

from __future__ import annotations

import asyncio
from typing import Any

from data_gateway.contributions import Contributions
from data_gateway.domain.stewards import is_steward
from data_gateway.domain.versions import cut_sample, exposed_member_column
from data_gateway.intake import Intake
from data_gateway.storage import Storage
from data_gateway.store import ingestions, versions
from data_gateway.store.ingestions import Ingestion
from rochdale.catalog.v1 import catalog_pb2
from rochdale.data_gateway.v1 import data_gateway_pb2 as pb
from rochdale.data_gateway.v1 import data_gateway_pb2_grpc, events_pb2
from rochdale.identity.v1 import identity_pb2
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.database import Database, first_answer, remember
from rochdale_kit.identity import caller, roles
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal, not_found

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["DataGatewayService"]
# Everybody gets as far as the method, where whoever is no steward of this cooperative is told that nothing is here:
# not even which calls there are for others.
_EVERY_ROLE = roles(
    identity_pb2.ROLE_OPERATOR,
    identity_pb2.ROLE_STEWARD,
    identity_pb2.ROLE_MEMBER,
    identity_pb2.ROLE_BUYER,
    identity_pb2.ROLE_GATEWAY,
)
ACCESS = {method.name: _EVERY_ROLE for method in DESCRIPTOR.methods}
_LIST = "ingestions"

Context = Any  # grpc.aio.ServicerContext, which no RPC of ours looks at


class DataGatewayService(data_gateway_pb2_grpc.DataGatewayServiceServicer):
    """Ingestions, from the announcement of a file to the approval of a version."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        intake: Intake,
        contributions: Contributions,
        cooperative: str,
        public_url: str,
    ) -> None:
        self._contributions = contributions
        self._database = database
        self._storage = storage
        self._intake = intake
        self._cooperative = cooperative
        self._public_url = public_url.rstrip("/")

    async def StartIngestion(self, request: pb.StartIngestionRequest, context: Context) -> pb.Ingestion:
        self._require_steward(request.dataset)
        if not request.dataset.startswith(f"cooperatives/{self._cooperative}/"):
            raise not_found(request.dataset)
        free = self._storage.free_bytes()
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, self._cooperative, request, pb.Ingestion):
                return earlier
            if request.size_bytes > free:
                raise Refusal(
                    "FILE_TOO_LARGE",
                    f"The file has {request.size_bytes} bytes and the gateway has room for {free}.",
                    Kind.TOO_LARGE,
                    size_bytes=request.size_bytes,
                    free_bytes=free,
                )
            row = await ingestions.insert(connection, new_id("ing"), request, now())
            return await remember(connection, self._cooperative, request, self._reply(row))

    async def GetIngestion(self, request: pb.GetIngestionRequest, context: Context) -> pb.Ingestion:
        self._require_steward(request.name)
        async with self._database.read() as connection:
            row = await ingestions.get(connection, _id(request.name))
        if row is None:
            raise not_found(request.name)
        return self._reply(row)

    async def ListIngestions(self, request: pb.ListIngestionsRequest, context: Context) -> pb.ListIngestionsResponse:
        self._require_steward(_LIST)
        size = paging.size(request.page_size)
        position = paging.decode(_LIST, request.page_token, str)
        async with self._database.read() as connection:
            rows = await ingestions.newest(connection, str(position[0]) if position else None, size + 1)
        shown, token = paging.page(_LIST, rows, size, lambda row: (row.id,))
        replies = [self._reply(row) for row in shown]
        for reply in replies:
            if reply.HasField("version"):
                reply.version.ClearField("files")
                reply.version.ClearField("sample_json")
        return pb.ListIngestionsResponse(ingestions=replies, next_page_token=token)

    async def ApproveVersion(self, request: pb.ApproveVersionRequest, context: Context) -> pb.Ingestion:
        self._require_steward(request.name)
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, self._cooperative, request, pb.Ingestion):
                return earlier
            row = await ingestions.get(connection, _id(request.name), lock=True)
            if row is None:
                raise not_found(request.name)
            if row.state != pb.INGESTION_STATE_AWAITING_APPROVAL or row.version is None or row.delta_schema is None:
                raise _not_ready(row)
            sample = cut_sample(row.version, request.sample_columns, request.withhold_sample)

            approved = catalog_pb2.Version()
            approved.CopyFrom(row.version)
            approved.number = await versions.next_number(connection, row.dataset)
            # Asked again under the lock of the number: the version that names members may have been approved meanwhile.
            hidden = await versions.member_columns(connection, row.dataset)
            if (column := exposed_member_column(row.version, hidden)) is not None:
                raise Refusal(
                    "MEMBER_COLUMN_EXPOSED",
                    f"Column {column!r} names members in an earlier version of {row.dataset} and would show them here.",
                    Kind.STATE,
                    column=column,
                    dataset=row.dataset,
                )
            approved.name = f"{row.dataset}/versions/{approved.number}"
            approved.sample_json = sample
            version = versions.Version(row.dataset, approved.number, row.id, approved, row.delta_schema)
            await versions.insert_version(connection, version, now())
            row = await ingestions.approve(connection, row.id, approved)
            await announce(connection, events_pb2.VersionPrepared(dataset=row.dataset, version=approved))
            reply = await remember(connection, self._cooperative, request, self._reply(row))
        self._contributions.wake()
        return reply

    async def RejectVersion(self, request: pb.RejectVersionRequest, context: Context) -> pb.Ingestion:
        self._require_steward(request.name)
        async with self._database.begin() as connection:
            row = await ingestions.get(connection, _id(request.name), lock=True)
            if row is None:
                raise not_found(request.name)
            if row.state == pb.INGESTION_STATE_FAILED:
                return self._reply(row)
            if row.state != pb.INGESTION_STATE_AWAITING_APPROVAL:
                raise _not_ready(row)
            row = await ingestions.fail(connection, row.id, "VERSION_REJECTED", "A steward rejected the version.")
        # After the commit; if we end before it is done, the next start finds it.
        await asyncio.to_thread(self._storage.discard, row.id)
        return self._reply(row)

    def _require_steward(self, name: str) -> None:
        if not is_steward(caller(), self._cooperative):
            raise not_found(name)

    def _reply(self, row: Ingestion) -> pb.Ingestion:
        uploading = row.state == pb.INGESTION_STATE_UPLOADING
        return pb.Ingestion(
            name=f"ingestions/{row.id}",
            dataset=row.dataset,
            state=row.state,  # type: ignore[arg-type] # the enum's int, as it is stored
            size_bytes=row.size_bytes,
            received_bytes=self._storage.received_bytes(row.id) if uploading else row.size_bytes,
            processed_bytes=row.processed_bytes,
            row_count=row.row_count,
            rejected_row_count=row.rejected_row_count,
            upload_url=f"{self._public_url}/v1/ingestions/{row.id}/content",
            failure_reason=row.failure_reason,
            failure_message=row.failure_message,
            version=row.version,
            create_time=to_timestamp(row.create_time),
        )


def _id(name: str) -> str:
    return name.removeprefix("ingestions/")


def _not_ready(row: Ingestion) -> Refusal:
    state = pb.IngestionState.Name(row.state).removeprefix("INGESTION_STATE_")  # type: ignore[arg-type]
    return Refusal(
        "INGESTION_NOT_READY",
        f"ingestions/{row.id} is {state} and can be approved or rejected only while it is AWAITING_APPROVAL.",
        Kind.STATE,
        name=f"ingestions/{row.id}",
        state=state,
    )
