"""The promise, walked: decided, offered, licensed, paid, delivered, cut off. The page is docs/journeys/license-a-dataset.md."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import delta_sharing
import httpx
import pandas as pd
from house import refused, request_id
from walk import ACADEMIC, COMPANY, MarketPeople, NotYet, Purchase, Shelf, eventually

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1.money_pb2 import Money


def profile(folder: Path, token: broker.IssuedToken) -> str:
    """What `rochdale profile` writes, as the client wants it."""
    path = folder / "x.share"
    path.write_text(
        json.dumps(
            {
                "shareCredentialsVersion": 1,
                "endpoint": f"{token.gateway_url}/delta-sharing/",
                "bearerToken": token.token,
            }
        )
    )
    return f"{path}#valley-health.data.randhie"


async def load(url: str, **options: Any) -> pd.DataFrame:
    return await asyncio.to_thread(delta_sharing.load_as_pandas, url, **options)


async def test_a_company_pays_and_loads_exactly_the_source(market: MarketPeople, shelf: Shelf, tmp_path: Path) -> None:
    buyer = await market.licensee("acme", COMPANY)
    token = await market.buy(Purchase(buyer, shelf.offering.name))
    source = pd.read_csv(shelf.source, float_precision="round_trip")
    for delta in (True, False):
        frame = await load(profile(tmp_path, token), use_delta_format=delta)
        assert list(frame.columns) == list(source.columns) and len(frame) == 20_190
        for column in source.columns:
            if column == "zper":
                pairs = pd.DataFrame({"was": source[column], "is": frame[column]}).drop_duplicates()
                assert (
                    len(pairs) == pairs["is"].nunique() == 5_912 and pairs["is"].str.fullmatch("m_[a-z2-7]{26}").all()
                )
            else:
                pd.testing.assert_series_equal(frame[column], source[column], check_dtype=False)


async def test_an_academic_gets_the_same_free_and_narrower(market: MarketPeople, shelf: Shelf, tmp_path: Path) -> None:
    buyer = await market.licensee("uni-lab", ACADEMIC)
    purchase = Purchase(buyer, shelf.offering.name)
    await market.agree(purchase)
    order = await market.order(purchase)
    assert order.state == billing.ORDER_STATE_PAID and order.amount.amount_minor == 0
    await market.active(purchase)
    token = await market.token(purchase, columns=["site", "xage"])
    await market.files(purchase, token)
    frame = await load(profile(tmp_path, token))
    assert list(frame.columns) == ["site", "xage"] and len(frame) == 20_190
    purchase.token_request = request_id()
    async with refused("TOKEN_OUTSIDE_GRANT"):
        await market.token(purchase, columns=["site", "no_such_column"])


async def test_a_transfer_opens_the_data_without_any_card(market: MarketPeople, shelf: Shelf) -> None:
    buyer, operator = await market.licensee("by-transfer", COMPANY), await market.operator()
    purchase = Purchase(buyer, shelf.offering.name)
    await market.agree(purchase)
    order = await market.order(purchase)
    await market.stub("billing").StartPayment(
        billing.StartPaymentRequest(
            request_id=request_id(), order=order.name, method=billing.PAYMENT_METHOD_BANK_TRANSFER
        ),
        metadata=buyer.metadata,
    )
    confirm = billing.ConfirmBankTransferRequest(
        request_id=request_id(), order=order.name, amount=order.amount, bank_reference="B-1"
    )
    paid = await market.stub("billing").ConfirmBankTransfer(confirm, metadata=operator.metadata)
    assert await market.stub("billing").ConfirmBankTransfer(confirm, metadata=operator.metadata) == paid
    await market.active(purchase)
    await market.files(purchase, await market.token(purchase))


async def test_a_lower_price_is_negotiated_both_ways(market: MarketPeople, shelf: Shelf) -> None:
    buyer, stub = await market.licensee("haggler", COMPANY), market.stub("licensing")
    async with refused("REQUEST_OUTSIDE_RULE"):
        await stub.RequestLicense(
            licensing.RequestLicenseRequest(
                request_id=request_id(),
                offering=shelf.offering.name,
                wish=licensing.Wish(price=Money(amount_minor=100, currency="EUR")),
            ),
            metadata=buyer.metadata,
        )
    asked = await stub.RequestLicense(
        licensing.RequestLicenseRequest(
            request_id=request_id(),
            offering=shelf.offering.name,
            wish=licensing.Wish(price=Money(amount_minor=130_000, currency="EUR"), duration_seconds=30 * 86400),
            message="A month is enough.",
        ),
        metadata=buyer.metadata,
    )
    assert asked.state == licensing.NEGOTIATION_STATE_REQUESTED
    offered = await stub.Counter(
        licensing.CounterRequest(
            request_id=request_id(),
            name=asked.name,
            etag=asked.etag,
            wish=licensing.Wish(price=Money(amount_minor=125_000, currency="EUR"), duration_seconds=60 * 86400),
        ),
        metadata=shelf.steward.metadata,
    )
    assert offered.state == licensing.NEGOTIATION_STATE_OFFERED
    agreed = await stub.AcceptNegotiation(
        licensing.AcceptNegotiationRequest(request_id=request_id(), name=asked.name, etag=offered.etag),
        metadata=buyer.metadata,
    )
    assert agreed.license and agreed.price.amount_minor == 125_000


async def test_ending_a_license_ends_access_within_two_seconds(market: MarketPeople, shelf: Shelf) -> None:
    buyer = await market.licensee("leaver", COMPANY)
    purchase = Purchase(buyer, shelf.offering.name)
    token = await market.buy(purchase)
    headers = {"Authorization": f"Bearer {token.token}"}
    async with httpx.AsyncClient(headers=headers, timeout=5) as client:
        listing = f"{token.gateway_url}/v1/{purchase.license}/files"
        url = (await client.get(listing)).json()["files"][0]["url"]
        assert (await client.get(url)).status_code == 200
        await market.stub("licensing").TerminateLicense(
            licensing.TerminateLicenseRequest(request_id=request_id(), name=purchase.license, reason="Done."),
            metadata=shelf.steward.metadata,
        )
        ended = time.monotonic()

        async def refused_everywhere() -> None:
            answers = [
                await client.get(listing),
                await client.get(url),
                await client.get(f"{token.gateway_url}/delta-sharing/shares"),
            ]
            if any(answer.status_code not in (401, 403) for answer in answers):
                raise NotYet([answer.status_code for answer in answers])

        await eventually(refused_everywhere, 10)
        # The bound the license promises, not a measurement: an order of magnitude above what is usual.
        assert time.monotonic() - ended < 2
    purchase.token_request = request_id()
    async with refused("GRANT_NOT_OPEN"):
        await market.token(purchase)


async def test_a_license_that_expires_takes_access_with_it(market: MarketPeople, shelf: Shelf) -> None:
    offering = await market.offer(shelf.steward, shelf.version, {ACADEMIC: 0}, duration_seconds=4)
    buyer = await market.licensee("brief", ACADEMIC)
    purchase = Purchase(buyer, offering.name)
    await market.agree(purchase)
    await market.active(purchase)

    async def expired() -> None:
        license = await market.stub("licensing").GetLicense(
            licensing.GetLicenseRequest(name=purchase.license), metadata=buyer.metadata
        )
        if license.state != licensing.LICENSE_STATE_EXPIRED:
            raise NotYet(license.state)

    await eventually(expired, 15)
    async with refused("GRANT_NOT_OPEN"):
        await market.token(purchase)


async def test_another_buyers_things_do_not_exist(market: MarketPeople, shelf: Shelf) -> None:
    mine, other = await market.licensee("stranger-one", COMPANY), await market.licensee("stranger-two", COMPANY)
    purchase = Purchase(mine, shelf.offering.name)
    await market.buy(purchase)
    nowhere = "licenses/lic_00000000000000000000000000"

    async def both(call: Any, real: Any, absent: Any) -> None:
        async with refused("NOT_FOUND") as one:
            await call(real, metadata=other.metadata)
        async with refused("NOT_FOUND") as two:
            await call(absent, metadata=other.metadata)
        assert one[0].message.split()[1:] == two[0].message.split()[1:]

    await both(
        market.stub("licensing").GetLicense,
        licensing.GetLicenseRequest(name=purchase.license),
        licensing.GetLicenseRequest(name=nowhere),
    )
    await both(
        market.stub("access_broker").IssueToken,
        broker.IssueTokenRequest(request_id=request_id(), license=purchase.license),
        broker.IssueTokenRequest(request_id=request_id(), license=nowhere),
    )
    await both(
        market.stub("billing").GetOrder,
        billing.GetOrderRequest(name=purchase.order),
        billing.GetOrderRequest(name="orders/ord_00000000000000000000000000"),
    )
    async with refused("NOT_FOUND"):
        await market.stub("licensing").TerminateLicense(
            licensing.TerminateLicenseRequest(request_id=request_id(), name=purchase.license, reason="Mine now."),
            metadata=other.metadata,
        )
