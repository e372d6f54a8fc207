"""How a file becomes a version: uploaded, resumed, processed, looked at, approved; and how it does not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from gateway_world import World, world
from house import refused, request_id
from pydantic import ValidationError

from data_gateway.config import Config
from data_gateway.storage import Storage
from rochdale.data_gateway.v1 import data_gateway_pb2 as pb
from rochdale.data_gateway.v1 import data_gateway_pb2_grpc, events_pb2
from rochdale_local.postgres import Postgres

SMALL = b"who,age,city\n" + b"".join(b"p%d,%d,Rochdale\n" % (n // 2, n % 80) for n in range(400))


@pytest_asyncio.fixture(scope="module")
async def market(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(postgres, tmp_path_factory.mktemp("ingestion")) as made:
        yield made


def kept(market: World, ingestion: pb.Ingestion) -> list[str]:
    """Where something of an ingestion is on disk."""
    id, storage = ingestion.name.removeprefix("ingestions/"), market.folder / "storage"
    return [kind for kind in ("uploads", "work", "versions", "private") if (storage / kind / id).exists()]


async def nothing_kept(market: World, ingestion: pb.Ingestion) -> None:
    """A failed ingestion's files go right after its state says so."""
    deadline = time.monotonic() + 10
    while left := kept(market, ingestion):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.02)


async def processed(market: World, content: bytes = SMALL, **fields: Any) -> pb.Ingestion:
    ingestion = await market.announce(len(content), **fields)
    assert (await market.put(ingestion, content)).status_code == 200
    return await market.settled(ingestion)


async def test_a_steward_adds_a_version_and_the_market_hears_of_it(market: World) -> None:
    heard = await market.broker.nats.jetstream().subscribe("rochdale.data_gateway.v1.version_prepared")
    ingestion = await market.announce(
        len(SMALL), dataset=market.dataset("people"), sha256=hashlib.sha256(SMALL).hexdigest(), member_column="who"
    )
    assert ingestion.state == pb.INGESTION_STATE_UPLOADING and ingestion.upload_url.startswith(market.url)
    answer = await market.put(ingestion, SMALL)
    assert answer.json() == {"received_bytes": len(SMALL), "state": "INGESTION_STATE_PROCESSING"}
    done = await market.settled(ingestion)
    assert done.state == pb.INGESTION_STATE_AWAITING_APPROVAL and done.row_count == 400
    assert done.version.number == 0 and done.version.member_count == 200
    assert [column.name for column in done.version.columns] == ["who", "age", "city"]
    assert [column.member_pseudonym for column in done.version.columns] == [True, False, False]
    assert json.loads(done.version.sample_json)[0].keys() == {"age", "city"}
    # The raw upload, in which members have their own names, is gone.
    assert kept(market, ingestion) == ["versions", "private"]

    request = pb.ApproveVersionRequest(request_id=request_id(), name=ingestion.name, sample_columns=["age"])
    approved = await market.stewards.ApproveVersion(request, metadata=market.steward.metadata)
    assert await market.stewards.ApproveVersion(request, metadata=market.steward.metadata) == approved
    assert approved.version.number == 1 and approved.version.name == f"{market.dataset('people')}/versions/1"
    assert json.loads(approved.version.sample_json)[0].keys() == {"age"}
    event = events_pb2.VersionPrepared.FromString((await heard.next_msg(timeout=5)).data)
    assert event.version == approved.version and event.dataset == market.dataset("people")
    await heard.unsubscribe()
    async with refused("INGESTION_NOT_READY"):
        await market.approve(ingestion)


