"""What a visitor sees, over a real storefront, and a governance and a catalog over real gRPC. Votes are in test_votes."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from authority import Authority
from hall import Hall
from house import House

from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2 as pb
from rochdale.type.v1 import pricing_pb2
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import now
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """A page as a browser reads it: its tags, links and text; fails on what our pages must never hold."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.ids: list[str] = []
        self.language = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        assert tag not in ("script", "style", "iframe", "object"), "a page runs nothing"
        assert not any(name.startswith("on") or name == "style" for name in found), found
        self.tags.append(tag)
        if "id" in found:
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag == "img":
            assert found["src"] == "/icon.svg" and "alt" in found
        if tag == "html":
            self.language = str(found["lang"])

    def handle_data(self, data: str) -> None:
        self.text += data


class Shop:
    """The storefront, what stands behind it, and a browser."""

    def __init__(
        self, house: House, shelf: Any, hall: Hall, client: httpx.AsyncClient, offering: catalog_pb2.Offering
    ) -> None:
        self.house, self.shelf, self.hall, self.client, self.offering = house, shelf, hall, client, offering

    async def page(self, path: str, status: int = 200) -> Page:
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text[:500]
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "script-src" not in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        page = Page(answer.text)
        assert page.language == "en" and page.tags.count("h1") == 1 and page.tags.count("main") == 1
        assert {"header", "nav", "footer"} <= set(page.tags) and len(page.ids) == len(set(page.ids))
        return page


def put_rule(hall: Hall, authority: Authority, rationale: str) -> pb.SharingRule:
    """A rule its members decided, signed and in force."""
    rule = authority.rule(
        scope.SharingScope(
            datasets=[
                scope.DatasetScope(
                    dataset=f"{authority.name}/datasets/randhie", first_version=1, columns=["mdvis", "age", "site"]
                )
            ],
            categories=[scope.BUYER_CATEGORY_ACADEMIC, scope.BUYER_CATEGORY_SME, scope.BUYER_CATEGORY_COMPANY],
            purposes=["ResearchAndDevelopment"],
            actions=[scope.USE_ACTION_ANALYZE, scope.USE_ACTION_PRETRAIN],
            max_mode=scope.ACCESS_MODE_DOWNLOAD,
            floor_price=Money(amount_minor=0, currency="EUR"),
            territories=["WORLD"],
            max_duration_seconds=365 * 86_400,
            duties=[scope.DUTY_NO_REIDENTIFICATION, scope.DUTY_ATTRIBUTION],
        ),
        now() - dt.timedelta(days=1),
    )
    rule.rationale = rationale
    hall.rules[rule.name] = rule
    return rule


