"""Bad input at every door: a clear refusal with a published reason, nothing stored, no stack trace to the caller."""

import io
import json
import re
import time
from pathlib import Path

import grpc
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from house import refused, request_id
from walk import ACADEMIC, COMPANY, MarketPeople, NotYet, Purchase, Shelf, eventually

from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.data_gateway.v1 import data_gateway_pb2 as gateway
from rochdale.data_gateway.v1 import data_gateway_pb2_grpc
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import signature_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = set(
    re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "reference" / "refusals.md").read_text(), re.MULTILINE)
)


async def ingest(market: MarketPeople, shelf: Shelf, content: bytes, member_column: str = "") -> gateway.Ingestion:
    """Sends a file to Valley Health's gateway and waits for what becomes of it."""
    door = await market.gateway("valley-health")
    stub = data_gateway_pb2_grpc.DataGatewayServiceStub(market.channel_at(door.control_address))
    started = await stub.StartIngestion(
        gateway.StartIngestionRequest(
            request_id=request_id(),
            dataset="cooperatives/valley-health/datasets/randhie",
            size_bytes=len(content),
            member_column=member_column,
        ),
        metadata=shelf.steward.metadata,
    )
    async with httpx.AsyncClient(timeout=60) as client:
        await client.put(started.upload_url, content=content, headers={"Authorization": shelf.steward.metadata[0][1]})

    async def done() -> gateway.Ingestion:
        found = await stub.GetIngestion(gateway.GetIngestionRequest(name=started.name), metadata=shelf.steward.metadata)
        if found.state in (gateway.INGESTION_STATE_UPLOADING, gateway.INGESTION_STATE_PROCESSING):
            raise NotYet(found.state)
        return found

    return await eventually(done, 90)


def bomb() -> bytes:
    """A few hundred bytes of Parquet that decode to a gigabyte of text."""
    buffer = io.BytesIO()
    one = pa.array(["x" * 1_000_000]).dictionary_encode()
    table = pa.table({"x": pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), one.dictionary)})
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "member_column"),
    [
        (b'a,b\n1,2\n3,"unfinished', ""),
        (b"a,b\n1,2\n3\n", ""),
        (b"a,b\n1,2\n", "nobody"),
        (b"PAR1 this is no parquet", ""),
        (bomb(), ""),
    ],
    ids=["truncated", "short line", "unknown column", "no parquet", "bomb"],
)
async def test_a_bad_file_is_refused_and_leaves_nothing(
    market: MarketPeople, shelf: Shelf, content: bytes, member_column: str
) -> None:
    failed = await ingest(market, shelf, content, member_column)
    assert failed.state == gateway.INGESTION_STATE_FAILED
    assert failed.failure_reason in PUBLISHED, failed.failure_reason
    assert failed.failure_message and "Traceback" not in failed.failure_message
    assert not failed.HasField("version")
    storage, id = market.market.home / "gateways" / "valley-health" / "storage", failed.name.rsplit("/", 1)[1]

    async def gone() -> None:
        # Right after it is said to have failed, not before.
        if left := [path for path in storage.rglob("*") if path.is_file() and id in str(path)]:
            raise NotYet(left)

    await eventually(gone, 20)


async def test_a_path_is_never_a_way_out(market: MarketPeople, shelf: Shelf) -> None:
    purchase = Purchase(await market.licensee("walker", ACADEMIC), shelf.offering.name)
    await market.agree(purchase)
    await market.active(purchase)
    token = await market.token(purchase)
    await market.files(purchase, token)
    base = f"{token.gateway_url}/v1/{purchase.license}/datasets/randhie/versions/1/"
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token.token}"}) as client:
        for path in (
            "../../etc/passwd",
            "..%2f..%2fetc%2fpasswd",
            "%2e%2e/%2e%2e/etc/passwd",
            "data/%00",
            "%EF%BC%8E%EF%BC%8E/x",
            "/etc/passwd",
        ):
            answer = await client.get(httpx.URL(base).copy_with(raw_path=(httpx.URL(base).path + path).encode()))
            assert answer.status_code in (400, 404) and b"root:" not in answer.content, (path, answer.text)
            assert answer.json()["errorCode"] in PUBLISHED


async def test_a_request_of_ten_megabytes_is_refused_before_it_is_read(market: MarketPeople, shelf: Shelf) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await market.stub("catalog").SearchOfferings(catalog.SearchOfferingsRequest(query="x" * 10_000_000))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    door = await market.gateway("valley-health")
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{door.public_url}/delta-sharing/shares/x/schemas/data/tables/y/query", content=b"x" * 10_000_000
        )
        assert 400 <= answer.status_code < 500


