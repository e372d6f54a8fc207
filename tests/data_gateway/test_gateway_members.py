"""Whose rows leave: only those of members who agreed, now. And how a withdrawal travels to disk, market and licensee."""

from __future__ import annotations

import asyncio
import io
import json
import random
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from gateway_world import World, world
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_gateway.domain.consents import is_later
from data_gateway.domain.withdrawals import received
from data_gateway.ingest import pseudonym, pseudonym_of_reference
from data_gateway.ingest.members import canonical_text
from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.data_gateway.v1 import events_pb2
from rochdale.governance.v1 import membership_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.outbox import subject_of
from rochdale_local.postgres import Postgres

E = TypeVar("E", bound=Message)

PEOPLE = [str(1000 + n) for n in range(12)]


def rows_of(people: list[str], each: int = 5) -> bytes:
    """The members' own numbers are integers here; governance knows them as text."""
    return b"who,visits,site\n" + b"".join(
        f"{who},{index * each + n},s{n % 3}\n".encode() for n in range(each) for index, who in enumerate(people)
    )


@pytest_asyncio.fixture(scope="module")
async def market(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(postgres, tmp_path_factory.mktemp("members"), withdrawal_version_seconds=3600) as made:
        yield made


@pytest_asyncio.fixture(scope="module")
async def hasty(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A gateway that makes the version without the rows at once."""
    async with world(postgres, tmp_path_factory.mktemp("hasty"), withdrawal_version_seconds=0) as made:
        yield made


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def name_of(market: World, reference: str) -> str:
    return pseudonym((market.folder / "pseudonym.key").read_bytes(), reference)


async def downloaded(market: World, chain: broker.GrantChain, token: str, **query: Any) -> pandas.DataFrame:
    """Everything the door of files gives, each file checked against its list."""
    answer = await market.files(chain, token, **query)
    assert answer.status_code == 200, answer.text
    frames = []
    for file in answer.json()["files"]:
        got = await market.http.get(file["url"], headers=bearer(token))
        assert got.status_code == 200 and got.headers["x-content-sha256"] == file["sha256"], got.text
        frames.append(pq.read_table(io.BytesIO(got.content)).to_pandas())
        assert len(frames[-1]) == file["row_count"] > 0
    return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame()


async def next_of(market: World, kind: type[E], subscription: Any, dataset: str, seconds: float = 20) -> E:
    async with asyncio.timeout(seconds):
        while True:
            event = kind.FromString((await subscription.next_msg(timeout=seconds)).data)
            if f"/datasets/{dataset}/" in str(event):
                return event


async def subscribed(market: World, kind: type[E]) -> Any:
    return await market.broker.nats.jetstream().subscribe(subject_of(kind.DESCRIPTOR.full_name))


async def test_the_real_client_no_longer_gets_who_withdrew(market: World) -> None:
    await market.add(rows_of(PEOPLE), "walk", member_column="who")
    chain = await market.grant(["who", "visits", "site"], "walk")
    token = market.token(chain)
    before = await market.load(token, "walk")
    assert len(before) == 60 and name_of(market, "1003") in set(before["who"])
    address = (await market.query(token, "walk"))[1][2]["file"]["url"]
    listed = (await market.files(chain, token)).json()["files"][0]["url"]
    assert (await market.http.get(address)).status_code == 200
    assert (await market.http.get(listed, headers=bearer(token))).status_code == 200

    await market.governance.withdraw(["1003"], "walk")
    async with asyncio.timeout(5):
        while (answer := await market.http.get(address)).status_code == 200:
            await asyncio.sleep(0.02)
    assert (answer.status_code, answer.json()["errorCode"]) == (403, "FILE_WITHDRAWN")
    assert "List the files again" in answer.json()["message"]
    gone = await market.http.get(listed, headers=bearer(token))
    assert (gone.status_code, gone.json()["errorCode"]) == (403, "FILE_WITHDRAWN")
    after = await market.load(token, "walk")
    expected = before[before["who"] != name_of(market, "1003")].reset_index(drop=True)
    pandas.testing.assert_frame_equal(after, expected)
    pandas.testing.assert_frame_equal(await downloaded(market, chain, token), expected, check_dtype=False)
    lines = (await market.query(token, "walk"))[1]
    assert json.loads(lines[2]["file"]["stats"])["numRecords"] == 55
    # Agreeing again brings the rows back, and a list made before it stays good: nobody in it withdrew.
    kept = (await market.files(chain, token)).json()["files"][0]["url"]
    await market.agree(["1003"], "walk")
    assert len(await market.load(token, "walk")) == 60
    assert (await market.http.get(kept, headers=bearer(token))).status_code == 200


async def test_without_a_record_nobody_is_served_and_a_refusal_refuses(market: World) -> None:
    await market.add(rows_of(PEOPLE), "silent", agreed=False, member_column="who")
    chain = await market.grant(["visits"], "silent")
    token = market.token(chain)
    assert len(await downloaded(market, chain, token)) == 0
    # Not in the Delta format: there the client leaves a folder behind when a table has no files.
    assert list((await market.load(token, "silent", use_delta_format=False)).columns) == ["visits"]
    company = [scope_pb2.BUYER_CATEGORY_COMPANY]
    await market.agree(PEOPLE[:2], "silent")
    await market.agree(PEOPLE[2:4], "silent", purposes=["Marketing"])
    await market.agree(PEOPLE[4:6], "silent", categories=company)
    await market.agree(PEOPLE[6:8], "silent", purposes=["ResearchAndDevelopment"])
    await market.governance.consent(PEOPLE[8:9], "silent", purposes=[], categories=[])
    async with asyncio.timeout(5):
        while len(frame := await downloaded(market, chain, token)) != 20:
            await asyncio.sleep(0.05)
    served = [index for index in range(12) if index in (0, 1, 6, 7)]
    assert sorted(frame["visits"]) == sorted(index * 5 + n for index in served for n in range(5))
    # Another dataset's consent, and one without members.
    await market.add(b"n\n1\n2\n", "plain")
    plain = await market.grant(["n"], "plain")
    assert len(await downloaded(market, plain, market.token(plain))) == 2


async def test_what_leaves_without_some_rows_is_told_like_everything_else(market: World) -> None:
    await market.add(rows_of(PEOPLE), "told", agreed=False, member_column="who")
    await market.agree(PEOPLE[:6], "told")
    heard = await subscribed(market, events_pb2.UsageRecorded)
    chain = await market.grant(["visits"], "told")
    token = market.token(chain)
    (file,) = (await market.files(chain, token)).json()["files"]
    await market.http.get(file["url"], headers=bearer(token))
    sent = listed = 0
    while not (sent and listed):
        event = await next_of(market, events_pb2.UsageRecorded, heard, "told")
        sent, listed = sent + event.sent_bytes, listed + event.listed_files
        assert (event.license, event.version) == (chain.grant.license, f"{market.dataset('told')}/versions/1")
    assert (sent, listed) == (file["size_bytes"], 1)
    await heard.unsubscribe()


async def test_a_download_under_way_is_cut_when_somebody_in_it_withdraws(market: World) -> None:
    content = b"who,noise\n" + b"".join(f"{PEOPLE[n % 12]},{secrets.token_hex(500)}\n".encode() for n in range(24_000))
    await market.add(content, "noise", member_column="who")
    chain = await market.grant(["noise"], "noise")
    token = market.token(chain)
    url = (await market.files(chain, token)).json()["files"][0]["url"]
    async with httpx.AsyncClient(timeout=20) as client, client.stream("GET", url, headers=bearer(token)) as answer:
        size, received = int(answer.headers["content-length"]), 0
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            async for piece in answer.aiter_raw(65_536):
                if not received:
                    await market.governance.withdraw([PEOPLE[0]], "noise")
                    await asyncio.sleep(1)
                received += len(piece)
        assert 0 < received < size


async def test_what_was_missed_while_away_is_made_up_for(market: World) -> None:
    await market.add(rows_of(PEOPLE), "away", member_column="who")
    chain = await market.grant(["who"], "away")
    token = market.token(chain)
    assert len(await downloaded(market, chain, token)) == 60
    await market.stop()
    # The event never comes; governance knows.
    await market.governance.withdraw(PEOPLE[:1], "away", announced=False)
    await market.start()
    assert len(await downloaded(market, chain, token)) == 55


@given(seed=st.integers(0, 2**32))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_delivered_is_what_an_independent_filter_says(market: World, seed: int) -> None:
    """Random rows, members and consents: both doors, with the member column and without."""
    chance = random.Random(seed)
    dataset = f"p{secrets.token_hex(4)}"
    people = [f"{chance.choice('ab')}{n}" for n in range(chance.randint(1, 9))]
    rows = [(chance.choice(people), number, chance.choice(["x", "y", ""])) for number in range(chance.randint(1, 200))]
    content = "who,n,t\n" + "".join(f"{who},{n},{t}\n" for who, n, t in rows)
    await market.add(content.encode(), dataset, agreed=False, member_column="who")
    agreed = {who for who in people if chance.random() < 0.6}
    other = {who for who in people if chance.random() < 0.3} - agreed
    if other:
        await market.agree(sorted(other), dataset, purposes=["Marketing"])
    if agreed:
        await market.agree(sorted(agreed), dataset)
    left = {who for who in agreed if chance.random() < 0.4}
    if left:
        await market.governance.withdraw(sorted(left), dataset)
        await market.heard(sorted(left), dataset, given=False)
    expected = [(who, n) for who, n, _ in rows if who in agreed - left]
    for columns in (["who", "n", "t"], ["n"], ["t", "n"]):
        chain = await market.grant(columns, dataset)
        token = market.token(chain)
        frames = [await downloaded(market, chain, token), await market.load(token, dataset)]
        for frame in frames:
            assert [int(n) for n in frame["n"]] == [n for _, n in expected] if expected else frame.empty
            if "who" in columns and expected:
                assert list(frame["who"]) == [name_of(market, who) for who, _ in expected]
        lines = (await market.query(token, dataset))[1]
        counted = sum(json.loads(line["file"]["stats"])["numRecords"] for line in lines if "file" in line)
        assert counted == len(expected)


async def test_what_members_contributed_is_told_as_they_become_known(market: World) -> None:
    heard = await subscribed(market, events_pb2.ContributionsRecorded)
    await market.add(rows_of(PEOPLE, each=2), "shares", agreed=False, member_column="who")
    await market.agree(PEOPLE[:3], "shares", announced=True)
    found: dict[str, events_pb2.MemberContribution] = {}
    while len(found) < 12 and len(found.keys() & {market.governance.member(who) for who in PEOPLE[:3]}) < 3:
        event = await next_of(market, events_pb2.ContributionsRecorded, heard, "shares")
        assert event.version == f"{market.dataset('shares')}/versions/1"
        found |= {one.member: one for one in event.contributions}
    assert {one.row_count for one in found.values()} == {2}
    assert len({one.rows_hash for one in found.values()}) == len(found)
    assert "1001" not in str(event) and name_of(market, "1001") not in str(event)
    await heard.unsubscribe()


async def test_a_withdrawal_becomes_a_version_and_licensees_learn_which_rows(hasty: World) -> None:
    prepared = await subscribed(hasty, events_pb2.VersionPrepared)
    superseded = await subscribed(hasty, events_pb2.VersionSuperseded)
    await hasty.add(rows_of([*PEOPLE, "1099"]), "travel", agreed=False, member_column="who")
    await hasty.agree(PEOPLE, "travel")  # 1099 never said anything
    chain = await hasty.grant(["who", "visits"], "travel")
    narrow = await hasty.grant(["visits"], "travel")
    pinned = await hasty.grant(["visits"], "travel", last_version=1)
    token = hasty.token(chain)
    first = await downloaded(hasty, chain, token)
    assert len(first) == 60
    await downloaded(hasty, narrow, hasty.token(narrow))
    await asyncio.sleep(1.5)  # the meter writes what was delivered once a second

    await hasty.governance.withdraw(PEOPLE[2:4], "travel")
    event = await next_of(hasty, events_pb2.VersionSuperseded, superseded, "travel")
    base = hasty.dataset("travel")
    assert (event.version, event.superseded_by, event.removed_row_count) == (
        f"{base}/versions/1",
        f"{base}/versions/2",
        10,
    )
    while (version := (await next_of(hasty, events_pb2.VersionPrepared, prepared, "travel")).version).number != 2:
        pass
    # Who said nothing is still in it, and still not served.
    assert version.row_count == 55 and version.member_count == 10
    assert [column.name for column in version.columns] == ["who", "visits", "site"]
    assert "1003" not in version.sample_json and json.loads(version.sample_json)[0].keys() == {"visits", "site"}
    listing = (await hasty.files(chain, token)).json()
    assert listing["version"] == 2
    after = await downloaded(hasty, chain, token)
    left = {name_of(hasty, who) for who in PEOPLE[2:4]}
    assert len(after) == 50 and not left & set(after["who"])
    assert len(await downloaded(hasty, pinned, hasty.token(pinned))) == 50  # version 1, without the rows
    assert (await hasty.files(pinned, hasty.token(pinned))).json()["version"] == 1

    for grant, shown in ((chain, True), (narrow, False)):
        path = f"/v1/{grant.grant.license}/withdrawals"
        answer = (await hasty.http.get(path, headers=bearer(hasty.token(grant)))).json()
        assert answer["license"] == grant.grant.license and len(answer["withdrawals"]) == 2
        for line in answer["withdrawals"]:
            assert line["version"] == f"{base}/versions/1" and line["row_count"] == 5 and line["withdraw_time"]
            assert (line.get("pseudonym") in left) == shown
            (file,) = line["rows"]
            assert file["path"] == "data/part-00000.parquet" and len(file["positions"]) == 5
            if shown:  # positions count in the file as it was received, without the rows of whoever said nothing
                assert set(first.iloc[file["positions"]]["who"]) == {line["pseudonym"]}
    never = await hasty.http.get(f"/v1/{pinned.grant.license}/withdrawals", headers=bearer(hasty.token(pinned)))
    assert never.json()["withdrawals"] == []
    foreign = await hasty.http.get(f"/v1/{narrow.grant.license}/withdrawals", headers=bearer(token))
    assert foreign.status_code == 404
    # Once, and a restart does not do it again.
    await hasty.stop()
    await hasty.start()
    await asyncio.sleep(1.5)
    assert (await hasty.files(chain, token)).json()["version"] == 2
    await prepared.unsubscribe()
    await superseded.unsubscribe()


def on_disk(market: World, needle: bytes) -> list[Path]:
    """Files of the gateway that hold these bytes, Parquet as it reads."""
    found = []
    for path in (market.folder / "storage").rglob("*"):
        if path.is_file():
            plain = path.read_bytes()
            if path.suffix == ".parquet":
                plain = json.dumps(pq.read_table(path).to_pydict(), default=str).encode()
            if needle in plain:
                found.append(path)
    return found


async def test_who_is_erased_leaves_the_disk(hasty: World) -> None:
    content = rows_of(PEOPLE).replace(b"site\n", b"site,note\n", 1)
    lines = [line + (b",only-1005" if line.startswith(b"1005,") else b",x") for line in content.splitlines()[1:]]
    await hasty.add(b"who,visits,site,note\n" + b"\n".join(lines) + b"\n", "erased", member_column="who")
    chain = await hasty.grant(["who", "note"], "erased")
    token = hasty.token(chain)
    assert len(await downloaded(hasty, chain, token)) == 60
    narrow = await hasty.grant(["note"], "erased", last_version=1)
    address = (await hasty.query(hasty.token(narrow), "erased"))[1][2]["file"]["url"]
    assert on_disk(hasty, b"only-1005")
    await hasty.governance.erase("1005", "erased")
    async with asyncio.timeout(20):
        while on_disk(hasty, b"only-1005") or on_disk(hasty, name_of(hasty, "1005").encode()):
            await asyncio.sleep(0.1)
    refused = await hasty.http.get(address)
    assert (refused.status_code, refused.json()["errorCode"]) == (403, "FILE_WITHDRAWN")
    async with asyncio.timeout(20):
        while (await hasty.files(chain, token)).json()["version"] != 2:
            await asyncio.sleep(0.1)
    assert len(await downloaded(hasty, chain, token)) == 55
    older = await downloaded(hasty, narrow, hasty.token(narrow))
    assert len(older) == 55 and set(older["note"]) == {"x"}
    # Others go on withdrawing from what is left, and a restart finds the disk in order.
    await hasty.governance.withdraw(["1006"], "erased")
    await hasty.heard(["1006"], "erased", given=False)
    await hasty.stop()
    # As if a crash had come between a commit and the disk, and another one between the disk and a commit.
    storage = hasty.folder / "storage"
    purged = next((storage / "versions").glob("*/g1")).parent
    shutil.copytree(purged / "g1" / "data", purged / "data")
    orphan = storage / "versions" / f"ing_{'0' * 26}"
    orphan.mkdir()
    await hasty.start()
    assert len(await downloaded(hasty, narrow, hasty.token(narrow))) == 50
    async with asyncio.timeout(5):
        while orphan.exists() or (purged / "data").exists():
            await asyncio.sleep(0.05)
    # Rows that come back in a new file are not served, and go again.
    await hasty.add(rows_of(["1005", "1007"]), "erased", agreed=False, member_column="who")
    async with asyncio.timeout(20):
        while (await hasty.files(chain, token)).json()["version"] < 4 or on_disk(
            hasty, name_of(hasty, "1005").encode()
        ):
            await asyncio.sleep(0.1)
    assert len(await downloaded(hasty, chain, token)) == 5


def test_a_reference_meets_the_column_whatever_its_type() -> None:
    key = b"k" * 32
    for column in ([1001], [1001.0], ["1001"]):
        text = canonical_text(pa.array(column))[0].as_py()
        assert pseudonym(key, text) == pseudonym_of_reference(key, "1001")
    assert pseudonym_of_reference(key, " ") is None
    assert pseudonym_of_reference(key, "01001") != pseudonym_of_reference(key, "1001")


def test_events_in_any_order_end_in_the_same_consent() -> None:
    given = membership_pb2.Consent(name="a/consents/con_1")
    given.give_time.seconds = 10
    over = membership_pb2.Consent()
    over.CopyFrom(given)
    over.end_time.seconds = 20
    again = membership_pb2.Consent(name="a/consents/con_2")
    again.give_time.seconds = 30
    order = [given, over, again]
    for one in range(3):
        for other in range(3):
            assert is_later(order[one], order[other]) == (one > other)


@given(st.lists(st.integers(0, 5), max_size=60), st.sets(st.integers(0, 5)))
def test_positions_are_those_of_the_file_received(owners: list[int], absent: set[int]) -> None:
    rows = {who: {"f": [n for n, owner in enumerate(owners) if owner == who]} for who in set(owners)}
    delivered = [owner for owner in owners if owner not in absent]
    for who in set(owners) - absent:
        expected = [n for n, owner in enumerate(delivered) if owner == who]
        assert received(rows[who], [rows[one] for one in absent & set(owners)]) == {"f": expected}
