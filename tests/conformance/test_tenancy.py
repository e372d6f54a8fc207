"""Every RPC, by every role, about another tenant's things and about things that are not: the answers are the same."""

import dataclasses
import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from hostile_world import ABSENT, Stage, Things, gateway_stub
from house import Person, refused, request_id
from walk import MarketPeople

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.data_gateway.v1 import data_gateway_pb2 as gateway
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.identity.v1 import identity_pb2 as identity
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.boundary import Boundary, check_access_table
from rochdale_kit.identity import PUBLIC, Access, Sessions, roles
from rochdale_kit.refusals import Refusal, refusal_of
from rochdale_kit.telemetry import Telemetry

PACKAGES = ["identity", "governance", "catalog", "licensing", "billing", "access_broker", "data_gateway"]
ROLES = ["nobody", "steward", "member", "gateway", "buyer", "unverified cooperative", "unverified buyer"]

Asking = Callable[[Things], Message]


def table(package: str) -> tuple[ServiceDescriptor, dict[str, Access]]:
    module = importlib.import_module(f"{package}.service")
    return module.DESCRIPTOR, module.ACCESS


def wide(things: Things) -> scope.SharingScope:
    return scope.SharingScope(
        datasets=[scope.DatasetScope(dataset=things.dataset, first_version=1, last_version=1, columns=["zper"])],
        categories=[scope.BUYER_CATEGORY_COMPANY],
        purposes=["ResearchAndDevelopment"],
        actions=[scope.USE_ACTION_INSPECT],
        max_mode=scope.ACCESS_MODE_DOWNLOAD,
        floor_price=Money(amount_minor=0, currency="EUR"),
        territories=["WORLD"],
        max_duration_seconds=86400,
        max_exclusivity=scope.EXCLUSIVITY_NONE,
    )


def cooperative(things: Things) -> str:
    return f"cooperatives/{things.cooperative}"


