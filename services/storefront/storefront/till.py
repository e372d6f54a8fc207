"""What the pages of money ask identity, billing and licensing, with the rights of whoever is signed in and no others."""

from __future__ import annotations

from typing import Any

import grpc

from rochdale.billing.v1 import billing_pb2_grpc, dividends_pb2_grpc, treasury_pb2_grpc
from rochdale.identity.v1 import identity_pb2, identity_pb2_grpc
from rochdale.licensing.v1 import licensing_pb2_grpc
from rochdale_kit.channels import OPTIONS, open_channel
from rochdale_kit.refusals import Kind, refusal_of, unavailable
from rochdale_kit.telemetry import traceparent

TIMEOUT_SECONDS = 10.0
# A rail may be asked on the way, a run of a large cooperative worked out, or the books compared.
PATIENT_SECONDS = 120.0
# A file for a bank has about 330 bytes a payment: the 4 MiB that gRPC takes by itself end at thirteen thousand members.
_LARGEST_FILE_BYTES = 64 * 1024 * 1024


class Till:
    """Every method answers with contract messages or raises the Refusal a service gave."""

    def __init__(self, identity_address: str, billing_address: str, licensing_address: str) -> None:
        self._channels = {
            "Identity": open_channel(identity_address),
            "Billing": grpc.aio.insecure_channel(
                billing_address, options=[*OPTIONS, ("grpc.max_receive_message_length", _LARGEST_FILE_BYTES)]
            ),
            "Licensing": open_channel(licensing_address),
        }
        # Any, because the generated stubs are typed for blocking calls.
        self._identity: Any = identity_pb2_grpc.IdentityServiceStub(self._channels["Identity"])
        self._billing: Any = billing_pb2_grpc.BillingServiceStub(self._channels["Billing"])
        self._treasury: Any = treasury_pb2_grpc.TreasuryServiceStub(self._channels["Billing"])
        self._dividends: Any = dividends_pb2_grpc.DividendServiceStub(self._channels["Billing"])
        self._licensing: Any = licensing_pb2_grpc.LicensingServiceStub(self._channels["Licensing"])

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def issue_session(self, secret: str) -> identity_pb2.Session:
        """A session for an API key. Refuses as identity does."""
        request = identity_pb2.IssueSessionRequest(secret=secret)
        session: identity_pb2.Session = await self._ask("Identity", self._identity.IssueSession, request, "")
        return session

    async def billing(self, token: str, method: str, request: Any, patient: bool = False) -> Any:
        """One RPC of BillingService."""
        return await self._ask("Billing", getattr(self._billing, method), request, token, patient)

    async def treasury(self, token: str, method: str, request: Any, patient: bool = False) -> Any:
        """One RPC of TreasuryService."""
        return await self._ask("Billing", getattr(self._treasury, method), request, token, patient)

    async def dividends(self, token: str, method: str, request: Any, patient: bool = False) -> Any:
        """One RPC of DividendService."""
        return await self._ask("Billing", getattr(self._dividends, method), request, token, patient)

    async def licensing(self, token: str, method: str, request: Any) -> Any:
        """One RPC of LicensingService."""
        return await self._ask("Licensing", getattr(self._licensing, method), request, token)

    async def _ask(self, service: str, call: Any, request: Any, token: str, patient: bool = False) -> Any:
        context = traceparent()
        metadata = [("authorization", f"Bearer {token}")] if token else []
        if context:
            metadata.append(("traceparent", context))
        try:
            return await call(
                request, timeout=PATIENT_SECONDS if patient else TIMEOUT_SECONDS, metadata=metadata or None
            )
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            if refusal.kind is Kind.UNAVAILABLE and refusal.reason == "SERVICE_UNAVAILABLE":
                # Named here, because a broken connection does not say whose it was; a rail that is away names itself.
                refusal = unavailable(service)
            raise refusal from None