async def test_an_upload_goes_on_where_it_stopped(market: World) -> None:
    ingestion = await market.announce(len(SMALL))

    def half() -> Iterator[bytes]:
        yield SMALL[:100]
        raise OSError("the line broke")

    async def broken() -> AsyncIterator[bytes]:
        for piece in half():
            yield piece
            await asyncio.sleep(0.1)

    with pytest.raises(OSError, match="the line broke"):
        await market.put(ingestion, broken(), headers={"content-length": str(len(SMALL))})
    assert await market.offset(ingestion) == 100
    wrong = await market.put(ingestion, SMALL[50:], first=50)
    assert (wrong.status_code, wrong.json()["errorCode"]) == (409, "UPLOAD_OFFSET_WRONG")
    assert wrong.headers["upload-offset"] == wrong.json()["facts"]["upload_offset"] == "100"
    assert (await market.put(ingestion, SMALL)).status_code == 409  # from the start is an offset too
    part = await market.put(ingestion, SMALL[100:300], first=100)
    assert part.json() == {"received_bytes": 300, "state": "INGESTION_STATE_UPLOADING"}
    assert (await market.get(ingestion)).received_bytes == 300
    assert (await market.put(ingestion, SMALL[300:], first=300)).status_code == 200
    done = await market.settled(ingestion)
    assert done.row_count == 400 and await market.offset(ingestion) == len(SMALL)
    closed = await market.put(ingestion, SMALL)
    assert (closed.status_code, closed.json()["errorCode"]) == (409, "UPLOAD_CLOSED")


async def test_a_new_upload_takes_over_from_one_that_hangs(market: World) -> None:
    ingestion = await market.announce(len(SMALL))
    hold = asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield SMALL[:100]
        await hold.wait()

    first = asyncio.create_task(market.put(ingestion, hanging(), headers={"content-length": str(len(SMALL))}))
    async with asyncio.timeout(5):
        while not (await market.get(ingestion)).upload_url or not market.gateway:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    assert await market.offset(ingestion) == 100
    assert (await market.put(ingestion, SMALL[100:], first=100)).status_code == 200
    assert (await market.settled(ingestion)).row_count == 400
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_more_or_other_bytes_than_announced_are_refused(market: World) -> None:
    ingestion = await market.announce(100)
    answer = await market.put(ingestion, SMALL)
    assert (answer.status_code, answer.json()["errorCode"]) == (413, "UPLOAD_TOO_LARGE")

    async def endless() -> AsyncIterator[bytes]:
        yield b"a,b\n" * 25
        yield b"more"

    assert (await market.put(ingestion, endless())).status_code == 413
    assert await market.offset(ingestion) <= 100
    for header in ("bytes 0-99/200", "bytes 0-", "0-99/100", "bytes 99-0/100", "bytes */100"):
        other = await market.announce(100)
        answer = await market.put(other, b"a" * 100, headers={"content-range": header})
        assert (answer.status_code, answer.json()["errorCode"]) == (400, "CONTENT_RANGE_INVALID"), header

    corrupt = await market.announce(len(SMALL), sha256="0" * 64)
    answer = await market.put(corrupt, SMALL)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "UPLOAD_CORRUPT")
    failed = await market.get(corrupt)
    assert failed.state == pb.INGESTION_STATE_FAILED and failed.failure_reason == "UPLOAD_CORRUPT"
    await nothing_kept(market, corrupt)

    async with refused("FILE_TOO_LARGE"):
        await market.announce(1 << 40)


async def test_a_full_disk_is_said_and_what_arrived_goes_on_later(market: World) -> None:
    ingestion = await market.announce(len(SMALL))
    await market.put(ingestion, SMALL[:0], headers={"content-range": f"bytes 0-99/{len(SMALL)}"})
    upload = market.folder / "storage" / "uploads" / ingestion.name.removeprefix("ingestions/")
    upload.unlink()
    upload.symlink_to("/dev/full")  # takes no byte, as a full disk does
    answer = await market.put(ingestion, SMALL)
    assert (answer.status_code, answer.json()["errorCode"]) == (413, "STORAGE_FULL")
    assert (await market.get(ingestion)).state == pb.INGESTION_STATE_UPLOADING
    upload.unlink()
    assert (await market.put(ingestion, SMALL)).status_code == 200
    assert (await market.settled(ingestion)).row_count == 400


async def test_a_broken_file_is_named_and_nothing_of_it_is_kept(market: World) -> None:
    broken = await processed(market, SMALL + b"one,two\n")
    assert broken.state == pb.INGESTION_STATE_FAILED and broken.failure_reason == "BROKEN_ROW"
    assert "402" in broken.failure_message and not broken.HasField("version")
    await nothing_kept(market, broken)
    async with refused("INGESTION_NOT_READY", state="FAILED"):
        await market.approve(broken)
    aside = await processed(market, SMALL + b"one,two\n", broken_rows=pb.BROKEN_ROWS_SET_ASIDE)
    assert (aside.row_count, aside.rejected_row_count) == (400, 1)
    unknown = await processed(market, member_column="nobody")
    assert unknown.failure_reason == "COLUMN_UNKNOWN"