@pytest_asyncio.fixture(scope="module")
async def shop(
    postgres: Postgres, nats_server: NatsServer, shelf: Any, hall: Hall, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    house = House(postgres, nats_server, tmp_path_factory.mktemp("house"))
    storefront = await house.start(
        "storefront",
        http_address="127.0.0.1:0",
        catalog_address=shelf.address,
        governance_address=hall.address,
    )
    authority = Authority("valley")
    valley = authority.document()
    valley.MergeFrom(
        pb.Cooperative(
            display_name="Valley Health",
            description="Patients of the valley & their friends.",
            charter=pb.Charter(required_approvals=1, text="We share with care."),
        )
    )
    hall.cooperatives[valley.name] = valley
    rule = put_rule(hall, authority, "Research helps us all. <b>Truly</b>.")
    shelf.put_dataset(
        rule.scope.datasets[0].dataset,
        "Health insurance experiment",
        [{"zper": "p1", "mdvis": 3, "age": 41.5, "site": None}, {"mdvis": 0, "age": None, "site": HOSTILE}],
    )
    offering = shelf.put(rule, "Doctor visits and insurance", "Visits per year, by plan.")
    shelf.put(rule, HOSTILE, HOSTILE)
    for number in range(25):
        shelf.put(rule, f"Filler {number}")
    async with httpx.AsyncClient(base_url=f"http://{storefront.http_address}", timeout=30) as client:
        yield Shop(house, shelf, hall, client, offering)
    await house.stop()


async def test_the_first_page_lists_what_is_on_offer_in_plain_words(shop: Shop) -> None:
    page = await shop.page("/")
    assert "27 offerings" in page.text and "Doctor visits and insurance" in page.text
    assert "Free for universities and public research institutes" in page.text
    assert "EUR 1,200.00 for small and medium-sized enterprises, other companies" in page.text
    assert "whole files downloaded" in page.text and "never try to find out who a member is" in page.text
    assert f"/{shop.offering.name}" in page.links and "/cooperatives/valley" in page.links
    assert "Health insurance experiment" in page.text


async def test_words_and_filters_reach_the_catalog(shop: Shop) -> None:
    page = await shop.page(
        "/?q=doctor+visits&category=academic&order=price&free=1&max=12.50&currency=usd&mode=download&mode=stream"
        "&modality=tabular&language=en&term=duty:attribution&cooperative=valley&unknown=ignored"
    )
    assert "1 offering" in page.text and "Filler" not in page.text and "your price" in page.text
    asked = shop.shelf.asked[-1]
    assert asked.query == "doctor visits" and asked.free_only and asked.order == catalog_pb2.SEARCH_ORDER_PRICE
    assert asked.category == scope.BUYER_CATEGORY_ACADEMIC
    assert asked.max_price == Money(amount_minor=1250, currency="USD")
    assert list(asked.modes) == [scope.ACCESS_MODE_DOWNLOAD, scope.ACCESS_MODE_STREAM]
    assert list(asked.modalities) == [catalog_pb2.MODALITY_TABULAR] and list(asked.languages) == ["en"]
    assert list(asked.license_terms) == ["duty:attribution"]
    assert list(asked.cooperatives) == ["cooperatives/valley"]


async def test_each_facet_is_a_link_that_narrows_and_takes_itself_back(shop: Shop) -> None:
    page = await shop.page("/?q=insurance")
    for link in (
        "/?q=insurance&modality=tabular",
        "/?q=insurance&mode=download",
        "/?q=insurance&language=en",
        "/?q=insurance&term=duty%3Ano-reidentification",
        "/?q=insurance&cooperative=valley",
        "/?q=insurance&free=1",
    ):
        assert link in page.links
        assert "/?q=insurance" in (await shop.page(link)).links
    assert "new:word" in page.text, "a term of a newer catalog is shown as it is"


async def test_pages_follow_one_another_without_holes(shop: Shop) -> None:
    seen: list[str] = []
    path = "/"
    while path:
        page = await shop.page(path)
        seen += [link for link in page.links if "/offerings/" in link]
        path = next((link for link in page.links if "page=" in link), "")
    assert len(seen) == len(set(seen)) == 27


async def test_an_offering_shows_everything_it_stands_on(shop: Shop) -> None:
    page = await shop.page(f"/{shop.offering.name}")
    text = page.text
    assert "EUR 1,200.00 for small and medium-sized enterprises, other companies" in text
    assert "Research helps us all. <b>Truly</b>." in text
    assert text.count("Its hash was computed again for this page and is the one the offering names.") == 2
    assert shop.offering.rule_hashes[0] in text and shop.offering.offering_hash in text
    assert "research and development" in text.lower() and "anywhere in the world" in text
    assert "about 0 to 49; at least 10 different values" in text and "1.5 %" in text and "withheld" in text
    assert "20,190 rows" in text and "412.3 kB" in text and "at least 5,910" in text
    assert "41.5" in text and "–" in text
    id = shop.offering.name.rsplit("/", 1)[1]
    for command in (
        f"rochdale quote valley/{id}",
        f"rochdale license request valley/{id}",
        "rochdale order pay lic_… --wait",
        "rochdale get lic_…",
        "rochdale profile lic_… -o data.share",
    ):
        assert command in text


async def test_a_price_that_is_due_again_says_so(shop: Shop) -> None:
    offering = catalog_pb2.Offering()
    offering.CopyFrom(shop.offering)
    try:
        offering.tiers[1].price_plan.interval = pricing_pb2.BILLING_INTERVAL_MONTH
        offering.tiers[1].price_plan.metered.add(
            meter=pricing_pb2.METER_GIGABYTE, unit_price="25", included="10", cap="1000"
        )
        offering.tiers[0].price_plan.interval = pricing_pb2.BILLING_INTERVAL_YEAR
        shop.shelf.offerings[offering.name] = offering
        text = (await shop.page(f"/{offering.name}")).text
        assert (
            "EUR 1,200.00 each month, plus EUR 0.25 for each GB beyond 10, at most 1,000 GB a month for small" in text
        )
        # What is due again is not called free, even where it is nothing.
        assert "EUR 0.00 each year for" in text
    finally:
        shop.shelf.offerings[offering.name] = shop.offering


async def test_what_is_not_on_offer_is_not_shown(shop: Shop) -> None:
    page = await shop.page(f"/{shop.offering.name}")
    assert "zper" not in page.text and "p1" not in page.text
    assert "1 more column is not part of this offering" in page.text


async def test_a_hash_that_differs_is_said_loudly(shop: Shop) -> None:
    rule = pb.SharingRule(
        name=shop.offering.tiers[0].sharing_rule, revision=1, rule_hash="0" * 64, scope=shop.offering.scope
    )
    offering = shop.shelf.put(rule, "Forged", state=catalog_pb2.OFFERING_STATE_CLOSED, offering_hash="1" * 64)
    try:
        page = await shop.page(f"/{offering.name}")
        assert page.text.count("Its hash is not the one the offering names") == 2
        assert "Computed again for this page, the hash is another one" in page.text
        assert "can no longer be licensed" in page.text and "How to license it" not in page.text
    finally:
        del shop.shelf.offerings[offering.name]


async def test_a_cooperative_shows_its_rules_and_charter(shop: Shop) -> None:
    page = await shop.page("/cooperatives/valley")
    assert "Valley Health" in page.text and "Patients of the valley & their friends." in page.text
    assert "We share with care." in page.text and "forbid something at once if 1 steward agree" in page.text
    assert "Signed by Valley Health; checked again for this page." in page.text
    assert "Members decided this in a vote" in page.text and "Nothing has been put to the members yet." in page.text
    assert any("/proposals/" in link for link in page.links), "each rule leads to its vote"
    assert "A rule that allows, in force since" in page.text and shop.offering.rule_hashes[0] in page.text
    assert f"/{shop.offering.name}" in page.links


async def test_hostile_titles_are_text(shop: Shop) -> None:
    hostile = next(one for one in shop.shelf.offerings.values() if one.title == HOSTILE)
    for path in (
        "/",
        f"/{hostile.name}",
        "/cooperatives/valley",
        f"/?q={quote(HOSTILE)}",
        f"/?currency={quote(HOSTILE)}",
    ):
        page = await shop.page(path)  # Page itself fails on a script, a handler or a foreign picture.
        assert "<script>" in page.text


@pytest.mark.parametrize(
    "address",
    [
        f"/?q={'x' * 10_001}",
        "/?category=emperor",
        "/?mode=telepathy",
        "/?order=backwards",
        "/?max=-1",
        "/?max=1e999999999",
        "/?max=NaN",
        "/?max=0.001",
        "/?max=" + "9" * 5000,
        "/?max=10&currency=ZZZ",
        "/?page=nonsense",
        "/?page=" + "x" * 3000,
        "/?" + "&".join(f"language={n}" for n in range(60)),
        f"/?free={HOSTILE}&category={quote(HOSTILE)}",
    ],
)
async def test_a_question_without_sense_gets_a_sentence(shop: Shop, address: str) -> None:
    page = await shop.page(address, 400)
    assert "This search cannot be answered" in page.text and "Traceback" not in page.text


@pytest.mark.parametrize("text", ["x" * 10_000, "名" * 3_000, "%00%01", "%ff%fe", "'; DROP TABLE--", "{{7*7}}", "  "])
async def test_any_words_may_be_searched_for(shop: Shop, text: str) -> None:
    page = await shop.page("/?q=" + (text if "%" in text else quote(text)))
    assert "49" not in page.text or "{{" not in text
    assert ("Nothing on offer fits this search." in page.text) == bool(text.strip())


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/cooperatives/nobody",
        "/cooperatives/Not%20An%20Id",
        "/cooperatives/valley/offerings/off_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "/cooperatives/valley/offerings/%3Cscript%3E",
        "/cooperatives/valley/offerings/off_" + "A" * 5000,
        "/cooperatives/%00/offerings/x",
        "/cooperatives/nobody/proposals",
        "/cooperatives/Not%20An%20Id/proposals",
        "/cooperatives/valley/proposals/prop_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "/cooperatives/valley/proposals/%3Cscript%3E",
        "/..%2f..%2fetc/passwd",
    ],
)
async def test_what_does_not_exist_is_a_page_that_says_so(shop: Shop, path: str) -> None:
    page = await shop.page(path, 404)
    assert "This page does not exist" in page.text and "/" in page.links