# What the requests name that is somebody's. PUBLIC means that anybody may know it, or that the request names nobody's.
PRIVATE: dict[str, Asking] = {
    "identity.GetOrganization": lambda t: identity.GetOrganizationRequest(name=f"organizations/{t.cooperative}"),
    "identity.VerifyOrganization": lambda t: identity.VerifyOrganizationRequest(
        request_id=request_id(), name=f"organizations/{t.buyer}"
    ),
    "identity.CreateApiKey": lambda t: identity.CreateApiKeyRequest(
        request_id=request_id(),
        parent=f"organizations/{t.cooperative}",
        key_hash=os.urandom(32),
        label="mine",
        roles=[identity.ROLE_STEWARD],
    ),
    "identity.ListApiKeys": lambda t: identity.ListApiKeysRequest(parent=f"organizations/{t.cooperative}"),
    "identity.RevokeApiKey": lambda t: identity.RevokeApiKeyRequest(name=t.key),
    "governance.AddMembers": lambda t: governance.AddMembersRequest(
        request_id=request_id(), parent=cooperative(t), references=["me"]
    ),
    "governance.ListMembers": lambda t: governance.ListMembersRequest(parent=cooperative(t)),
    "governance.ProposeSharingRule": lambda t: governance.ProposeSharingRuleRequest(
        request_id=request_id(),
        parent=cooperative(t),
        effect=governance.RULE_EFFECT_ALLOW,
        scope=wide(t),
        rationale="mine",
    ),
    "governance.ApproveSharingRule": lambda t: governance.ApproveSharingRuleRequest(name=t.rule),
    "governance.NarrowSharingRule": lambda t: governance.NarrowSharingRuleRequest(
        request_id=request_id(), name=t.rule, revision=1
    ),
    "catalog.CreateDataset": lambda t: catalog.CreateDatasetRequest(
        request_id=request_id(),
        parent=cooperative(t),
        dataset_id="planted",
        title="mine",
        modality=catalog.MODALITY_TABULAR,
    ),
    "catalog.PublishOffering": lambda t: catalog.PublishOfferingRequest(
        request_id=request_id(),
        parent=cooperative(t),
        title="mine",
        scope=wide(t),
        tiers=[
            catalog.OfferingTier(
                categories=[scope.BUYER_CATEGORY_COMPANY],
                price=Money(amount_minor=0, currency="EUR"),
                sharing_rule=t.rule,
            )
        ],
    ),
    "catalog.CloseOffering": lambda t: catalog.CloseOfferingRequest(name=t.offering),
    "licensing.GetLicensee": lambda t: licensing.GetLicenseeRequest(name=f"licensees/{t.buyer}"),
    "licensing.AttestCategory": lambda t: licensing.AttestCategoryRequest(
        request_id=request_id(), name=f"licensees/{t.buyer}", category=scope.BUYER_CATEGORY_ACADEMIC
    ),
    "licensing.RequestLicense": lambda t: licensing.RequestLicenseRequest(
        request_id=request_id(), offering=t.offering, quote=t.quote
    ),
    "licensing.Counter": lambda t: licensing.CounterRequest(
        request_id=request_id(), name=t.negotiation, etag=t.etag, wish=licensing.Wish()
    ),
    "licensing.AcceptNegotiation": lambda t: licensing.AcceptNegotiationRequest(
        request_id=request_id(), name=t.negotiation, etag=t.etag
    ),
    "licensing.TerminateNegotiation": lambda t: licensing.TerminateNegotiationRequest(
        request_id=request_id(), name=t.negotiation
    ),
    "licensing.GetNegotiation": lambda t: licensing.GetNegotiationRequest(name=t.negotiation),
    "licensing.GetLicense": lambda t: licensing.GetLicenseRequest(name=t.license),
    "licensing.TerminateLicense": lambda t: licensing.TerminateLicenseRequest(
        request_id=request_id(), name=t.license, reason="mine"
    ),
    "billing.GetOrder": lambda t: billing.GetOrderRequest(name=t.order),
    "billing.StartPayment": lambda t: billing.StartPaymentRequest(
        request_id=request_id(), order=t.order, method=billing.PAYMENT_METHOD_CHECKOUT
    ),
    "billing.GetPayment": lambda t: billing.GetPaymentRequest(name=t.payment),
    "billing.ConfirmBankTransfer": lambda t: billing.ConfirmBankTransferRequest(
        request_id=request_id(),
        order=t.order,
        amount=Money(amount_minor=120_000, currency="EUR"),
        bank_reference="mine",
    ),
    "access_broker.GetGrant": lambda t: broker.GetGrantRequest(name=t.grant),
    "access_broker.IssueToken": lambda t: broker.IssueTokenRequest(request_id=request_id(), license=t.license),
    "access_broker.RevokeToken": lambda t: broker.RevokeTokenRequest(token_id=t.token),
    "data_gateway.StartIngestion": lambda t: gateway.StartIngestionRequest(
        request_id=request_id(), dataset=t.dataset, size_bytes=1
    ),
    "data_gateway.GetIngestion": lambda t: gateway.GetIngestionRequest(name=t.ingestion),
    "data_gateway.ListIngestions": lambda t: gateway.ListIngestionsRequest(),
    "data_gateway.ApproveVersion": lambda t: gateway.ApproveVersionRequest(request_id=request_id(), name=t.ingestion),
    "data_gateway.RejectVersion": lambda t: gateway.RejectVersionRequest(name=t.ingestion),
}
# Lists of the caller's own things: whatever is asked for, nothing of another's is in them.
LISTS: dict[str, Asking] = {
    "identity.ListOrganizations": lambda t: identity.ListOrganizationsRequest(),
    "licensing.ListLicensees": lambda t: licensing.ListLicenseesRequest(),
    "licensing.ListNegotiations": lambda t: licensing.ListNegotiationsRequest(),
    "licensing.ListLicenses": lambda t: licensing.ListLicensesRequest(),
    "billing.ListOrders": lambda t: billing.ListOrdersRequest(license=t.license),
    "access_broker.ListGrants": lambda t: broker.ListGrantsRequest(license=t.license),
    "access_broker.ListRevocations": lambda t: broker.ListRevocationsRequest(),
    "access_broker.ListGrantChains": lambda t: broker.ListGrantChainsRequest(),
}
# They name nobody's, speak for the caller's own organization, or answer anybody what everybody may know.
OPEN = {
    "identity.RegisterOrganization",
    "identity.IssueSession",
    "identity.GetKeySet",
    "identity.RotateSigningKey",
    "governance.CreateCooperative",
    "governance.GetCooperative",
    "governance.ListCooperatives",
    "governance.GetSharingRule",
    "governance.ListSharingRules",
    "catalog.GetDataset",
    "catalog.ListDatasets",
    "catalog.GetVersion",
    "catalog.ListVersions",
    "catalog.GetOffering",
    "catalog.ListOfferings",
    "catalog.SearchOfferings",
    "licensing.RegisterLicensee",
    "licensing.RequestQuote",
    "access_broker.RegisterGateway",
    "access_broker.GetGateway",
    "access_broker.GetKeySet",
    "access_broker.RotateSigningKey",
}
# What an operator may not do to anybody, verified or not: act for them, pay as them, read their data.
NOT_THE_OPERATORS = [
    "identity.CreateApiKey",
    "governance.AddMembers",
    "governance.ListMembers",
    "governance.ProposeSharingRule",
    "governance.ApproveSharingRule",
    "governance.NarrowSharingRule",
    "catalog.CreateDataset",
    "catalog.PublishOffering",
    "catalog.CloseOffering",
    "licensing.RequestLicense",
    "licensing.Counter",
    "licensing.AcceptNegotiation",
    "licensing.TerminateNegotiation",
    "billing.StartPayment",
    "access_broker.IssueToken",
    "access_broker.ListGrantChains",
    "access_broker.ListRevocations",
    "data_gateway.StartIngestion",
    "data_gateway.GetIngestion",
    "data_gateway.ListIngestions",
    "data_gateway.ApproveVersion",
    "data_gateway.RejectVersion",
]


