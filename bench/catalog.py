"""Rows 6 to 8: search through the real catalog at growing sizes, PostgreSQL full text on the same listings, deep pages."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import grpc

from bench.load import Load, summary
from bench.rows import Goal, Line, Reading, Row, Side, Turns, at_least, at_most, side
from bench.search import (
    FACETS,
    IN_FLIGHT,
    PAGE,
    Shelf,
    ask_postgres,
    copy_listings,
    create_table,
    finish_table,
)
from bench.stage import REPETITIONS, Servers, Stage, free_address, servers
from catalog.search import Facet, Listing, Order, SearchQuery
from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.type.v1 import money_pb2, scope_pb2
from rochdale_local.market import is_serving
from rochdale_local.processes import Child, private_folder
from rochdale_local.rooms import Room

SEED = 1844
CHUNK = 10_000
DEEP_PAGE = 1_000
SEARCH = "/rochdale.catalog.v1.CatalogService/SearchOfferings"
FACET_NAMES = {Facet.MODALITY: "modality", Facet.LANGUAGE: "language", Facet.LICENSE_TAG: "license_terms"}
# The shelf's words for what the contract has numbers for.
MODALITIES = ["tabular", "text", "audio", "image", "time-series", "geospatial"]
DUTIES = ["", "attribution", "delete-at-end", "", "no-redistribution", "research-only", "share-alike"]


@dataclass(frozen=True)
class Shop:
    """One catalog process and how many offerings it holds."""

    offerings: int
    address: str
    fed_seconds: float


async def run(stage: Stage) -> list[Line]:
    sizes = [10_000, 100_000, 1_000_000] if not stage.quick else [500, 1_000, 2_000]
    async with servers(stage.home("catalog")) as running, contextlib.AsyncExitStack() as stack:
        await running.postgres.ensure_database("fulltext", "fulltext", "bench")
        rows_dsn = running.postgres.dsn("fulltext", "fulltext", "bench").replace("+asyncpg", "")
        rooms = running.rooms()
        await running.prepare(rooms["identity"])
        await running.runner.start(rooms["identity"])
        shops = [await _open(stage, running, rooms["catalog"], size, stack) for size in sizes]
        stage.say(f"loading {sizes[-1]:,} rows into PostgreSQL full text")
        await _load_full_text(rows_dsn, sizes[-1])
        return await _measure(stage, shops, rows_dsn)


async def _measure(stage: Stage, shops: list[Shop], rows_dsn: str) -> list[Line]:
    count = stage.size(600, 40)
    fresh, draws = Shelf(SEED + 1), random.Random(SEED)
    pool = Shelf(SEED).queries(1_000)
    popularity = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(pool))))
    async with contextlib.AsyncExitStack() as stack:
        channels = {
            shop: await stack.enter_async_context(grpc.aio.insecure_channel(shop.address, _OPTIONS)) for shop in shops
        }

        async def ask(shop: Shop, queries: Sequence[SearchQuery]) -> Load:
            return await _in_flight(channels[shop], [_request(query) for query in queries])

        async def ask_full_text() -> Reading:
            # Slow, so fewer: the first are a fair sample of all.
            return _p99(await ask_postgres(rows_dsn, "listings", asked[:60]))

        new: dict[Shop, list[Load]] = {shop: [] for shop in shops}
        popular: dict[Shop, list[Load]] = {shop: [] for shop in shops}
        full_text: list[Reading] = []
        for repetition in range(REPETITIONS):
            asked = fresh.queries(count)
            drawn = draws.choices(pool, cum_weights=popularity, k=count)
            for shop in shops:
                stage.say(f"searching {shop.offerings:,} offerings, {repetition + 1} of {REPETITIONS}")
                new[shop].append(await ask(shop, asked))
                popular[shop].append(await ask(shop, drawn))
            stage.say(f"asking PostgreSQL, {repetition + 1} of {REPETITIONS}")
            full_text.append(await ask_full_text())
        pages = _Pages(channels[shops[-1]])
        await pages.walk(stage, DEEP_PAGE if not stage.quick else 20)
        turned = await Turns(REPETITIONS, stage.say).take({"deep page": pages.both})

    small, middle, large = shops
    fed = ", ".join(f"{shop.offerings:,} in {shop.fed_seconds:.0f} s" for shop in shops)
    facets = f"three exact facets, {IN_FLIGHT} in flight, a Python client"

    def search(shop: Shop, loads: dict[Shop, list[Load]]) -> Side:
        return side(f"SearchOfferings p99 at {shop.offerings:,}", "ms", [load.p99 for load in loads[shop]])

    def growth(what: str, shop: Shop, loads: dict[Shop, list[Load]], goal: Goal | None, note: str) -> Row:
        return Row("6", f"search p99, {what}: {shop.offerings:,} / {small.offerings:,} offerings",
                   search(shop, loads), search(small, loads), goal, note=note)  # fmt: skip

    text = side(f"PostgreSQL full text p99 at {large.offerings:,}", "ms", full_text)
    deep = [pair[0] for pair in turned["deep page"]]
    first = [pair[1] for pair in turned["deep page"]]
    return [
        growth("every query new", large, new, at_most(4), f"{facets}; process start with index: {fed}"),
        growth("every query new", middle, new, None, facets),
        growth("popular queries repeat", large, popular, at_most(4), facets),
        Row("7", "PostgreSQL full text p99 / search RPC p99, every query new", search(large, new), text,
            at_least(50), inverted=True, note="PostgreSQL is asked without any RPC around it"),
        Row("7", "PostgreSQL full text p99 / search RPC p99, popular queries repeat", search(large, popular), text,
            at_least(50), inverted=True, note="PostgreSQL is asked new queries, ours as buyers ask"),
        Row("8", f"search page {pages.number:,} / page 1, by newest",
            side(f"page {pages.number:,}", "ms", deep), side("page 1", "ms", first), at_most(1.2),
            note=f"{large.offerings:,} offerings, medians of {pages.samples} pages, none answered before"),
    ]  # fmt: skip


_OPTIONS = [("grpc.max_receive_message_length", 16 * 1024 * 1024)]


async def _in_flight(channel: grpc.aio.Channel, requests: list[pb.SearchOfferingsRequest]) -> Load:
    """Asks them all, a few at a time. Replies are not decoded: that is the buyer's time."""
    search: Any = channel.unary_unary(SEARCH, request_serializer=pb.SearchOfferingsRequest.SerializeToString)
    waiting, seconds, failed = iter(requests), list[float](), 0

    async def one_after_another() -> None:
        nonlocal failed
        for request in waiting:
            started = time.perf_counter()
            try:
                await search(request, timeout=30)
            except grpc.aio.AioRpcError:
                failed += 1
                continue
            seconds.append(time.perf_counter() - started)

    begun = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
    return summary(seconds, time.perf_counter() - begun, failed)


