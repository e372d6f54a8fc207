"""Finding offerings as buyers do: words, filters, facets, pages, and everything a hostile caller may send."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from catalog_world import Shop, eventually, open_shop, tier
from house import Person, refused

from catalog.config import Config
from catalog.main import build
from catalog.service import search_name
from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.catalog.v1 import catalog_pb2_grpc
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.paging import encode
from rochdale_local.postgres import Postgres

ACADEMIC, SME, COMPANY = scope.BUYER_CATEGORY_ACADEMIC, scope.BUYER_CATEGORY_SME, scope.BUYER_CATEGORY_COMPANY
ANYBODY = [ACADEMIC, SME, COMPANY]


class Stocked(Shop):
    """A shop with two cooperatives and four offerings, named by what they are."""

    valley: Person
    island: Person
    valley_rule: governance.SharingRule
    offerings: dict[str, pb.Offering]


@pytest_asyncio.fixture(scope="module")
async def stocked(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stocked]:
    folder = tmp_path_factory.mktemp("stocked")
    async with open_shop(postgres, folder, Stocked, index_directory=str(folder / "index")) as shop:
        shop.valley, shop.island = await shop.steward("valley"), await shop.steward("island")
        await shop.dataset(shop.valley, title="RAND Health Insurance Experiment", languages=["en"])
        await shop.dataset(
            shop.island,
            "speech",
            title="Fishers' tales",
            description="Told at sea.",
            modality=pb.MODALITY_AUDIO,
            languages=["fo", "da"],
        )
        shop.valley_rule = await shop.rule(shop.valley, categories=ANYBODY)
        spoken = await shop.rule(
            shop.island,
            dataset="speech",
            categories=ANYBODY,
            purposes=["ResearchAndDevelopment"],
            floor_price=Money(amount_minor=0, currency="EUR"),
            duties=[scope.DUTY_ATTRIBUTION],
            actions=[scope.USE_ACTION_PRETRAIN, scope.USE_ACTION_ANALYZE],
        )
        rule = shop.valley_rule.name
        shop.offerings = {
            "visits": await shop.publish(shop.valley, shop.valley_rule, title="Visits to doctors"),
            "ages": await shop.publish(
                shop.valley,
                shop.valley_rule,
                title="Ages",
                tiers=[tier(rule, 1_000, ACADEMIC), tier(rule, 2_000, SME), tier(rule, 500_000, COMPANY)],
            ),
            "stream": await shop.publish(
                shop.valley,
                shop.valley_rule,
                title="Visits, streamed",
                description="Visits as rows.",
                max_mode=scope.ACCESS_MODE_STREAM,
                tiers=[tier(rule, 100, SME), tier(rule, 700_000, COMPANY)],
            ),
            "tales": await shop.publish(
                shop.island,
                spoken,
                title="Søgn og tales",
                dataset="speech",
                duties=[scope.DUTY_ATTRIBUTION],
                actions=[scope.USE_ACTION_PRETRAIN],
                tiers=[tier(spoken.name, 300_000, COMPANY)],
            ),
        }
        await shop.found(4)
        yield shop


def names(shop: Stocked, found: pb.SearchOfferingsResponse) -> list[str]:
    known = {offering.name: name for name, offering in shop.offerings.items()}
    return [known[hit.offering.name] for hit in found.hits]


async def test_a_hit_says_all_a_shop_window_shows(stocked: Stocked) -> None:
    found = await stocked.search(query="sogn tale")
    assert names(stocked, found) == ["tales"] and found.total_count == 1 and not found.next_page_token
    hit = found.hits[0]
    assert hit.offering == stocked.offerings["tales"] and hit.dataset_title == "Fishers' tales"
    assert hit.cooperative == "The Island Cooperative" and hit.modality == pb.MODALITY_AUDIO


SEARCHES: list[tuple[dict[str, Any], set[str]]] = [
    ({"query": "visits"}, {"visits", "ages", "stream"}),  # all of one dataset, whose description says so
    ({"query": "visits streamed"}, {"stream"}),
    ({"query": "insurance"}, {"visits", "ages", "stream"}),
    ({"query": "island"}, {"tales"}),
    ({"query": "zebra"}, set()),
    ({"modalities": [pb.MODALITY_AUDIO]}, {"tales"}),
    ({"modalities": [pb.MODALITY_AUDIO, pb.MODALITY_TABULAR]}, {"visits", "ages", "stream", "tales"}),
    ({"languages": ["da"]}, {"tales"}),
    ({"license_terms": ["duty:attribution"]}, {"tales"}),
    ({"license_terms": ["action:pretrain", "duty:no-reidentification"]}, {"visits", "ages", "stream", "tales"}),
    ({"cooperatives": ["cooperatives/valley"]}, {"visits", "ages", "stream"}),
    ({"cooperatives": ["cooperatives/valley"], "languages": ["da"]}, set()),
    ({"modes": [scope.ACCESS_MODE_STREAM]}, {"stream"}),
    ({"category": COMPANY}, {"ages", "stream", "tales"}),
    ({"category": scope.BUYER_CATEGORY_LARGE_PLATFORM}, set()),
    ({"free_only": True}, {"visits"}),
    ({"free_only": True, "category": SME}, set()),
    ({"max_price": Money(amount_minor=1_000, currency="EUR")}, {"visits", "ages", "stream"}),
    ({"max_price": Money(amount_minor=500_000, currency="EUR"), "category": COMPANY}, {"ages", "tales"}),
    ({"max_price": Money(amount_minor=500_000, currency="USD")}, set()),
]


@pytest.mark.parametrize("number", range(len(SEARCHES)))
async def test_words_and_filters_find(stocked: Stocked, number: int) -> None:
    asked, wanted = SEARCHES[number]
    found = await stocked.search(**asked)
    assert set(names(stocked, found)) == wanted and found.total_count == len(wanted)


async def test_results_come_in_the_order_asked_for(stocked: Stocked) -> None:
    assert names(stocked, await stocked.search(query="visits"))[0] in ("visits", "stream")
    newest = await stocked.search(order=pb.SEARCH_ORDER_NEWEST)
    times = [hit.offering.publish_time.seconds for hit in newest.hits]
    assert times == sorted(times, reverse=True)
    cheapest = await stocked.search(order=pb.SEARCH_ORDER_PRICE)
    assert names(stocked, cheapest) == ["visits", "stream", "ages", "tales"]
    for_companies = await stocked.search(order=pb.SEARCH_ORDER_PRICE, category=COMPANY)
    assert names(stocked, for_companies) == ["tales", "ages", "stream"]


async def test_facets_count_what_else_could_be_chosen(stocked: Stocked) -> None:
    wanted = ["modality", "language", "license_terms", "cooperative", "mode", "price"]
    found = await stocked.search(facets=wanted, cooperatives=["cooperatives/valley"])
    counts = {facet.name: {one.value: one.count for one in facet.counts} for facet in found.facets}
    assert [facet.name for facet in found.facets] == wanted
    assert counts["cooperative"] == {"cooperatives/valley": 3, "cooperatives/island": 1}
    assert counts["modality"] == {"MODALITY_TABULAR": 3} and counts["language"] == {"en": 3}
    assert counts["mode"] == {"ACCESS_MODE_DOWNLOAD": 2, "ACCESS_MODE_STREAM": 1}
    assert counts["license_terms"] == {
        "action:analyze": 3,
        "duty:no-reidentification": 3,
        "purpose:ResearchAndDevelopment": 3,
    }
    assert counts["price"] == {"free": 1, "1-9999": 2}
    for_companies = await stocked.search(facets=["price"], category=COMPANY)
    assert {one.value: one.count for one in for_companies.facets[0].counts} == {"100000-999999": 3}


ORDERS: list[dict[str, Any]] = [
    {"query": "visits"},
    {"order": pb.SEARCH_ORDER_NEWEST},
    {"order": pb.SEARCH_ORDER_PRICE},
    {"order": pb.SEARCH_ORDER_PRICE, "category": COMPANY},
]


@pytest.mark.parametrize("number", range(len(ORDERS)))
async def test_pages_have_no_holes_and_their_tokens_belong_to_one_search(stocked: Stocked, number: int) -> None:
    asked = ORDERS[number]
    whole = names(stocked, await stocked.search(**asked))
    pages, token = [], ""
    while True:
        found = await stocked.search(**asked, page_size=1, page_token=token)
        assert found.total_count == len(whole)
        pages += names(stocked, found)
        if not found.next_page_token:
            break
        token = found.next_page_token
    assert pages == whole
    # Another size of page, and facets, are the same search; anything else is another.
    await stocked.search(**asked, page_size=2, page_token=token, facets=["mode"])
    for other in ({"free_only": True}, {"languages": ["en"]}, {"query": "ages"}, {"order": 0, "query": "x"}):
        async with refused("PAGE_TOKEN_INVALID"):
            await stocked.search(**(asked | other), page_token=token)
    flipped = ("B" if token[0] == "A" else "A") + token[1:]
    for altered in (token[:-1], flipped, token + "A", "x", "!", token.swapcase()):
        async with refused("PAGE_TOKEN_INVALID"):
            await stocked.search(**asked, page_token=altered)


async def test_ranking_ends_where_it_would_cost_too_much(stocked: Stocked) -> None:
    # Tokens that only a very long search would give out, or none.
    asked = pb.SearchOfferingsRequest(query="visits")
    for key, reason in ((9_999, "SEARCH_TOO_DEEP"), (1 << 62, "SEARCH_TOO_DEEP"), (-1, "PAGE_TOKEN_INVALID")):
        async with refused(reason):
            await stocked.search(query="visits", page_token=encode(search_name(asked), "relevance", key, "off_x"))
    async with refused("PAGE_TOKEN_INVALID"):
        await stocked.search(query="visits", page_token=encode(search_name(asked), "price", 1, "off_x"))


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"category": 99}, "REQUEST_INVALID"),
    ({"modalities": [77]}, "REQUEST_INVALID"),
    ({"modalities": [0]}, "REQUEST_INVALID"),
    ({"modes": [77]}, "REQUEST_INVALID"),
    ({"order": 77}, "REQUEST_INVALID"),
    ({"facets": ["nonsense"]}, "REQUEST_INVALID"),
    ({"facets": ["mode", "mode"]}, "REQUEST_INVALID"),
    ({"page_size": 101}, "REQUEST_INVALID"),
    ({"page_size": -1}, "REQUEST_INVALID"),
    ({"query": "x" * 10_001}, "REQUEST_INVALID"),
    ({"languages": ["x" * 201]}, "REQUEST_INVALID"),
    ({"max_price": Money(amount_minor=-1, currency="EUR")}, "REQUEST_INVALID"),
    ({"max_price": Money(amount_minor=1, currency="")}, "REQUEST_INVALID"),
    ({"max_price": Money(amount_minor=1, currency="ZZZ")}, "CURRENCY_UNKNOWN"),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_nonsense_is_refused_with_a_reason(stocked: Stocked, number: int) -> None:
    asked, reason = HOSTILE[number]
    async with refused(reason):
        await stocked.search(**asked)


def texts() -> Iterator[str]:
    yield from ("x" * 10_000, "a " * 5_000, "visits " * 1_400, "漢" * 10_000, "\0", "\ufffd\u202e", '"' * 10_000)
    yield from ("title:visits AND (", "*", "[1 TO", "visits~9", "-visits", "/.*/", "' OR 1=1 --", "٪" * 100)


async def test_any_text_is_only_words(stocked: Stocked) -> None:
    for text in texts():
        for order in (0, pb.SEARCH_ORDER_RELEVANCE, pb.SEARCH_ORDER_PRICE):
            await stocked.search(query=text, order=order, facets=["language", "price"])
    for value in ("\0", "x\x1fy", "", "a:b*"):
        found = await stocked.search(
            languages=[value], license_terms=[value], cooperatives=[value], facets=["language", "license_terms"]
        )
        assert found.total_count == 0


async def test_two_replicas_find_the_same_and_a_restart_goes_on(stocked: Stocked, tmp_path: Path) -> None:
    async with replica(stocked, tmp_path / "a") as other:
        everything = pb.SearchOfferingsRequest(facets=["cooperative", "price"], order=pb.SEARCH_ORDER_NEWEST)

        async def same(count: int = 5) -> bool:
            mine, theirs = [await one.SearchOfferings(everything) for one in (stocked.catalog, other)]
            return bool(mine == theirs) and mine.total_count == count

        assert await same(4)
        passing = await stocked.publish(stocked.valley, stocked.valley_rule, title="Passing by")
        await eventually(same)
        # A page begun at one replica goes on at the other.
        first = await stocked.search(order=pb.SEARCH_ORDER_PRICE, page_size=2)
        rest = pb.SearchOfferingsRequest(order=pb.SEARCH_ORDER_PRICE, page_token=first.next_page_token)
        whole = await stocked.search(order=pb.SEARCH_ORDER_PRICE)
        assert [*first.hits, *(await other.SearchOfferings(rest)).hits] == list(whole.hits)

    # Closed at the one while the other is down. It is in no result at once, and in no count soon.
    await stocked.catalog.CloseOffering(pb.CloseOfferingRequest(name=passing.name), metadata=stocked.valley.metadata)
    assert not (await stocked.search(query="passing")).hits
    await stocked.found(0, query="passing")
    fed = (tmp_path / "a" / "fed.json").read_text()
    async with replica(stocked, tmp_path / "a") as other:
        found = await other.SearchOfferings(everything)
        assert found.total_count == 4 and found == await stocked.catalog.SearchOfferings(everything)
        assert (tmp_path / "a" / "fed.json").read_text() != fed


@contextlib.asynccontextmanager
async def replica(shop: Shop, folder: Path) -> AsyncIterator[Any]:
    """Another catalog on the same database, with an index directory of its own."""
    config = Config(
        database_url=await shop.house.database_url("catalog"),
        nats_url=shop.house.nats.url(),
        identity_address=shop.house.services["identity"].grpc_address,
        index_directory=str(folder),
    )
    service = await build(config)
    async with service.running(), grpc.aio.insecure_channel(service.grpc_address) as channel:
        yield catalog_pb2_grpc.CatalogServiceStub(channel)
