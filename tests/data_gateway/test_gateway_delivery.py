"""What a token opens, over HTTP and through the real Delta Sharing client, against a real gateway."""

from __future__ import annotations

import asyncio
import http.client
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import delta_sharing
import pandas
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
import statsmodels
from gateway_world import World, world

from rochdale.data_gateway.v1 import events_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.signing import SigningKey
from rochdale_local.postgres import Postgres

SOURCE = Path(statsmodels.__file__).parent / "datasets/randhie/src/randhie.csv"


@pytest_asyncio.fixture(scope="module")
async def market(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(postgres, tmp_path_factory.mktemp("delivery")) as made:
        await made.add(SOURCE.read_bytes(), member_column="zper")
        yield made


@pytest.fixture(scope="module")
def source() -> Any:
    return pandas.read_csv(SOURCE)


async def test_the_real_client_loads_what_the_cooperative_added(market: World, source: Any) -> None:
    chain = await market.grant(list(source.columns))
    for delta in (None, True, False):
        frame = await market.load(market.token(chain), use_delta_format=delta)
        assert list(frame.columns) == list(source.columns) and len(frame) == 20_190
        pandas.testing.assert_frame_equal(frame.drop(columns="zper"), source.drop(columns="zper"), check_dtype=False)
        # Members stay apart from one another, and are not who they were.
        assert frame["zper"].nunique() == source["zper"].nunique() == 5_912
        assert frame["zper"].str.match("^m_[a-z2-7]{26}$").all()
        assert frame.groupby("zper", sort=False).ngroup().equals(source.groupby("zper", sort=False).ngroup())


async def test_the_client_lists_one_table_and_asks_for_its_version(market: World, source: Any) -> None:
    chain = await market.grant(list(source.columns))
    profile = market.profile(market.token(chain))
    tables = await asyncio.to_thread(delta_sharing.SharingClient(str(profile)).list_all_tables)
    assert [(one.share, one.schema, one.name) for one in tables] == [(market.cooperative, "data", "randhie")]
    url = f"{profile}#{market.cooperative}.data.randhie"
    assert await asyncio.to_thread(delta_sharing.get_table_version, url) == 1
    few = await asyncio.to_thread(delta_sharing.load_as_pandas, url, limit=5)
    assert len(few) == 5


async def test_a_license_for_some_columns_opens_no_others(market: World, source: Any) -> None:
    chain = await market.grant(["site", "mdvis", "zper"])
    frame = await market.load(market.token(chain))
    assert sorted(frame.columns) == ["mdvis", "site", "zper"]
    pandas.testing.assert_frame_equal(frame[["site", "mdvis"]], source[["site", "mdvis"]], check_dtype=False)
    narrower = market.token(chain, detail={"columns": ["mdvis"]})
    assert list((await market.load(narrower)).columns) == ["mdvis"]
    # The bytes themselves hold nothing else.
    listed = (await market.files(chain, narrower)).json()
    assert listed["columns"] == ["mdvis"]
    answer = await market.http.get(listed["files"][0]["url"], headers={"authorization": f"Bearer {narrower}"})
    assert pq.read_schema(io.BytesIO(answer.content)).names == ["mdvis"]
    assert b"zper" not in answer.content and b"site" not in answer.content


async def test_many_ask_for_the_same_columns_and_they_are_written_once(market: World) -> None:
    chain = await market.grant(["lncoins", "idp", "physlm"])
    token = market.token(chain, detail={"columns": ["lncoins", "physlm"]})
    folder = market.folder / "storage" / "projections"
    before = set(folder.iterdir())
    answers = await asyncio.gather(*(market.files(chain, token) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert len(set(folder.iterdir()) - before) == 2  # the folder and what its files are


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ttl": -10, "iat": 1}, "TOKEN_INVALID"),
        ({"aud": "gateways/another"}, "TOKEN_INVALID"),
        ({"aud": ["gateways/another"]}, "TOKEN_INVALID"),
        ({"iss": "somebody"}, "TOKEN_INVALID"),
        ({"ttl": 90_000}, "TOKEN_INVALID"),
        ({"exp": True}, "TOKEN_INVALID"),
        ({"cnf": {"jkt": "x"}}, "TOKEN_INVALID"),
        ({"authorization_details": []}, "TOKEN_INVALID"),
        ({"authorization_details": ...}, "TOKEN_INVALID"),
        ({"detail": {"row_filter": "site = 1"}}, "TOKEN_INVALID"),
        ({"detail": {"purposes": ...}}, "TOKEN_INVALID"),
        ({"detail": {"columns": "mdvis"}}, "TOKEN_INVALID"),
        ({"detail": {"columns": []}}, "TOKEN_INVALID"),
        ({"detail": {"columns": ["mdvis", "ssn"]}}, "TOKEN_INVALID"),
        ({"detail": {"first_version": 0}}, "TOKEN_INVALID"),
        ({"detail": {"first_version": True}}, "TOKEN_INVALID"),
        ({"detail": {"locations": ["http://elsewhere.example"]}}, "TOKEN_INVALID"),
        ({"detail": {"mode": "ACCESS_MODE_ALL"}}, "TOKEN_INVALID"),
        ({"detail": {"mode": 6}}, "TOKEN_INVALID"),
        ({"detail": {"type": "other"}}, "TOKEN_INVALID"),
        ({"detail": {"license": "licenses/lic_00000000000000000000000000"}}, "GRANT_UNKNOWN"),
    ],
)
async def test_a_token_that_is_not_ours_opens_nothing(market: World, change: dict[str, Any], reason: str) -> None:
    chain = await market.grant(["site", "mdvis"])
    good = market.token(chain)
    assert (await market.files(chain, good)).status_code == 200
    answer = await market.files(chain, market.token(chain, **change))
    assert answer.json()["errorCode"] == reason, answer.text
    assert answer.status_code == (403 if reason == "GRANT_UNKNOWN" else 401)


async def test_an_expired_a_tampered_and_a_foreign_token_are_refused(market: World) -> None:
    chain = await market.grant(["site", "mdvis"])
    short = market.token(chain, ttl=1)
    assert (await market.files(chain, short)).status_code == 200
    await asyncio.sleep(1.1)
    answer = await market.files(chain, short)
    assert (answer.status_code, answer.json()["errorCode"]) == (401, "TOKEN_EXPIRED")
    assert "rochdale token" in answer.json()["message"]
    assert answer.headers["www-authenticate"].startswith("Bearer")

    good = market.token(chain)
    head, payload, signature = good.split(".")
    flipped = ("A" if signature[5] != "A" else "B").join((signature[:5], signature[6:]))
    forged = market.token(chain, key=SigningKey.generate())
    for token in (f"{head}.{payload}.{flipped}", f"{head}.{payload}.", forged, "nonsense", "..", "é"):
        answer = await market.http.get(
            f"/v1/{chain.grant.license}/files", headers=[(b"authorization", f"Bearer {token}".encode())]
        )
        assert answer.status_code == 401, answer.text
    assert (await market.http.get(f"/v1/{chain.grant.license}/files")).json()["errorCode"] == "TOKEN_MISSING"


async def test_what_the_token_does_not_open_is_named(market: World) -> None:
    streamed = await market.grant(["site"], mode=scope_pb2.ACCESS_MODE_STREAM)
    token = market.token(streamed)
    assert len(await market.load(token)) == 20_190
    answer = await market.files(streamed, token)
    assert answer.status_code == 403 and answer.json()["errorCode"] == "REQUEST_OUTSIDE_TOKEN"
    assert answer.json()["facts"]["missing"] == "max_mode" and "rochdale token" in answer.json()["facts"]["fix"]

    chain = await market.grant(["site"], last_version=1)
    for version, status in ((1, 200), (2, 403)):
        assert (await market.files(chain, market.token(chain), version=version)).status_code == status
        assert (await market.query(market.token(chain), body={"version": version}))[0] == status
    later = await market.grant(["site"])
    assert (await market.files(later, market.token(later), version=7)).status_code == 404
    assert (await market.files(chain, market.token(later))).status_code == 404  # another license's files

    future = market.token(later, detail={"not_before": 4_000_000_000})
    answer = await market.files(later, future)
    assert (answer.status_code, answer.json()["facts"]["missing"]) == (403, "not_before")


async def test_the_protocol_to_the_letter(market: World) -> None:
    chain = await market.grant(["site", "mdvis"])
    token = market.token(chain)
    bearer = {"authorization": f"Bearer {token}"}
    base = f"/delta-sharing/shares/{market.cooperative}"
    table = f"{base}/schemas/data/tables/randhie"

    status, lines, headers = await market.query(token)
    assert status == 200 and headers["delta-table-version"] == "1"
    assert headers["content-type"] == "application/x-ndjson; charset=utf-8"
    assert [next(iter(line)) for line in lines] == ["protocol", "metaData", "file"]
    assert lines[1]["metaData"]["partitionColumns"] == [] and lines[2]["file"]["partitionValues"] == {}
    assert "X-Amz-Signature=" in lines[2]["file"]["url"] and "Bearer" not in lines[2]["file"]["url"]

    asked = {"delta-sharing-capabilities": "responseFormat=DELTA;readerfeatures=x;includeEndStreamAction=true"}
    _, lines, headers = await market.query(token, **asked)
    assert [next(iter(line)) for line in lines] == ["protocol", "metaData", "file", "endStreamAction"]
    assert lines[1]["metaData"]["deltaMetadata"]["format"]["options"] == {}
    assert "responseformat=delta" in headers["delta-sharing-capabilities"]

    assert len((await market.query(token, body={"limitHint": 0}))[1]) == 2
    assert len((await market.query(token, body={"predicateHints": ["ssn = 1"], "jsonPredicateHints": "{}"}))[1]) == 3
    for body in ({"limitHint": -1}, {"limitHint": "many"}, {"version": 1.5}, {"timestamp": "2026-01-01"}, [1]):
        status, lines, _ = await market.query(token, body=body)
        assert status == 400 and lines[0]["errorCode"], body
    assert (await market.query(token, body={"startingVersion": 0}))[1][0]["errorCode"] == "UNSUPPORTED_CHANGES"
    assert (await market.query(token, fileidhash="md5"))[0] == 400

    async def get(path: str, **query: Any) -> Any:
        return await market.http.get(path, params=query, headers=bearer)

    assert (await get(f"{table}/changes", startingVersion=0)).json()["errorCode"] == "UNSUPPORTED_CHANGES"
    assert (await get(f"{table}/version")).headers["delta-table-version"] == "1"
    assert (await get("/delta-sharing/shares")).json()["items"][0]["name"] == market.cooperative
    assert (await get(base.upper().replace("/DELTA-SHARING/SHARES", "/delta-sharing/shares"))).status_code == 200
    none = (await get("/delta-sharing/shares", maxResults=0)).json()
    assert none["items"] == []
    assert len((await get("/delta-sharing/shares", pageToken=none["nextPageToken"])).json()["items"]) == 1
    assert (await get("/delta-sharing/shares", pageToken="x")).json()["errorCode"] == "PAGE_TOKEN_INVALID"
    for path in (f"{base}x/schemas", f"{base}/schemas/x/tables", f"{table}x/version", "/delta-sharing/x", "/"):
        assert (await get(path)).status_code == 404, path


async def test_an_address_is_for_one_file_and_cannot_be_changed(market: World) -> None:
    chain = await market.grant(["site", "mdvis"])
    url = (await market.query(market.token(chain)))[1][2]["file"]["url"]
    assert (await market.http.get(url)).status_code == 200
    whole = await market.grant(pq_columns())
    other = (await market.query(market.token(whole)))[1][2]["file"]["url"]
    stolen = other.split("?")[0] + "?" + url.split("?")[1]
    expires = int(url.split("expires=")[1].split("&")[0])
    for changed in (stolen, url.replace(str(expires), str(expires + 900)), url[:-1], url.replace("/1/", "/2/")):
        assert (await market.http.get(changed)).json()["errorCode"] == "ADDRESS_INVALID"


def pq_columns() -> list[str]:
    return list(pandas.read_csv(SOURCE, nrows=1).columns)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/url.key",
        "data/../../../../url.key",
        "data/part-00000.parquet%00.txt",
        "data/part-00000.parquet/",
        "%ef%bc%8e%ef%bc%8e/url.key",
        "%c0%ae%c0%ae/url.key",
        "//etc/passwd",
        "",
    ],
)
async def test_names_never_become_paths(market: World, name: str) -> None:
    chain = await market.grant(["site"])
    token = market.token(chain)

    def raw() -> int:
        # http.client sends the path as it is; others clean it first.
        connection = http.client.HTTPConnection("127.0.0.1", market.port)
        path = f"/v1/{chain.grant.license}/datasets/randhie/versions/1/{name}"
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert b"root:" not in body
        return answer.status

    assert await asyncio.to_thread(raw) == 404