async def test_other_methods_are_refused(shop: Shop) -> None:
    assert (await shop.client.post("/")).status_code == 405
    assert (await shop.client.head("/")).status_code == 200


async def test_stylesheet_and_icon_come_from_the_package_and_are_cached(shop: Shop) -> None:
    for path, kind in (("/style.css", "text/css; charset=utf-8"), ("/icon.svg", "image/svg+xml")):
        answer = await shop.client.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"] == kind
        again = await shop.client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304 and not again.content


async def test_a_catalog_that_is_down_is_said_and_recovered_from(shop: Shop) -> None:
    assert (await shop.client.get("/health")).status_code == 200
    await shop.shelf.stop()
    for path in ("/", f"/{shop.offering.name}", "/cooperatives/valley"):
        page = await shop.page(path, 503)
        assert "The catalog cannot be reached" in page.text
    health = await shop.client.get("/health")
    assert health.status_code == 503 and health.json()["errorCode"] == "SERVICE_UNAVAILABLE"
    assert (await shop.client.get("/live")).status_code == 200
    await shop.shelf.start()
    async with asyncio.timeout(10):
        while (await shop.client.get("/")).status_code != 200:
            await asyncio.sleep(0.1)
    assert (await shop.client.get("/health")).status_code == 200


async def test_an_empty_market_says_how_it_fills(shop: Shop) -> None:
    offerings, shop.shelf.offerings = shop.shelf.offerings, {}
    try:
        page = await shop.page("/")
        assert "Nothing is on offer yet." in page.text and "rochdale offering publish" in page.text
    finally:
        shop.shelf.offerings = offerings