def _p99(seconds: list[float]) -> Reading:
    return summary(seconds, 1, 0).p99


class _Pages:
    """Page 1 and pages as deep as 1,000, none of which the catalog has answered before."""

    samples = 50

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._search: Any = channel.unary_unary(
            SEARCH,
            request_serializer=pb.SearchOfferingsRequest.SerializeToString,
            response_deserializer=pb.SearchOfferingsResponse.FromString,
        )
        self._token, self._asked = "", 0
        self.number = 0

    async def walk(self, stage: Stage, number: int) -> None:
        """Comes to just before a page by reading on, a hundred hits at a time, as a client would."""
        stage.say(f"walking to page {number:,}")
        self.number = number
        remaining = (number - 1) * PAGE
        while remaining:
            size = min(100, remaining)
            self._token = (await self._search(self._request("", size, self._token))).next_page_token
            remaining -= size

    async def both(self) -> tuple[Reading, Reading]:
        """Medians of deep pages, read on one after another, and of as many first pages, taking turns."""
        deep, first = [], []
        for _ in range(self.samples):
            started = time.perf_counter()
            reply = await self._search(self._request("", PAGE, self._token))
            deep.append(time.perf_counter() - started)
            assert len(reply.hits) == PAGE, "the list ended early"
            self._token = reply.next_page_token
            self._asked += 1
            # Blanks find what no words find, but make it a question that was not asked before.
            started = time.perf_counter()
            await self._search(self._request(" " * self._asked, PAGE, ""))
            first.append(time.perf_counter() - started)
        return Reading(statistics.median(deep) * 1_000), Reading(statistics.median(first) * 1_000)

    @staticmethod
    def _request(query: str, size: int, token: str) -> pb.SearchOfferingsRequest:
        return pb.SearchOfferingsRequest(query=query, order=pb.SEARCH_ORDER_NEWEST, page_size=size, page_token=token)


def _request(query: SearchQuery) -> pb.SearchOfferingsRequest:
    """The same question as the contract says it."""
    filters = query.filters
    request = pb.SearchOfferingsRequest(
        query=query.text,
        modalities=[_modality(name) for name in filters.modalities],  # type: ignore[misc]
        languages=filters.languages,
        modes=[scope_pb2.AccessMode.Value(f"ACCESS_MODE_{name}") for name in filters.access_modes],
        order=pb.SEARCH_ORDER_NEWEST if query.order is Order.NEWEST else pb.SEARCH_ORDER_UNSPECIFIED,
        facets=[FACET_NAMES[facet] for facet in FACETS],
        page_size=query.page_size,
    )
    if filters.max_price_amount_minor is not None:
        request.category = scope_pb2.BUYER_CATEGORY_ACADEMIC
        request.max_price.CopyFrom(money_pb2.Money(amount_minor=filters.max_price_amount_minor, currency="EUR"))
    return request


def _modality(name: str) -> int:
    return MODALITIES.index(name) % 5 + 1


# ---- Offerings where the catalog keeps them, and its process over them


