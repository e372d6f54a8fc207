"""A catalog over real gRPC that answers from a shelf in memory, as the contract says. No index, no rules, no database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import grpc
import pytest_asyncio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hall import Hall

from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.catalog.v1 import catalog_pb2_grpc
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit import paging
from rochdale_kit.boundary import validate
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.refusals import Refusal, not_found
from rochdale_kit.signing import canonical_hash

T = TypeVar("T")


class Shelf(catalog_pb2_grpc.CatalogServiceServicer):
    """What the storefront reads from a catalog; every request is held against the contract first."""

    def __init__(self) -> None:
        self.datasets: dict[str, pb.Dataset] = {}
        self.versions: dict[str, pb.Version] = {}
        self.offerings: dict[str, pb.Offering] = {}
        self.asked: list[pb.SearchOfferingsRequest] = []
        self.address = ""
        self._server: grpc.aio.Server | None = None
        self.health = health.aio.HealthServicer()

    async def start(self) -> None:
        """Again at the same address, if it was started before."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(self, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        await self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    def put(self, rule: governance_pb2.SharingRule, title: str, description: str = "", **changes: Any) -> pb.Offering:
        """Offers what a rule allows, in two tiers: free for academics, priced for everybody else."""
        cooperative = rule.name.split("/")[1]
        terms = scope.SharingScope()
        terms.CopyFrom(rule.scope)
        priced = [one for one in rule.scope.categories if one != scope.BUYER_CATEGORY_ACADEMIC]
        offering = pb.Offering(
            name=f"cooperatives/{cooperative}/offerings/{new_id('off')}",
            title=title,
            description=description,
            scope=terms,
            tiers=[
                pb.OfferingTier(
                    categories=[scope.BUYER_CATEGORY_ACADEMIC],
                    price=Money(amount_minor=0, currency="EUR"),
                    sharing_rule=rule.name,
                ),
                pb.OfferingTier(
                    categories=priced, price=Money(amount_minor=120_000, currency="EUR"), sharing_rule=rule.name
                ),
            ],
            rule_revisions=[rule.revision] * 2,
            rule_hashes=[rule.rule_hash] * 2,
            state=pb.OFFERING_STATE_OPEN,
            publish_time=to_timestamp(now()),
        )
        offering.offering_hash = canonical_hash(offering, "name", "scope", "tiers", "rule_hashes")
        for name, value in changes.items():
            setattr(offering, name, value)
        self.offerings[offering.name] = offering
        return offering

    def put_dataset(self, name: str, title: str, sample: list[dict[str, Any]]) -> None:
        """A dataset with one published version of four columns."""
        self.datasets[name] = pb.Dataset(
            name=name,
            title=title,
            description="A randomized trial of health insurance.\nSix sites, five years.",
            modality=pb.MODALITY_TABULAR,
            languages=["en"],
            citation="RAND, 1982.",
            latest_version=1,
            create_time=to_timestamp(now()),
        )
        self.versions[f"{name}/versions/1"] = pb.Version(
            name=f"{name}/versions/1",
            number=1,
            columns=[
                pb.Column(name="zper", type="string", missing_permille=0, member_pseudonym=True),
                pb.Column(
                    name="mdvis",
                    type="long",
                    missing_permille=0,
                    statistics_json=json.dumps({"low": 0.0, "high": 49.0, "distinct_at_least": 10}),
                ),
                pb.Column(name="age", type="double", missing_permille=15, statistics_json="{broken"),
                pb.Column(name="site", type="string", missing_permille=-1),
            ],
            row_count=20_190,
            size_bytes=412_345,
            member_count=5_910,
            content_hash="ab" * 32,
            sample_json=json.dumps(sample),
            publish_time=to_timestamp(now()),
        )

    async def SearchOfferings(self, request: pb.SearchOfferingsRequest, context: Any) -> pb.SearchOfferingsResponse:
        try:
            validate(request)
            start = paging.decode("search", request.page_token, int) or [0]
        except Refusal as refusal:
            await context.abort_with_status(refusal.status())
        self.asked.append(request)
        words = request.query.lower().split()
        found = [
            one
            for one in self.offerings.values()
            if one.state == pb.OFFERING_STATE_OPEN
            and all(word in f"{one.title} {one.description}".lower() for word in words)
            and (not request.modes or one.scope.max_mode in request.modes)
        ]
        size, first = request.page_size or 20, int(str(start[0]))
        hits = [
            pb.SearchHit(
                offering=one,
                dataset_title=self.datasets[one.scope.datasets[0].dataset].title,
                cooperative=one.name.split("/")[1].title(),
                modality=pb.MODALITY_TABULAR,
            )
            for one in found[first : first + size]
        ]
        facets = {
            "modality": {"MODALITY_TABULAR": len(found)},
            "mode": {"ACCESS_MODE_DOWNLOAD": len(found)},
            "language": {"en": len(found)},
            "license_terms": {"duty:no-reidentification": len(found), "purpose:AcademicResearch": 1, "new:word": 1},
            "cooperative": {"cooperatives/valley": len(found)},
            "price": {"free": len(found), "100000-999999": 3},
        }
        return pb.SearchOfferingsResponse(
            hits=hits,
            total_count=len(found),
            facets=[
                pb.Facet(name=name, counts=[pb.FacetCount(value=v, count=c) for v, c in facets[name].items()])
                for name in request.facets
                if found
            ],
            next_page_token=paging.encode("search", first + size) if len(found) > first + size else "",
        )

    async def GetOffering(self, request: pb.GetOfferingRequest, context: Any) -> pb.Offering:
        return await self._get(self.offerings, request, context)

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Any) -> pb.Dataset:
        return await self._get(self.datasets, request, context)

    async def GetVersion(self, request: pb.GetVersionRequest, context: Any) -> pb.Version:
        return await self._get(self.versions, request, context)

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Any) -> pb.ListVersionsResponse:
        return pb.ListVersionsResponse(
            versions=[one for name, one in self.versions.items() if name.startswith(f"{request.parent}/")]
        )

    async def ListOfferings(self, request: pb.ListOfferingsRequest, context: Any) -> pb.ListOfferingsResponse:
        return pb.ListOfferingsResponse(
            offerings=[one for name, one in self.offerings.items() if name.startswith(f"{request.parent}/")]
        )

    async def _get(self, things: dict[str, T], request: Any, context: Any) -> T:
        try:
            validate(request)
            if request.name not in things:
                raise not_found(request.name)
        except Refusal as refusal:
            await context.abort_with_status(refusal.status())
        return things[request.name]


@pytest_asyncio.fixture(scope="module")
async def hall() -> AsyncIterator[Hall]:
    """A governance that runs, with nobody in it."""
    hall = Hall()  # type: ignore[abstract] # the storefront calls none of the rest
    await hall.start()
    yield hall
    await hall.stop()


@pytest_asyncio.fixture(scope="module")
async def shelf() -> AsyncIterator[Shelf]:
    """A catalog that runs, with nothing on it."""
    shelf = Shelf()  # type: ignore[abstract] # the storefront calls none of the rest
    await shelf.start()
    yield shelf
    await shelf.stop()
