"""A governance over real gRPC that answers from what a test put there, as the contract says. It decides and counts nothing."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import grpc

from rochdale.governance.v1 import governance_pb2 as pb
from rochdale.governance.v1 import governance_pb2_grpc, proposals_pb2, proposals_pb2_grpc
from rochdale_kit import paging
from rochdale_kit.boundary import validate
from rochdale_kit.refusals import Refusal, not_found
from rochdale_kit.signing import SigningKey

T = TypeVar("T")


class Hall(governance_pb2_grpc.GovernanceServiceServicer, proposals_pb2_grpc.ProposalServiceServicer):
    """What anybody may read; every request is held against the contract first."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.cooperatives: dict[str, pb.Cooperative] = {}
        self.rules: dict[str, pb.SharingRule] = {}
        self.proposals: dict[str, proposals_pb2.Proposal] = {}
        self.boards: dict[str, list[proposals_pb2.BoardEntry]] = {}
        self.address = ""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        governance_pb2_grpc.add_GovernanceServiceServicer_to_server(self, self._server)
        proposals_pb2_grpc.add_ProposalServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    async def GetCooperative(self, request: pb.GetCooperativeRequest, context: Any) -> pb.Cooperative:
        return await self._get(self.cooperatives, request, context)

    async def GetSharingRule(self, request: pb.GetSharingRuleRequest, context: Any) -> pb.SharingRule:
        return await self._get(self.rules, request, context)

    async def GetProposal(self, request: proposals_pb2.GetProposalRequest, context: Any) -> proposals_pb2.Proposal:
        return await self._get(self.proposals, request, context)

    async def GetKeySet(self, request: pb.GetKeySetRequest, context: Any) -> pb.KeySet:
        return pb.KeySet(jwks_json=json.dumps({"keys": [self.key.public_jwk()]}))

    async def ListSharingRules(self, request: pb.ListSharingRulesRequest, context: Any) -> pb.ListSharingRulesResponse:
        found, following = await self._page(self.rules, request, context)
        return pb.ListSharingRulesResponse(sharing_rules=found, next_page_token=following)

    async def ListProposals(
        self, request: proposals_pb2.ListProposalsRequest, context: Any
    ) -> proposals_pb2.ListProposalsResponse:
        found, following = await self._page(self.proposals, request, context)
        return proposals_pb2.ListProposalsResponse(proposals=found, next_page_token=following)

    async def ListBoard(self, request: proposals_pb2.ListBoardRequest, context: Any) -> proposals_pb2.ListBoardResponse:
        lines = {f"{request.parent}/{line.sequence:09}": line for line in self.boards.get(request.parent, [])}
        found, following = await self._page(lines, request, context)
        return proposals_pb2.ListBoardResponse(entries=found, next_page_token=following)

    async def _page(self, things: dict[str, T], request: Any, context: Any) -> tuple[list[T], str]:
        try:
            validate(request)
            start = paging.decode("hall", request.page_token, int) or [0]
        except Refusal as refusal:
            await context.abort_with_status(refusal.status())
        below = [one for name, one in things.items() if name.startswith(f"{request.parent}/")]
        first, size = int(str(start[0])), request.page_size or 50
        following = paging.encode("hall", first + size) if len(below) > first + size else ""
        return below[first : first + size], following

    async def _get(self, things: dict[str, T], request: Any, context: Any) -> T:
        try:
            validate(request)
            if request.name not in things:
                raise not_found(request.name)
        except Refusal as refusal:
            await context.abort_with_status(refusal.status())
        return things[request.name]