async def _open(stage: Stage, running: Servers, room: Room, size: int, stack: contextlib.AsyncExitStack) -> Shop:
    """A catalog of its own with so many offerings."""
    name = f"catalog_{size}"
    await running.postgres.ensure_database(name, name, "bench")
    url = running.postgres.dsn(name, name, "bench")
    own = replace(room, name=name, database="", settings=room.settings | {
        "database_url": url,
        "index_directory": str(private_folder(running.home / name)),
        "grpc_address": free_address(),
        "log_level": "ERROR",
    })  # fmt: skip
    own = replace(own, grpc_address=own.settings["grpc_address"])
    await running.migrate(own)
    stage.say(f"loading {size:,} offerings")
    await _load_catalog(url.replace("+asyncpg", ""), size)
    stage.say(f"starting a catalog over {size:,} offerings")
    child = Child(
        name, [sys.executable, "-m", "catalog"], running.home, env=own.environ(), ready=lambda: is_serving(own),
        ready_seconds=420,
    )  # fmt: skip
    started = time.perf_counter()
    await child.start()
    stack.push_async_callback(child.stop)
    shop = Shop(size, own.grpc_address, time.perf_counter() - started)
    async with grpc.aio.insecure_channel(shop.address, _OPTIONS) as channel:
        search: Any = channel.unary_unary(SEARCH, response_deserializer=pb.SearchOfferingsResponse.FromString)
        found = (await search(b"")).total_count
        assert found == size, f"the catalog finds {found} of {size} offerings"
        await _in_flight(channel, [_request(query) for query in Shelf(SEED + 2).queries(50)])
    return shop


async def _load_catalog(dsn: str, size: int) -> None:
    connection = await asyncpg.connect(dsn)
    at = dt.datetime.now(dt.UTC)
    cooperatives: set[str] = set()
    listings = Shelf(SEED).listings(size)
    last_dataset = ""
    while chunk := list(itertools.islice(listings, CHUNK)):
        names, datasets, offerings = [], [], []
        async with connection.transaction():
            xid = await connection.fetchval("SELECT pg_current_xact_id()::text::bigint")
            for listing in chunk:
                id = f"coop-{listing.cooperative_id.rsplit('/', 1)[1]}"
                if id not in cooperatives:
                    cooperatives.add(id)
                    names.append((id, listing.cooperative_title))
                offering = _offering(id, listing)
                dataset = offering.scope.datasets[0].dataset
                if dataset != last_dataset:
                    last_dataset = dataset
                    modality = _modality(listing.modality)
                    languages = list(listing.languages)
                    datasets.append((dataset, id, listing.title, "", modality, languages, "", 1, at))
                offerings.append(
                    (offering.name.rsplit("/", 1)[1], id, dataset, True, offering.SerializeToString(), xid)
                )
            await connection.copy_records_to_table("cooperative", records=names, columns=["id", "display_name"])
            await connection.copy_records_to_table("dataset", records=datasets)
            await connection.copy_records_to_table("offering", records=offerings)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def _offering(cooperative: str, listing: Listing) -> pb.Offering:
    parent, number = f"cooperatives/{cooperative}", int(listing.offering_id.rsplit("/", 1)[1])
    rule = f"{parent}/sharingRules/rule_{'0' * 26}"
    offering = pb.Offering(
        name=f"{parent}/offerings/off_{number:026d}",
        title=listing.title,
        description=listing.description,
        scope=scope_pb2.SharingScope(
            # Each offering of this shelf has a dataset of its own: its modality and languages are the dataset's.
            datasets=[scope_pb2.DatasetScope(dataset=f"{parent}/datasets/d{number}", first_version=1, columns=["a"])],
            categories=[scope_pb2.BUYER_CATEGORY_COMPANY, scope_pb2.BUYER_CATEGORY_ACADEMIC],
            purposes=["ResearchAndDevelopment"],
            actions=[scope_pb2.USE_ACTION_ANALYZE],
            max_mode=scope_pb2.AccessMode.Value(f"ACCESS_MODE_{listing.access_mode}"),
            floor_price=money_pb2.Money(amount_minor=listing.min_price_amount_minor, currency="EUR"),
            duties=[DUTIES.index(tag) for tag in listing.license_tags],  # type: ignore[misc]
        ),
        tiers=[
            pb.OfferingTier(
                categories=[scope_pb2.BuyerCategory.Value(f"BUYER_CATEGORY_{category.upper()}")],
                price=money_pb2.Money(amount_minor=price.amount_minor, currency=price.currency),
                sharing_rule=rule,
            )
            for category, price in listing.prices.items()
        ],
        state=pb.OFFERING_STATE_OPEN,
    )
    offering.publish_time.seconds = listing.published_at
    return offering


async def _load_full_text(dsn: str, size: int) -> None:
    connection = await asyncpg.connect(dsn)
    await create_table(connection, "listings")
    listings = Shelf(SEED).listings(size)
    while chunk := list(itertools.islice(listings, CHUNK)):
        await copy_listings(connection, "listings", chunk)
    await finish_table(connection, "listings")
