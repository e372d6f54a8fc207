"""Where the broker asks what a license cites: governance for the rule, the catalog for the offering."""

from __future__ import annotations

import grpc

from rochdale.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from rochdale.governance.v1 import governance_pb2, governance_pb2_grpc
from rochdale_kit.channels import open_channel
from rochdale_kit.refusals import unavailable

TIMEOUT_SECONDS = 5.0
# A name they do not know, or one that cannot be a name: either way there is nothing behind it.
_UNKNOWN = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


class Sources:
    """Both answer anybody, so the broker needs no key. None means it does not exist; any other trouble refuses with
    SERVICE_UNAVAILABLE, because a license must not be called void for an outage."""

    def __init__(self, governance_address: str, catalog_address: str) -> None:
        self._channels = [open_channel(address) for address in (governance_address, catalog_address)]
        self._governance = governance_pb2_grpc.GovernanceServiceStub(self._channels[0])
        self._catalog = catalog_pb2_grpc.CatalogServiceStub(self._channels[1])

    async def sharing_rule(self, name: str, revision: int) -> governance_pb2.SharingRule | None:
        if revision < 1:
            # 0 would ask for the latest, which is not what anybody agreed on.
            return None
        request = governance_pb2.GetSharingRuleRequest(name=name, revision=revision)
        try:
            rule: governance_pb2.SharingRule = await self._governance.GetSharingRule(request, timeout=TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() in _UNKNOWN:
                return None
            raise unavailable("Governance") from error
        return rule

    async def offering(self, name: str) -> catalog_pb2.Offering | None:
        request = catalog_pb2.GetOfferingRequest(name=name)
        try:
            offering: catalog_pb2.Offering = await self._catalog.GetOffering(request, timeout=TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() in _UNKNOWN:
                return None
            raise unavailable("The catalog") from error
        return offering

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()
