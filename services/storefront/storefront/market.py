"""What the pages ask the market: the catalog and governance over gRPC, as anybody, with no session of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rochdale.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from rochdale.governance.v1 import governance_pb2, governance_pb2_grpc, proposals_pb2, proposals_pb2_grpc
from rochdale_kit.channels import open_channel
from rochdale_kit.refusals import Kind, Refusal, refusal_of, unavailable
from rochdale_kit.signing import KeySet
from rochdale_kit.telemetry import traceparent

TIMEOUT_SECONDS = 5.0
# A page shows this many datasets of an offering in full, and versions of each; the rest is counted.
MOST_DATASETS = 10
MOST_VERSIONS = 20
MOST_BOARD_LINES = 100


@dataclass(frozen=True)
class DatasetDetails:
    """A dataset in an offering, its latest versions, and the newest one that is on offer."""

    dataset: catalog_pb2.Dataset
    versions: Sequence[catalog_pb2.Version]
    more_versions: bool
    offered: catalog_pb2.Version | None


class Market:
    """Every method answers with contract messages or raises the Refusal a service gave."""

    def __init__(self, catalog_address: str, governance_address: str) -> None:
        self._channels = [open_channel(address) for address in (catalog_address, governance_address)]
        self._health = health_pb2_grpc.HealthStub(self._channels[0])
        # Any, because the generated stubs are typed for blocking calls.
        self._catalog: Any = catalog_pb2_grpc.CatalogServiceStub(self._channels[0])
        self._governance: Any = governance_pb2_grpc.GovernanceServiceStub(self._channels[1])
        self._proposals: Any = proposals_pb2_grpc.ProposalServiceStub(self._channels[1])

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def check(self) -> None:
        """Raises unless the catalog says that it can do its work: without it no page has anything to show."""
        answer = await self._ask("The catalog", self._health.Check, health_pb2.HealthCheckRequest())
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise unavailable("The catalog")

    async def search(self, request: catalog_pb2.SearchOfferingsRequest) -> catalog_pb2.SearchOfferingsResponse:
        found: catalog_pb2.SearchOfferingsResponse = await self._ask_catalog(self._catalog.SearchOfferings, request)
        return found

    async def offering(self, name: str) -> catalog_pb2.Offering:
        offering: catalog_pb2.Offering = await self._ask_catalog(
            self._catalog.GetOffering, catalog_pb2.GetOfferingRequest(name=name)
        )
        return offering

    async def offerings(self, cooperative: str, page_token: str) -> catalog_pb2.ListOfferingsResponse:
        page: catalog_pb2.ListOfferingsResponse = await self._ask_catalog(
            self._catalog.ListOfferings,
            catalog_pb2.ListOfferingsRequest(parent=cooperative, page_size=20, page_token=page_token),
        )
        return page

    async def cooperative(self, name: str) -> governance_pb2.Cooperative:
        cooperative: governance_pb2.Cooperative = await self._ask_governance(
            self._governance.GetCooperative, governance_pb2.GetCooperativeRequest(name=name)
        )
        return cooperative

    async def rules(self, cooperative: str, page_token: str) -> governance_pb2.ListSharingRulesResponse:
        page: governance_pb2.ListSharingRulesResponse = await self._ask_governance(
            self._governance.ListSharingRules,
            governance_pb2.ListSharingRulesRequest(parent=cooperative, page_size=20, page_token=page_token),
        )
        return page

    async def proposals(self, cooperative: str, page_token: str, size: int) -> proposals_pb2.ListProposalsResponse:
        """The public ones, newest first."""
        page: proposals_pb2.ListProposalsResponse = await self._ask_governance(
            self._proposals.ListProposals,
            proposals_pb2.ListProposalsRequest(parent=cooperative, page_size=size, page_token=page_token),
        )
        return page

    async def proposal(self, name: str) -> proposals_pb2.Proposal:
        found: proposals_pb2.Proposal = await self._ask_governance(
            self._proposals.GetProposal, proposals_pb2.GetProposalRequest(name=name)
        )
        return found

    async def board(self, proposal: str, page_token: str) -> proposals_pb2.ListBoardResponse:
        page: proposals_pb2.ListBoardResponse = await self._ask_governance(
            self._proposals.ListBoard,
            proposals_pb2.ListBoardRequest(parent=proposal, page_size=MOST_BOARD_LINES, page_token=page_token),
        )
        return page

    async def governance_keys(self) -> KeySet:
        """The keys that sign tallies."""
        found = await self._ask_governance(self._governance.GetKeySet, governance_pb2.GetKeySetRequest())
        return KeySet.from_jwks(found.jwks_json)

    async def datasets(self, offering: catalog_pb2.Offering) -> list[DatasetDetails]:
        """What an offering is about, in its order; at most MOST_DATASETS."""
        parts = offering.scope.datasets[:MOST_DATASETS]
        return list(await asyncio.gather(*(self._dataset(part.dataset, part.last_version) for part in parts)))

    async def _dataset(self, name: str, last_version: int) -> DatasetDetails:
        dataset, page = await asyncio.gather(
            self._ask_catalog(self._catalog.GetDataset, catalog_pb2.GetDatasetRequest(name=name)),
            self._ask_catalog(
                self._catalog.ListVersions, catalog_pb2.ListVersionsRequest(parent=name, page_size=MOST_VERSIONS)
            ),
        )
        number = min(last_version or dataset.latest_version, dataset.latest_version)
        offered = None
        if number:
            version = catalog_pb2.GetVersionRequest(name=f"{name}/versions/{number}")
            offered = await _or_nothing(self._ask_catalog(self._catalog.GetVersion, version))
        return DatasetDetails(dataset, page.versions, bool(page.next_page_token), offered)

    async def rules_of(self, offering: catalog_pb2.Offering) -> dict[tuple[str, int], governance_pb2.SharingRule]:
        """The revisions an offering's tiers stand on; one that cannot be had now is left out."""
        wanted = list(
            dict.fromkeys(
                zip((tier.sharing_rule for tier in offering.tiers), offering.rule_revisions, strict=False),
            )
        )
        rules = await asyncio.gather(
            *(
                _or_nothing(
                    self._ask_governance(
                        self._governance.GetSharingRule,
                        governance_pb2.GetSharingRuleRequest(name=name, revision=revision),
                    )
                )
                for name, revision in wanted
            )
        )
        return {key: rule for key, rule in zip(wanted, rules, strict=True) if rule is not None}

    async def cooperative_of(self, offering: catalog_pb2.Offering) -> governance_pb2.Cooperative | None:
        """The cooperative behind an offering; None while governance is away."""
        name = "/".join(offering.name.split("/")[:2])
        found: governance_pb2.Cooperative | None = await _or_nothing(self.cooperative(name))
        return found

    async def _ask_catalog(self, call: Any, request: Any) -> Any:
        return await self._ask("The catalog", call, request)

    async def _ask_governance(self, call: Any, request: Any) -> Any:
        return await self._ask("Governance", call, request)

    async def _ask(self, service: str, call: Any, request: Any) -> Any:
        context = traceparent()
        try:
            return await call(
                request, timeout=TIMEOUT_SECONDS, metadata=(("traceparent", context),) if context else None
            )
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            # Named here, because a broken connection does not say whose it was.
            raise (unavailable(service) if refusal.kind is Kind.UNAVAILABLE else refusal) from None


async def _or_nothing(answer: Any) -> Any:
    """None for what does not exist or cannot be reached now; the page then says so in its place."""
    try:
        return await answer
    except Refusal as refusal:
        if refusal.kind not in (Kind.NOT_FOUND, Kind.UNAVAILABLE):
            raise
        return None