async def ask(market: MarketPeople, rpc: str, request: Message, person: Person) -> Message | Refusal:
    package, _, method = rpc.partition(".")
    if package == "identity":
        stub: Any = market.identity
    elif package == "data_gateway":
        stub = await gateway_stub(market, "victims")
    else:
        stub = market.stub(package)
    try:
        reply: Message = await getattr(stub, method)(request, metadata=person.metadata, timeout=10)
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    return reply


def shape(answer: Message | Refusal, things: Things) -> object:
    """An answer without the names that were asked for, so that two can be compared."""
    text = (
        repr((answer.reason, answer.kind, answer.message, answer.facts)) if isinstance(answer, Refusal) else str(answer)
    )
    for name in [*things.names(), *(part for whole in things.names() for part in whole.split("/") if "_" in part)]:
        text = text.replace(name, "…")
    return text


def test_every_rpc_is_walked() -> None:
    known = {f"{package}.{name}" for package in PACKAGES for name in table(package)[1]}
    assert known == set(PRIVATE) | set(LISTS) | OPEN
    assert len(known) == len(PRIVATE) + len(LISTS) + len(OPEN)
    for rpc in (*PRIVATE, *LISTS):
        package, _, method = rpc.partition(".")
        assert not table(package)[1][method].public, f"{rpc} answers anybody"


@pytest.mark.parametrize("package", PACKAGES)
def test_an_rpc_without_a_rule_stops_the_start(package: str) -> None:
    descriptor, access = table(package)
    check_access_table(descriptor, access)
    for method in access:
        with pytest.raises(SystemExit, match=method):
            Boundary(descriptor, {k: v for k, v in access.items() if k != method}, Sessions(None), Telemetry("x"))  # type: ignore[arg-type]
    with pytest.raises(SystemExit, match="Invented"):
        check_access_table(descriptor, {**access, "Invented": PUBLIC})


@pytest.mark.parametrize("role", ROLES)
async def test_anothers_thing_answers_like_nothing(market: MarketPeople, stage: Stage, role: str) -> None:
    person = stage.strangers[role]
    different = []
    for rpc, asking in PRIVATE.items():
        there = await ask(market, rpc, asking(stage.victim), person)
        nowhere = await ask(market, rpc, asking(ABSENT), person)
        assert isinstance(there, Refusal), f"{rpc} lets {role} in: {there}"
        assert there.reason not in ("INTERNAL", "REQUEST_INVALID"), (rpc, there)
        if shape(there, stage.victim) != shape(nowhere, ABSENT):
            different.append((rpc, there, nowhere))
    assert not different


