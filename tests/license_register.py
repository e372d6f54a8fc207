"""A licensing over real gRPC that answers from a register in memory, as the contract says. It decides nothing."""

from __future__ import annotations

from typing import Any

import grpc

from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.licensing.v1 import licensing_pb2_grpc
from rochdale_kit.refusals import not_found


class Register(licensing_pb2_grpc.LicensingServiceServicer):
    """What the storefront reads of licenses."""

    def __init__(self) -> None:
        self.licenses: dict[str, pb.License] = {}
        self.address = ""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server()
        licensing_pb2_grpc.add_LicensingServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    async def GetLicense(self, request: pb.GetLicenseRequest, context: Any) -> pb.License:
        if request.name not in self.licenses:
            await context.abort_with_status(not_found(request.name).status())
        return self.licenses[request.name]

    async def ListLicenses(self, request: pb.ListLicensesRequest, context: Any) -> pb.ListLicensesResponse:
        return pb.ListLicensesResponse(licenses=self.licenses.values())
