"""Where the broker asks what a license cites: governance for keys and rules, the catalog for the offering, licensing for
the keys that sign licenses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import grpc

from rochdale.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from rochdale.governance.v1 import governance_pb2, governance_pb2_grpc
from rochdale.licensing.v1 import licensing_pb2, licensing_pb2_grpc
from rochdale_kit.channels import open_channel
from rochdale_kit.refusals import Refusal, unavailable
from rochdale_kit.signing import KeySet

T = TypeVar("T")

TIMEOUT_SECONDS = 5.0
# A name they do not know, or one that cannot be a name: either way there is nothing behind it.
_UNKNOWN = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


class Sources:
    """All answer anybody, so the broker needs no key. None or nothing means it does not exist; any other trouble refuses
    with SERVICE_UNAVAILABLE, because a license must not be called void for an outage."""

    def __init__(self, governance_address: str, catalog_address: str, licensing_address: str) -> None:
        self._channels = [open_channel(one) for one in (governance_address, catalog_address, licensing_address)]
        self._governance = governance_pb2_grpc.GovernanceServiceStub(self._channels[0])
        self._catalog = catalog_pb2_grpc.CatalogServiceStub(self._channels[1])
        self._licensing = licensing_pb2_grpc.LicensingServiceStub(self._channels[2])

    async def sharing_rule(self, name: str, revision: int) -> governance_pb2.SharingRule | None:
        if revision < 1:
            # 0 would ask for the latest, which is not what anybody agreed on.
            return None
        request = governance_pb2.GetSharingRuleRequest(name=name, revision=revision)
        rule: governance_pb2.SharingRule | None = await _ask(self._governance.GetSharingRule, request, "Governance")
        return rule

    async def offering(self, name: str) -> catalog_pb2.Offering | None:
        request = catalog_pb2.GetOfferingRequest(name=name)
        offering: catalog_pb2.Offering | None = await _ask(self._catalog.GetOffering, request, "The catalog")
        return offering

    async def cooperative_keys(self, name: str) -> list[governance_pb2.CooperativeKey]:
        """First to latest, as governance shows them; whether they are a line is not checked here."""
        request = governance_pb2.GetCooperativeRequest(name=name)
        cooperative = await _ask(self._governance.GetCooperative, request, "Governance")
        return [] if cooperative is None else list(cooperative.signing_keys)

    async def denials(self, cooperative: str) -> list[governance_pb2.SharingRule]:
        """Everything that was ever forbidden, ended or not."""
        request = governance_pb2.ListSharingRulesRequest(parent=cooperative)
        found: list[governance_pb2.SharingRule] = []
        while True:
            page = await _ask(self._governance.ListSharingRules, request, "Governance")
            if page is None:
                return found
            found += [rule for rule in page.sharing_rules if rule.effect == governance_pb2.RULE_EFFECT_DENY]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def licensing_keys(self) -> KeySet:
        keys = await _ask(self._licensing.GetKeySet, licensing_pb2.GetKeySetRequest(), "Licensing")
        return KeySet({}) if keys is None else KeySet.from_jwks(keys.jwks_json)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


async def _ask(call: Callable[..., Awaitable[Any]], request: object, whom: str) -> Any:
    try:
        return await call(request, timeout=TIMEOUT_SECONDS)
    except grpc.aio.AioRpcError as error:
        if error.code() in _UNKNOWN:
            return None
        raise unavailable(whom) from error


class Memory:
    """The same questions, each asked once in a run: a thousand licenses may stand on one rule. Who did not answer is not
    asked again either."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._known: dict[Hashable, Any] = {}

    async def sharing_rule(self, name: str, revision: int) -> governance_pb2.SharingRule | None:
        return await self._once((name, revision), lambda: self._sources.sharing_rule(name, revision))

    async def offering(self, name: str) -> catalog_pb2.Offering | None:
        return await self._once(name, lambda: self._sources.offering(name))

    async def cooperative_keys(self, name: str) -> list[governance_pb2.CooperativeKey]:
        return await self._once(("keys", name), lambda: self._sources.cooperative_keys(name))

    async def denials(self, cooperative: str) -> list[governance_pb2.SharingRule]:
        return await self._once(("denials", cooperative), lambda: self._sources.denials(cooperative))

    async def licensing_keys(self) -> KeySet:
        return await self._once("licensing", self._sources.licensing_keys)

    async def _once(self, question: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        if question not in self._known:
            try:
                self._known[question] = await ask()
            except Refusal as refusal:
                self._known[question] = refusal
        answer = self._known[question]
        if isinstance(answer, Refusal):
            raise answer
        known: T = answer
        return known


Asked = Sources | Memory