async def test_a_customer_sees_nothing_of_another_customer(market: MarketPeople, stage: Stage) -> None:
    others = dataclasses.replace(stage.victim, grant=ABSENT.grant, token=ABSENT.token)
    for rpc, asking in PRIVATE.items():
        there = await ask(market, rpc, asking(others), stage.buyer)
        nowhere = await ask(market, rpc, asking(ABSENT), stage.buyer)
        assert isinstance(there, Refusal) and shape(there, others) == shape(nowhere, ABSENT), (rpc, there, nowhere)
    for rpc, asking in LISTS.items():
        answer = await ask(market, rpc, asking(others), stage.buyer)
        for name in (others.license, others.order, others.negotiation, f"licensees/{others.buyer}"):
            assert isinstance(answer, Refusal) or name not in str(answer), rpc


@pytest.mark.parametrize("role", ROLES)
async def test_no_list_holds_anothers_things(market: MarketPeople, stage: Stage, role: str) -> None:
    person = stage.strangers[role]
    for rpc, asking in LISTS.items():
        for things in (stage.victim, ABSENT):
            answer = await ask(market, rpc, asking(things), person)
            if isinstance(answer, Refusal):
                assert answer.reason != "INTERNAL", rpc
            else:
                assert not [name for name in stage.victim.names() if name in str(answer)], rpc


def stolen(token: str) -> Iterator[str]:
    """A page token as it is, and altered."""
    yield token
    yield token[:-1]
    yield "A" + token[1:]
    yield token.swapcase()
    yield "e30"
    yield "W10"
    yield "\N{SNOWMAN}"
    yield "[" * 1000


async def test_a_stolen_page_token_opens_nothing(market: MarketPeople, stage: Stage) -> None:
    page = await market.identity.ListApiKeys(
        identity.ListApiKeysRequest(parent="organizations/victims", page_size=1), metadata=stage.steward.metadata
    )
    assert page.next_page_token
    rival = stage.strangers["steward"]
    for token in stolen(page.next_page_token):
        async with refused("PAGE_TOKEN_INVALID"):
            await market.identity.ListApiKeys(
                identity.ListApiKeysRequest(parent="organizations/rivals", page_token=token), metadata=rival.metadata
            )
        for package, method, request in (
            ("licensing", "ListLicenses", licensing.ListLicensesRequest(page_token=token)),
            ("billing", "ListOrders", billing.ListOrdersRequest(page_token=token)),
            ("access_broker", "ListGrants", broker.ListGrantsRequest(page_token=token)),
            ("catalog", "SearchOfferings", catalog.SearchOfferingsRequest(page_token=token)),
        ):
            async with refused("PAGE_TOKEN_INVALID"):
                await getattr(market.stub(package), method)(request, metadata=rival.metadata)


async def test_the_request_id_of_another_gets_no_answer_of_theirs(market: MarketPeople, stage: Stage) -> None:
    request = broker.IssueTokenRequest(request_id=stage.purchase.token_request, license=stage.purchase.license)
    async with refused("NOT_FOUND"):
        await market.stub("access_broker").IssueToken(request, metadata=stage.strangers["buyer"].metadata)
    wish = licensing.RequestLicenseRequest(request_id=stage.purchase.license_request, offering=stage.purchase.offering)
    mine = await market.stub("licensing").RequestLicense(wish, metadata=stage.strangers["buyer"].metadata)
    assert mine.licensee == "licensees/envious" and mine.license != stage.purchase.license


@pytest.mark.parametrize("rpc", NOT_THE_OPERATORS)
async def test_the_operator_acts_for_nobody(market: MarketPeople, stage: Stage, rpc: str) -> None:
    answer = await ask(market, rpc, (PRIVATE.get(rpc) or LISTS[rpc])(stage.victim), stage.operator)
    assert isinstance(answer, Refusal)
    assert answer.reason in ("ROLE_MISSING", "ROLE_NOT_ALLOWED", "NOT_FOUND"), answer


def test_no_role_but_these_is_let_in() -> None:
    """A table that grows shows here who is let in: nobody is by accident."""
    operators = {
        f"{package}.{name}"
        for package in PACKAGES
        if package != "data_gateway"
        for name, rule in table(package)[1].items()
        if not rule.public and identity.ROLE_OPERATOR in rule.roles
    }
    assert not operators & (set(NOT_THE_OPERATORS) - {"identity.CreateApiKey"})
    assert roles(identity.ROLE_BUYER) == table("access_broker")[1]["IssueToken"]
