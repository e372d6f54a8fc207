"""The broker as this gateway calls it, with its own session. What it signs is checked elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc

from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import access_broker_pb2_grpc
from rochdale_kit.channels import open_channel
from rochdale_kit.identity import Credentials

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
REGISTER_SECONDS = 60.0


class Broker:
    """Every method raises AioRpcError when the broker, or identity for the session, refuses or cannot be reached."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._channel = open_channel(address)
        self._stub = access_broker_pb2_grpc.AccessBrokerServiceStub(self._channel)
        self._credentials = credentials

    async def register(self, public_url: str, control_address: str) -> None:
        request = pb.RegisterGatewayRequest(public_url=public_url, control_address=control_address)
        await self._stub.RegisterGateway(request, timeout=TIMEOUT_SECONDS, metadata=await self._credentials.metadata())

    async def revocations(self, after_sequence: int) -> pb.ListRevocationsResponse:
        request = pb.ListRevocationsRequest(after_sequence=after_sequence)
        reply: pb.ListRevocationsResponse = await self._stub.ListRevocations(
            request, timeout=TIMEOUT_SECONDS, metadata=await self._credentials.metadata()
        )
        return reply

    async def chains(self) -> AsyncIterator[pb.GrantChain]:
        """Those of every open grant of this gateway."""
        token = ""
        while True:
            reply = await self._stub.ListGrantChains(
                pb.ListGrantChainsRequest(page_token=token),
                timeout=TIMEOUT_SECONDS,
                metadata=await self._credentials.metadata(),
            )
            for chain in reply.chains:
                yield chain
            token = reply.next_page_token
            if not token:
                return

    async def key_set(self) -> str:
        reply: pb.KeySet = await self._stub.GetKeySet(pb.GetKeySetRequest(), timeout=TIMEOUT_SECONDS)
        return reply.jwks_json

    async def close(self) -> None:
        await self._channel.close()


class Registration:
    """Says where this gateway is, at the start and each minute. Until the broker knows it, it sends no heartbeats."""

    def __init__(self, broker: Broker, public_url: str) -> None:
        self._broker = broker
        self._public_url = public_url

    async def run(self, control_address: str) -> None:
        """Until canceled. control_address: where stewards reach our gRPC, known once it listens."""
        failures = 0
        while True:
            try:
                await self._broker.register(self._public_url, control_address)
                failures = 0
            except grpc.aio.AioRpcError as error:
                failures += 1
                log.warning("the broker does not take the registration: %s", error.code().name)
            await asyncio.sleep(min(0.25 * 2**failures, 5.0) if failures else REGISTER_SECONDS)
