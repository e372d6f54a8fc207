"""Calls no honest client makes, at every service of a running market: short refusals, no fault, no money, no memory."""

import asyncio
import resource
from typing import Any

import grpc
import httpx
import pytest
from hostile_world import Stage
from house import request_id
from walk import COMPANY, MarketPeople, NotYet, Purchase, eventually

from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.refusals import Kind, refusal_of

PACKAGES = ["identity", "governance", "catalog", "licensing", "billing", "access_broker"]
LATEST = 253_402_300_799


async def reason(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return refusal_of(error.value).reason


@pytest.mark.parametrize("package", PACKAGES)
async def test_what_is_not_there_cannot_be_told_from_what_nobody_may_call(market: MarketPeople, package: str) -> None:
    channel: Any = market.channel(package)
    answers = set()
    for path in ("/evil.Service/Do", f"/rochdale.{package}.v1.Nothing/Do", "/", "/x"):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_unary(path)(b"", timeout=5)
        answers.add((error.value.code(), error.value.details()))
    assert len(answers) == 1
    for version in ("v1", "v1alpha"):
        reflection = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
        call = reflection(timeout=5)
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("package", PACKAGES)
async def test_large_metadata_never_gets_in(market: MarketPeople, package: str) -> None:
    call: Any = market.channel(package).unary_unary("/x/Y")
    for size in (9_000, 12_000, 15_000):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(b"", metadata=(("x-filler", "y" * size),), timeout=5)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, size


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"])
async def test_a_small_message_that_grows_is_not_grown(market: MarketPeople, compression: grpc.Compression) -> None:
    bomb = b"\0" * 100_000_000
    async with grpc.aio.insecure_channel(market.address("catalog"), compression=compression) as channel:
        call: Any = channel.unary_unary("/rochdale.catalog.v1.CatalogService/SearchOfferings")
        # The first one costs its sender, who is in this process, and measures nothing.
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call(bomb, timeout=20)
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kilobytes"


async def test_two_sessions_are_none(market: MarketPeople, stage: Stage) -> None:
    both = (*stage.buyer.metadata, *stage.steward.metadata)
    assert await reason(market.stub("licensing").ListLicenses(licensing.ListLicensesRequest(), metadata=both)) in (
        "SESSION_INVALID",
        "SESSION_MISSING",
    )


@pytest.mark.parametrize(
    "query",
    ["a" * 10_000, "(" * 5_000 + ")" * 5_000, 'a OR NOT -+^~*? "[{' * 500, "\u202e\ufdfa" * 5_000, "a " * 5_000, "\0"],
    ids=["one word", "brackets", "operators", "ligatures", "words", "nul"],
)
async def test_no_query_takes_long(market: MarketPeople, stage: Stage, query: str) -> None:
    request = catalog.SearchOfferingsRequest(
        query=query,
        languages=["x" * 200] * 50,
        cooperatives=["y" * 200] * 50,
        facets=["modality", "language", "license_terms", "cooperative", "mode", "price"],
        page_size=100,
    )
    async with asyncio.timeout(2):
        await market.stub("catalog").SearchOfferings(request)


@pytest.mark.parametrize("field", ["not_before", "not_after"])
@pytest.mark.parametrize("seconds", [2**62, -(2**63), 0, LATEST, -62_135_596_800])
async def test_no_time_is_a_fault(market: MarketPeople, stage: Stage, field: str, seconds: int) -> None:
    scope = stage.offering.scope
    request = governance.ProposeSharingRuleRequest(
        request_id=request_id(),
        parent="cooperatives/victims",
        effect=governance.RULE_EFFECT_ALLOW,
        scope=scope,
        rationale="When?",
    )
    getattr(request.scope, field).seconds = seconds
    try:
        rule = await market.stub("governance").ProposeSharingRule(request, metadata=stage.steward.metadata)
    except grpc.aio.AioRpcError as error:
        assert refusal_of(error).reason != "INTERNAL"
        return
    publish = catalog.PublishOfferingRequest(
        request_id=request_id(),
        parent="cooperatives/victims",
        title="Whenever",
        scope=request.scope,
        tiers=[
            catalog.OfferingTier(
                categories=tier.categories, price=Money(amount_minor=120_000, currency="EUR"), sharing_rule=rule.name
            )
            for tier in stage.offering.tiers
        ],
    )

    async def offered() -> str:
        try:
            found = await market.stub("catalog").PublishOffering(publish, metadata=stage.steward.metadata)
        except grpc.aio.AioRpcError as error:
            if refusal_of(error).kind is Kind.UNAVAILABLE:
                raise
            assert refusal_of(error).reason != "INTERNAL"
            return ""
        return str(found.name)

    if not (name := await eventually(offered, 10)):
        return

    async def wished() -> None:
        request = licensing.RequestLicenseRequest(request_id=request_id(), offering=name)
        try:
            await market.stub("licensing").RequestLicense(request, metadata=stage.buyer.metadata)
        except grpc.aio.AioRpcError as error:
            if refusal_of(error).reason == "NOT_FOUND":
                raise NotYet(name) from None
            assert refusal_of(error).reason != "INTERNAL", refusal_of(error)

    await eventually(wished, 10)


async def test_money_that_is_not_the_orders_pays_nothing(market: MarketPeople, stage: Stage) -> None:
    """Somebody who can talk to Stripe names our payment in one of their own, of a smaller amount."""
    purchase = Purchase(await market.licensee("cheap", COMPANY), stage.offering.name)
    await market.agree(purchase)
    order = await market.order(purchase)
    payment = await market.stub("billing").StartPayment(
        billing.StartPaymentRequest(
            request_id=request_id(), order=purchase.order, method=billing.PAYMENT_METHOD_PAYMENT_INTENT
        ),
        metadata=purchase.person.metadata,
    )
    async with httpx.AsyncClient(auth=("sk_test_simulator", ""), base_url=market.market.plan.stripe_url) as client:
        ours = (await client.get(f"/v1/payment_intents/{payment.payment_intent}")).json()
        answer = await client.post(
            "/v1/payment_intents",
            data={
                "amount": "100",
                "currency": "eur",
                "confirm": "true",
                "payment_method": "pm_card_visa",
                "automatic_payment_methods[enabled]": "true",
                "automatic_payment_methods[allow_redirects]": "never",
                **{f"metadata[{name}]": value for name, value in ours["metadata"].items()},
            },
        )
        assert answer.json()["status"] == "succeeded", answer.text

    async def looked_into() -> None:
        seen = await market.stub("billing").GetPayment(
            billing.GetPaymentRequest(name=payment.name), metadata=purchase.person.metadata
        )
        if seen.state == billing.PAYMENT_STATE_PENDING:
            raise NotYet(seen.state)
        assert seen.state == billing.PAYMENT_STATE_FAILED

    await eventually(looked_into, 20)
    assert (await market.order(purchase)).state == order.state == billing.ORDER_STATE_OPEN
