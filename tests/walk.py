"""A whole market on one machine and the walk through it, each step as its caller would make it, safe to repeat."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import assembly
import grpc
import httpx
from house import CHANNEL_OPTIONS, People, Person, request_id

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.access_broker.v1 import access_broker_pb2_grpc
from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.billing.v1 import billing_pb2_grpc
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.catalog.v1 import catalog_pb2_grpc
from rochdale.data_gateway.v1 import data_gateway_pb2 as gateway
from rochdale.data_gateway.v1 import data_gateway_pb2_grpc
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import governance_pb2_grpc
from rochdale.governance.v1 import membership_pb2 as membership
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.licensing.v1 import licensing_pb2_grpc
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.refusals import Kind, refusal_of
from rochdale_local.market import Market
from rochdale_local.rooms import Options

T = TypeVar("T")
YEAR = 365 * 86400
STUBS = {
    "governance": governance_pb2_grpc.GovernanceServiceStub,
    "catalog": catalog_pb2_grpc.CatalogServiceStub,
    "licensing": licensing_pb2_grpc.LicensingServiceStub,
    "billing": billing_pb2_grpc.BillingServiceStub,
    "access_broker": access_broker_pb2_grpc.AccessBrokerServiceStub,
}


COMPANY, ACADEMIC = scope.BUYER_CATEGORY_COMPANY, scope.BUYER_CATEGORY_ACADEMIC


@dataclass(frozen=True)
class Shelf:
    """Valley Health and what it offers: free for academics, 1,200 euros for companies."""

    steward: Person
    source: Path
    version: catalog.Version
    offering: catalog.Offering


class NotYet(Exception):
    """What a step waits for has not come about."""


async def eventually(step: Callable[[], Awaitable[T]], seconds: float = 60) -> T:
    """Repeats a step, with the same request id inside it, until it works; refusals that will not change end it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await step()
        except NotYet as error:
            last: BaseException = error
        except grpc.aio.AioRpcError as error:
            if refusal_of(error).kind is not Kind.UNAVAILABLE and error.code() is not grpc.StatusCode.CANCELLED:
                raise
            last = error
        except (httpx.TransportError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} seconds: {last!r}") from last
        await asyncio.sleep(0.05)


@dataclass
class Purchase:
    """One purchase and the ids made where the wish began, so that every step may be repeated."""

    person: Person
    offering: str
    traceparent: str = ""
    license_request: str = field(default_factory=request_id)
    payment_request: str = field(default_factory=request_id)
    token_request: str = field(default_factory=request_id)
    license: str = ""
    order: str = ""
    checkout_url: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        trace = (("traceparent", self.traceparent),) if self.traceparent else ()
        return (*self.person.metadata, *trace)