async def test_a_forgotten_member_column_does_not_show_the_members(market: World) -> None:
    shown, hidden = b"Who,age\np1,4\np2,5\n", b"who,age\np1,1\np2,2\n"
    people = market.dataset("forgotten")
    # Both are processed while no version is approved yet, so nothing speaks against the first of them.
    naming = await processed(market, shown, dataset=people)
    assert naming.state == pb.INGESTION_STATE_AWAITING_APPROVAL
    await market.approve(await processed(market, hidden, dataset=people, member_column="who"))
    async with refused("MEMBER_COLUMN_EXPOSED"):
        await market.approve(naming)
    late = await processed(market, shown, dataset=people)
    assert late.failure_reason == "MEMBER_COLUMN_EXPOSED" and "'Who'" in late.failure_message
    await nothing_kept(market, late)
    # Without that column there is nothing to hide, and another dataset is another matter.
    assert (await market.approve(await processed(market, b"age\n1\n2\n", dataset=people))).version.number == 2
    assert (await processed(market, shown)).state == pb.INGESTION_STATE_AWAITING_APPROVAL


async def test_a_rejected_version_is_gone(market: World) -> None:
    done = await processed(market)
    request = pb.RejectVersionRequest(name=done.name)
    first = await market.stewards.RejectVersion(request, metadata=market.steward.metadata)
    assert first.state == pb.INGESTION_STATE_FAILED and first.failure_reason == "VERSION_REJECTED"
    await nothing_kept(market, done)
    assert not first.HasField("version")
    assert await market.stewards.RejectVersion(request, metadata=market.steward.metadata) == first
    async with refused("INGESTION_NOT_READY"):
        await market.approve(done)


async def test_a_sample_shows_only_what_the_steward_chose(market: World) -> None:
    withheld = await market.approve(await processed(market, member_column="who"), withhold_sample=True)
    assert withheld.version.sample_json == ""
    done = await processed(market, member_column="who")
    for column in ("ssn", "who"):
        async with refused("COLUMN_UNKNOWN", column=column):
            await market.approve(done, sample_columns=[column])
    assert (await market.approve(done)).state == pb.INGESTION_STATE_APPROVED


async def test_versions_approved_at_once_are_numbered_without_gaps(market: World) -> None:
    dataset = market.dataset("numbered")
    done = [await processed(market, dataset=dataset) for _ in range(4)]
    approved = await asyncio.gather(*(market.approve(one) for one in done))
    assert sorted(one.version.number for one in approved) == [1, 2, 3, 4]


async def test_a_retried_announcement_is_the_same_ingestion(market: World) -> None:
    request = pb.StartIngestionRequest(request_id=request_id(), dataset=market.dataset(), size_bytes=10)
    first = await market.stewards.StartIngestion(request, metadata=market.steward.metadata)
    assert await market.stewards.StartIngestion(request, metadata=market.steward.metadata) == first
    request.size_bytes = 11
    async with refused("REQUEST_ID_REUSED"):
        await market.stewards.StartIngestion(request, metadata=market.steward.metadata)
    page = await market.stewards.ListIngestions(pb.ListIngestionsRequest(page_size=1), metadata=market.steward.metadata)
    assert page.ingestions[0].name == first.name and page.next_page_token
    async with refused("PAGE_TOKEN_INVALID"):
        await market.stewards.ListIngestions(pb.ListIngestionsRequest(page_token="x"), metadata=market.steward.metadata)