async def test_ranges_and_hashes_over_http(market: World) -> None:
    chain = await market.grant(["site", "mdvis", "disea"])
    token = market.token(chain)
    bearer = {"authorization": f"Bearer {token}"}
    file = (await market.files(chain, token)).json()["files"][0]
    url, size, etag = file["url"], file["size_bytes"], f'"{file["sha256"]}"'
    whole = await market.http.get(url, headers=bearer)
    assert len(whole.content) == size and whole.headers["etag"] == etag
    assert whole.headers["x-content-sha256"] == file["sha256"] and whole.headers["accept-ranges"] == "bytes"

    async def get(**headers: str) -> Any:
        return await market.http.get(
            url, headers={**bearer, **{name.replace("_", "-"): value for name, value in headers.items()}}
        )

    part = await get(range="bytes=100-199")
    assert part.status_code == 206 and part.content == whole.content[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{size}"
    assert (await get(range=f"bytes=-{size * 10}")).content == whole.content
    assert (await get(range="bytes=0-3", if_range=etag)).status_code == 206
    assert (await get(range="bytes=0-3", if_range='"other"')).status_code == 200
    beyond = await get(range=f"bytes={size}-")
    assert beyond.status_code == 416 and beyond.headers["content-range"] == f"bytes */{size}"
    same = await get(if_none_match=f"W/{etag}")
    assert same.status_code == 304 and same.content == b""
    head = await market.http.head(url, headers=bearer)
    assert head.status_code == 200 and int(head.headers["content-length"]) == size and head.content == b""
    basic = await market.http.get(url, auth=("license", token))
    assert basic.content == whole.content
    assert (await market.http.put(url, headers=bearer)).status_code in (404, 405)


async def test_what_left_is_told(market: World) -> None:
    chain = await market.grant(["site", "mdvis", "pmde"])
    token = market.token(chain)
    nats = market.broker.nats.jetstream()
    heard = await nats.subscribe("rochdale.data_gateway.v1.usage_recorded")
    file = (await market.files(chain, token)).json()["files"][0]
    await market.http.get(file["url"], headers={"authorization": f"Bearer {token}"})
    await market.http.get(file["url"], headers={"authorization": f"Bearer {token}", "range": "bytes=0-9"})
    sent = listed = 0
    async with asyncio.timeout(10):
        while sent < file["size_bytes"] + 10 or not listed:
            event = events_pb2.UsageRecorded.FromString((await heard.next_msg(timeout=5)).data)
            if event.license == chain.grant.license:
                assert event.grant == chain.grant.name and event.version.endswith("/datasets/randhie/versions/1")
                sent, listed = sent + event.sent_bytes, listed + event.listed_files
    assert (sent, listed) == (file["size_bytes"] + 10, 1)
    await heard.unsubscribe()