async def test_an_offering_of_what_is_not_there_is_refused(market: MarketPeople, shelf: Shelf) -> None:
    request = catalog.PublishOfferingRequest(
        request_id=request_id(),
        parent="cooperatives/valley-health",
        title="x",
        scope=shelf.offering.scope,
        tiers=shelf.offering.tiers[:1],
        offering_id=new_id("off"),
        # What is wrong with the offering is said before whose signature it lacks.
        signature=signature_pb2.Signature(key_id="A" * 43, value=bytes(64)),
    )
    publish = market.stub("catalog").PublishOffering
    unknown = catalog.PublishOfferingRequest()
    unknown.CopyFrom(request)
    unknown.request_id = request_id()
    unknown.scope.datasets[0].columns.append("salary")
    async with refused("COLUMN_UNKNOWN", column="salary"):
        await publish(unknown, metadata=shelf.steward.metadata)
    for price, reason in ((Money(amount_minor=-1, currency="EUR"), "REQUEST_INVALID"),
                          (Money(amount_minor=1, currency="zzz"), "REQUEST_INVALID"),
                          (Money(amount_minor=1, currency="ZZZ"), "CURRENCY_UNKNOWN")):  # fmt: skip
        bad = catalog.PublishOfferingRequest()
        bad.CopyFrom(request)
        bad.request_id = request_id()
        bad.tiers[0].price.CopyFrom(price)
        async with refused(reason):
            await publish(bad, metadata=shelf.steward.metadata)
    wider = catalog.PublishOfferingRequest()
    wider.CopyFrom(request)
    wider.request_id = request_id()
    wider.scope.purposes.append("Marketing")
    async with refused("OFFERING_OUTSIDE_RULE") as found:
        await publish(wider, metadata=shelf.steward.metadata)
    assert "purposes" in found[0].facts["escapes"]


async def test_a_forged_webhook_changes_nothing(market: MarketPeople, shelf: Shelf) -> None:
    purchase = Purchase(await market.licensee("forger", COMPANY), shelf.offering.name)
    await market.agree(purchase)
    await market.order(purchase)
    event = {
        "id": "evt_forged",
        "object": "event",
        "type": "payment_intent.succeeded",
        "livemode": False,
        "created": int(time.time()),
        "data": {"object": {"id": "pi_forged", "object": "payment_intent", "metadata": {"order": purchase.order}}},
    }
    async with httpx.AsyncClient() as client:
        for signature in ("", "t=1,v1=00", f"t={int(time.time())},v1={'0' * 64}"):
            answer = await client.post(
                market.market.plan.webhook_url, content=json.dumps(event), headers={"Stripe-Signature": signature}
            )
            assert answer.status_code == 400 and answer.json()["errorCode"] in PUBLISHED
    order = await market.order(purchase)
    assert order.state == billing.ORDER_STATE_OPEN


async def test_a_token_that_is_not_genuine_opens_nothing(market: MarketPeople, shelf: Shelf) -> None:
    purchase = Purchase(await market.licensee("tamperer", ACADEMIC), shelf.offering.name)
    await market.agree(purchase)
    await market.active(purchase)
    token = await market.token(purchase)
    await market.files(purchase, token)
    head, body, signature = token.token.split(".")
    tampered = [
        # In the middle: the last byte of a signature is zero too often to alter it by a zero.
        f"{head}.{body}.{signature[:40]}{'B' if signature[40] == 'A' else 'A'}{signature[41:]}",
        f"{head}.{body}.",
        f"{head}.{body[:40]}{'B' if body[40] == 'A' else 'A'}{body[41:]}.{signature}",
        "x",
        "a.b.c",
        purchase.person.metadata[0][1].removeprefix("Bearer "),
    ]
    async with httpx.AsyncClient() as client:
        for bad in tampered:
            answer = await client.get(
                f"{token.gateway_url}/v1/{purchase.license}/files", headers={"Authorization": f"Bearer {bad}"}
            )
            assert answer.status_code == 401 and answer.json()["errorCode"] in PUBLISHED, answer.text
    for session in tampered[:5]:
        async with refused("SESSION_INVALID"):
            await market.stub("licensing").ListLicenses(
                licensing.ListLicensesRequest(), metadata=(("authorization", f"Bearer {session}"),)
            )