async def test_for_everybody_else_nothing_is_here(market: World) -> None:
    ingestion = await market.announce(len(SMALL))
    buyer = await market.house.buyer(f"buyer-{market.house.tag}")
    operator = await market.house.operator()
    stewards = market.stewards
    calls = [
        (
            stewards.StartIngestion,
            pb.StartIngestionRequest(request_id=request_id(), dataset=market.dataset(), size_bytes=1),
        ),
        (stewards.GetIngestion, pb.GetIngestionRequest(name=ingestion.name)),
        (stewards.ListIngestions, pb.ListIngestionsRequest()),
        (stewards.ApproveVersion, pb.ApproveVersionRequest(request_id=request_id(), name=ingestion.name)),
        (stewards.RejectVersion, pb.RejectVersionRequest(name=ingestion.name)),
    ]
    for person in (market.stranger, buyer, operator):
        for call, request in calls:
            async with refused("NOT_FOUND"):
                await call(request, metadata=person.metadata)
        answer = await market.http.put(ingestion.upload_url, content=SMALL, headers=dict(person.metadata))
        assert answer.status_code == 404
        assert (await market.http.head(ingestion.upload_url, headers=dict(person.metadata))).status_code == 404
    assert (await market.http.put(ingestion.upload_url, content=SMALL)).json()["errorCode"] == "SESSION_MISSING"
    async with refused("NOT_FOUND"):
        await market.announce(10, dataset=f"cooperatives/other-{market.house.tag}/datasets/randhie")
    for name in ("ing_x", "..%2f..%2fetc", "ing_" + "0" * 26):
        answer = await market.http.put(
            f"/v1/ingestions/{name}/content", content=b"x", headers=dict(market.steward.metadata)
        )
        assert answer.status_code == 404


def test_an_address_nobody_could_call_stops_the_start(market: World) -> None:
    settings = {**market.settings, "database_url": "postgresql+asyncpg://x", "nats_url": "nats://x"}
    with pytest.raises(ValidationError, match="CONTROL_ADDRESS"):
        Config(**settings, grpc_address="0.0.0.0:50051")
    assert Config(**settings, grpc_address="0.0.0.0:50051", control_address="gateway:50051")


async def test_one_folder_belongs_to_one_gateway(market: World) -> None:
    with pytest.raises(SystemExit, match="Another gateway uses"):
        Storage(market.folder / "storage")


async def test_an_ingestion_interrupted_by_a_kill_is_begun_again(market: World) -> None:
    content = b"who,age,city\n" + b"".join(b"p%d,%d,Rochdale\n" % (n // 2, n % 80) for n in range(1_500_000))
    url = await market.house.database_url("data_gateway")
    await market.stop()
    settings = {
        **market.settings,
        "database_url": url,
        "nats_url": market.house.nats.url(),
        "identity_address": market.house.services["identity"].grpc_address,
        "grpc_address": "127.0.0.1:0",
    }
    environment = {**os.environ, **{f"DATA_GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}}
    process = subprocess.Popen([sys.executable, "-m", "data_gateway"], env=environment)
    try:
        control = ""
        async with asyncio.timeout(30):
            while not control:
                await asyncio.sleep(0.2)
                assert process.poll() is None
                try:
                    if (await market.http.get("/health")).status_code == 200:
                        control = market.broker.registered[-1].control_address
                except httpx.TransportError:
                    continue
        async with grpc.aio.insecure_channel(control) as channel:
            stub = data_gateway_pb2_grpc.DataGatewayServiceStub(channel)
            ingestion = await stub.StartIngestion(
                pb.StartIngestionRequest(
                    request_id=request_id(),
                    dataset=market.dataset("interrupted"),
                    size_bytes=len(content),
                    member_column="who",
                ),
                metadata=market.steward.metadata,
            )
            assert (await market.put(ingestion, content)).status_code == 200
            async with asyncio.timeout(60):
                while True:
                    found = await stub.GetIngestion(
                        pb.GetIngestionRequest(name=ingestion.name), metadata=market.steward.metadata
                    )
                    assert found.state == pb.INGESTION_STATE_PROCESSING, "too fast to be interrupted"
                    if found.processed_bytes:
                        break
                    await asyncio.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    await market.start()
    done = await market.settled(ingestion)
    assert done.state == pb.INGESTION_STATE_AWAITING_APPROVAL and done.row_count == 1_500_000
    assert done.processed_bytes == 2 * len(content)
    assert kept(market, ingestion) == ["versions", "private"]