async def test_without_governance_an_offering_says_that_its_rule_cannot_be_shown(shop: Shop) -> None:
    first = shop.house.services["storefront"]
    storefront = await shop.house.start(
        "storefront", catalog_address=shop.shelf.address, governance_address="127.0.0.1:9"
    )
    # The house stops what it knows at the end; this one is stopped here.
    shop.house.services["storefront"] = first
    async with httpx.AsyncClient(base_url=f"http://{storefront.http_address}") as client:
        other = Shop(shop.house, shop.shelf, shop.hall, client, shop.offering)
        page = await other.page(f"/{shop.offering.name}")
        assert "cannot be shown right now" in page.text and shop.offering.rule_hashes[0] in page.text
        assert "Governance cannot be reached" in (await other.page("/cooperatives/valley", 503)).text
    await storefront.stop()


async def test_it_runs_as_a_process_of_its_own_and_stops_when_told(shop: Shop, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "STOREFRONT_HTTP_ADDRESS": "127.0.0.1:0",
        "STOREFRONT_CATALOG_ADDRESS": shop.shelf.address,
        "STOREFRONT_GOVERNANCE_ADDRESS": shop.hall.address,
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "storefront"], env=environment, stdout=output, stderr=output, cwd=tmp_path
        )
    try:
        async with asyncio.timeout(30):
            while "listens at" not in log.read_text():
                assert process.poll() is None, log.read_text()
                await asyncio.sleep(0.1)
        address = log.read_text().split("listens at")[1].split('"')[0].split()[0]
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://{address}/health")).status_code == 200
        process.terminate()
        assert await asyncio.to_thread(process.wait, 15) == 0
    finally:
        process.kill()


def test_a_missing_setting_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "storefront"],
        env={"PATH": os.environ["PATH"], "STOREFRONT_GOVERNANCE_ADDRESS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert answer.returncode == 2
    assert answer.stderr.strip() == "STOREFRONT_CATALOG_ADDRESS is not set. (gRPC address of the catalog, host:port.)"