class MarketPeople(People):
    """A running market and the people in it."""

    def __init__(self, home: Path, *, own_processes: bool = False, **options: Any) -> None:
        self.market = Market(home, Options(**options), own_processes=own_processes, durable=False)
        super().__init__("")
        self.assemblies: dict[str, assembly.Assembly] = {}

    async def start(self) -> None:
        await self.market.start()
        self.operator_secret = (self.market.home / "keys" / "operator.key").read_text().strip()

    async def stop(self) -> None:
        await self.close_channels()
        await self.market.stop()

    def address(self, package: str) -> str:
        return next(room.grpc_address for room in self.market.rooms if room.name == package)

    def stub(self, package: str) -> Any:
        return STUBS[package](self.channel(package))

    # ---- the cooperative's side ----

    async def found(self, id: str, members: list[str] | None = None) -> Person:
        """A verified cooperative with members and one who votes, and its gateway up."""
        # Most members have no key and never vote, so a vote lasts its time; a busy machine takes more than a second.
        made = await assembly.found(self, id, assembly.quick_charter(voting_seconds=2))
        self.assemblies[id] = made
        for start in range(0, len(members or []), 1_000):
            request = governance.AddMembersRequest(
                request_id=request_id(),
                parent=f"cooperatives/{id}",
                references=(members or [])[start : start + 1_000],
            )
            await self.stub("governance").AddMembers(request, metadata=made.steward.metadata)
        await eventually(lambda: self.gateway(id))
        return made.steward

    async def consent(self, steward: Person, dataset: str, references: Sequence[str]) -> None:
        """Members signed a form that lets everybody study the dataset (resource name)."""
        for start in range(0, len(references), 1_000):
            request = membership.RecordConsentsRequest(
                request_id=request_id(),
                parent=f"cooperatives/{steward.organization}",
                references=references[start : start + 1_000],
                dataset=dataset,
                purposes=["ResearchAndDevelopment"],
                categories=[one for one in scope.BuyerCategory.values() if one],
                evidence="joining form",
                notice_hash=hashlib.sha256(b"what was asked").hexdigest(),
                language="en",
            )
            await self.assemblies[steward.organization].members_desk.RecordConsents(request, metadata=steward.metadata)

    async def gateway(self, cooperative: str) -> broker.Gateway:
        try:
            found = await self.stub("access_broker").GetGateway(
                broker.GetGatewayRequest(name=f"gateways/{cooperative}")
            )
        except grpc.aio.AioRpcError as error:
            if refusal_of(error).reason == "NOT_FOUND":
                raise NotYet(cooperative) from None
            raise
        assert isinstance(found, broker.Gateway)
        return found

    async def add_dataset(
        self, steward: Person, id: str, content: bytes, member_column: str = "", title: str = ""
    ) -> catalog.Version:
        """A dataset with its first version published, ingested by the cooperative's gateway."""
        dataset = f"cooperatives/{steward.organization}/datasets/{id}"
        await self.stub("catalog").CreateDataset(
            catalog.CreateDatasetRequest(
                request_id=request_id(),
                parent=f"cooperatives/{steward.organization}",
                dataset_id=id,
                title=title or id,
                modality=catalog.MODALITY_TABULAR,
            ),
            metadata=steward.metadata,
        )
        door = await self.gateway(steward.organization)
        stub = data_gateway_pb2_grpc.DataGatewayServiceStub(self.channel_at(door.control_address))
        started = await stub.StartIngestion(
            gateway.StartIngestionRequest(
                request_id=request_id(),
                dataset=dataset,
                size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                member_column=member_column,
            ),
            metadata=steward.metadata,
        )
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.put(
                started.upload_url, content=content, headers={"Authorization": steward.metadata[0][1]}
            )
            assert answer.status_code == 200, answer.text

        async def processed() -> gateway.Ingestion:
            ingestion = await stub.GetIngestion(
                gateway.GetIngestionRequest(name=started.name), metadata=steward.metadata
            )
            assert ingestion.state != gateway.INGESTION_STATE_FAILED, ingestion.failure_message
            if ingestion.state != gateway.INGESTION_STATE_AWAITING_APPROVAL:
                raise NotYet(ingestion.state)
            return ingestion

        await eventually(processed, 60)
        await stub.ApproveVersion(
            gateway.ApproveVersionRequest(request_id=request_id(), name=started.name), metadata=steward.metadata
        )

        async def published() -> catalog.Version:
            try:
                found = await self.stub("catalog").GetVersion(catalog.GetVersionRequest(name=f"{dataset}/versions/1"))
            except grpc.aio.AioRpcError as error:
                if refusal_of(error).reason == "NOT_FOUND":
                    raise NotYet(dataset) from None
                raise
            assert isinstance(found, catalog.Version)
            return found

        return await eventually(published)

    async def offer(
        self,
        steward: Person,
        version: catalog.Version,
        prices: dict[int, int],
        *,
        columns: list[str] | None = None,
        duration_seconds: int = YEAR,
    ) -> catalog.Offering:
        """An offering at these prices in euro cents by buyer category, each on a rule of its own."""
        dataset = version.name.partition("/versions/")[0]
        wide = scope.SharingScope(
            datasets=[
                scope.DatasetScope(
                    dataset=dataset,
                    first_version=version.number,
                    last_version=version.number,
                    columns=columns or [column.name for column in version.columns],
                )
            ],
            categories=list(prices),  # type: ignore[arg-type]
            purposes=["ResearchAndDevelopment"],
            actions=[scope.USE_ACTION_INSPECT, scope.USE_ACTION_ANALYZE],
            max_mode=scope.ACCESS_MODE_DOWNLOAD,
            floor_price=Money(amount_minor=min(prices.values()), currency="EUR"),
            territories=["WORLD"],
            max_duration_seconds=duration_seconds,
            max_exclusivity=scope.EXCLUSIVITY_NONE,
            duties=[scope.DUTY_NO_REIDENTIFICATION],
        )
        narrower = []
        for category, cents in prices.items():
            narrow = scope.SharingScope()
            narrow.CopyFrom(wide)
            del narrow.categories[:]
            narrow.categories.append(category)  # type: ignore[arg-type]
            narrow.floor_price.amount_minor = cents
            narrower.append(narrow)
        cooperative = self.assemblies[steward.organization]
        # Asked again if nobody got to vote in time: on a busy machine two seconds may be none.
        rules = await assembly.patiently(lambda: cooperative.decide(*narrower), "VOTE_NOT_OPEN", seconds=60)
        tiers = [
            catalog.OfferingTier(
                categories=[category],  # type: ignore[list-item]
                price=Money(amount_minor=cents, currency="EUR"),
                sharing_rule=rule.name,
            )
            for (category, cents), rule in zip(prices.items(), rules, strict=True)
        ]
        request = cooperative.signed(
            catalog.PublishOfferingRequest(
                request_id=request_id(),
                parent=f"cooperatives/{steward.organization}",
                title="An offering",
                scope=wide,
                tiers=tiers,
            ),
            rules,
        )

        # The catalog hears of a rule a few milliseconds after it is in force, and says so.
        async def publish() -> catalog.Offering:
            found = await self.stub("catalog").PublishOffering(request, metadata=steward.metadata)
            assert isinstance(found, catalog.Offering)
            return found

        return await eventually(publish)

    # ---- the buyer's side ----

    async def licensee(self, id: str, category: int) -> Person:
        """A verified buyer whose category two operators attested."""
        # A part killed a moment ago may still be on its way back.
        operators = await eventually(self.operators)
        buyer = await self.buyer(id)
        register = licensing.RegisterLicenseeRequest(
            request_id=request_id(),
            claimed_category=category,  # type: ignore[arg-type]
            evidence="register",
            territory="FR",
        )
        # One operator is no attestation; each says it under an id of their own.
        attests = [
            licensing.AttestCategoryRequest(
                request_id=request_id(),
                name=f"licensees/{id}",
                category=category,  # type: ignore[arg-type]
            )
            for _ in operators
        ]

        async def attested() -> None:
            await self.stub("licensing").RegisterLicensee(register, metadata=buyer.metadata)
            for operator, attest in zip(operators, attests, strict=True):
                await self.stub("licensing").AttestCategory(attest, metadata=operator.metadata)

        await eventually(attested)
        return buyer

    async def agree(self, purchase: Purchase) -> None:
        """Requests the license at its listed price."""

        async def request() -> licensing.Negotiation:
            try:
                found = await self.stub("licensing").RequestLicense(
                    licensing.RequestLicenseRequest(request_id=purchase.license_request, offering=purchase.offering),
                    metadata=purchase.metadata,
                )
            except grpc.aio.AioRpcError as error:
                if refusal_of(error).reason == "NOT_FOUND":
                    raise NotYet("offering") from None
                raise
            assert isinstance(found, licensing.Negotiation)
            return found

        negotiation = await eventually(request)
        assert negotiation.license, negotiation
        purchase.license = negotiation.license

    async def order(self, purchase: Purchase) -> billing.Order:
        """Waits for the order that follows the license."""

        async def find() -> billing.Order:
            page = await self.stub("billing").ListOrders(
                billing.ListOrdersRequest(license=purchase.license), metadata=purchase.metadata
            )
            if not page.orders:
                raise NotYet("order")
            order = page.orders[0]
            assert isinstance(order, billing.Order)
            return order

        found = await eventually(find)
        purchase.order = found.name
        return found

    async def start_payment(self, purchase: Purchase) -> None:
        """Asks for a hosted page to pay on."""

        async def start() -> billing.Payment:
            found = await self.stub("billing").StartPayment(
                billing.StartPaymentRequest(
                    request_id=purchase.payment_request,
                    order=purchase.order,
                    method=billing.PAYMENT_METHOD_CHECKOUT,
                ),
                metadata=purchase.metadata,
            )
            assert isinstance(found, billing.Payment)
            return found

        purchase.checkout_url = (await eventually(start)).checkout_url

    async def pay(self, purchase: Purchase) -> None:
        """What the buyer's browser does on the hosted page."""

        async def post() -> None:
            async with httpx.AsyncClient(timeout=10) as client:
                answer = await client.post(
                    purchase.checkout_url,
                    data={"card_number": "4242424242424242", "email": "a@b.example", "name": "A"},
                )
            assert answer.status_code in (303, 410), answer.text

        await eventually(post)

    async def active(self, purchase: Purchase) -> licensing.License:
        """Waits until the license is active."""

        async def find() -> licensing.License:
            license = await self.stub("licensing").GetLicense(
                licensing.GetLicenseRequest(name=purchase.license), metadata=purchase.metadata
            )
            if license.state != licensing.LICENSE_STATE_ACTIVE:
                raise NotYet(license.state)
            return license  # type: ignore[no-any-return]

        return await eventually(find)

    async def token(self, purchase: Purchase, **narrowing: Any) -> broker.IssuedToken:
        """Waits for the grant and asks for a token."""

        async def issue() -> broker.IssuedToken:
            try:
                token = await self.stub("access_broker").IssueToken(
                    broker.IssueTokenRequest(request_id=purchase.token_request, license=purchase.license, **narrowing),
                    metadata=purchase.metadata,
                )
            except grpc.aio.AioRpcError as error:
                # The grant follows the payment by two events.
                if refusal_of(error).reason == "NOT_FOUND":
                    raise NotYet("grant") from None
                raise
            return token  # type: ignore[no-any-return]

        return await eventually(issue)

    async def files(self, purchase: Purchase, token: broker.IssuedToken) -> dict[str, Any]:
        """Waits until the gateway has heard of the grant, and lists what it opens."""

        async def get() -> dict[str, Any]:
            async with httpx.AsyncClient(timeout=10) as client:
                answer = await client.get(
                    f"{token.gateway_url}/v1/{purchase.license}/files",
                    headers={"Authorization": f"Bearer {token.token}"},
                )
            if answer.status_code != 200:
                raise NotYet(answer.text)
            return answer.json()  # type: ignore[no-any-return]

        return await eventually(get)

    async def buy(self, purchase: Purchase) -> broker.IssuedToken:
        """The whole way from the wish to a token that opens the data."""
        await self.agree(purchase)
        order = await self.order(purchase)
        if order.amount.amount_minor:
            await self.start_payment(purchase)
            await self.pay(purchase)
        await self.active(purchase)
        token = await self.token(purchase)
        await self.files(purchase, token)
        return token

    def charged(self) -> int:
        """How many successful charges the Stripe simulator has seen that were not given back."""
        assert self.market.simulator is not None
        described = self.market.simulator.describe()
        return int(described["charges"]["succeeded"]) - int(described["refunds"])

    def channel_at(self, address: str) -> grpc.aio.Channel:
        """A channel to an address that is not in the market's list, such as a gateway's."""
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        return self._channels[address]
