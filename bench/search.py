"""Search over synthetic listings, four queries in flight, against PostgreSQL full text on the same rows. No RPC."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg

from catalog.search import Cursor, Facet, Filters, Listing, Order, Price, SearchIndex, SearchQuery

IN_FLIGHT = 4
REPETITIONS = 3
PAGE = 20
FACETS = frozenset({Facet.MODALITY, Facet.LANGUAGE, Facet.LICENSE_TAG})
_CHUNK = 10_000

# fmt: off
_KINDS = [
    "records", "survey", "claims", "images", "transcripts", "readings", "telemetry", "interviews", "logs",
    "registry", "panel",
]
_TOPICS = [
    "health", "cardiology", "asthma", "diabetes", "oncology", "sleep", "nutrition", "dental", "trips",
    "taxi", "bicycle", "traffic", "parking", "transit", "energy", "solar", "wind", "heating",
    "water", "rainfall", "soil", "wheat", "dairy", "forestry", "fisheries", "retail", "grocery",
    "payments", "lending", "insurance", "housing", "rent", "zoning", "wages", "gig", "freelance",
    "translation", "dialect", "speech", "poetry", "news", "music", "radio", "chess", "football",
    "running", "education", "literacy", "exams", "libraries", "museums", "elections", "petitions", "courts",
    "patents", "astronomy", "genome", "protein", "microbiome",
]
# fmt: on
_MODALITIES = ["tabular", "text", "image", "audio", "time-series", "geospatial"]
_LANGUAGES = ["en", "fr", "de", "es", "hi", "sw", "pt", "zh", "ar", "pl", "yo", "ta"]
_TAGS = ["research-only", "attribution", "no-redistribution", "share-alike", "delete-at-end"]
_MODES = ["AGGREGATE", "DP_QUERY", "COMPUTE", "FEDERATED", "STREAM", "DOWNLOAD"]


class Shelf:
    """A seeded stream of listings: few frequent words, many rare ones, as in any catalog."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "il")]
        self._words = ["".join(self._dice.choices(syllables, k=self._dice.randint(2, 4))) for _ in range(30_000)]
        self._weights = list(itertools.accumulate(1 / (rank + 20) for rank in range(len(self._words))))
        self._places = self._words[2_000:2_400]
        self._languages = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(_LANGUAGES))))

    def listings(self, count: int) -> Iterator[Listing]:
        dice = self._dice
        for number in range(count):
            title = [
                dice.choice(self._places),
                dice.choice(_TOPICS),
                dice.choice(_KINDS),
                str(dice.randint(2005, 2025)),
            ]
            about = dice.choices(self._words, cum_weights=self._weights, k=24)
            full = dice.choice([0, 5_000, 25_000, 120_000, dice.randrange(1, 20_000_000)])
            prices = {"company": Price(full, "EUR"), "academic": Price(full // 10, "EUR")}
            cooperative = int(800 * dice.random() ** 2)
            yield Listing(
                offering_id=f"cooperatives/{cooperative}/offerings/{number:07d}",
                title=" ".join(title),
                description=f"{title[1]} {' '.join(about)} {dice.choice(_TOPICS)}",
                dataset_id=f"datasets/{number // 3}",
                cooperative_id=f"cooperatives/{cooperative}",
                cooperative_title=f"{self._places[cooperative // 2]} cooperative",
                modality=dice.choice(_MODALITIES),
                languages=tuple(
                    set(dice.choices(_LANGUAGES, cum_weights=self._languages, k=dice.choice((1, 1, 1, 2, 3))))
                ),
                license_tags=tuple(dice.sample(_TAGS, dice.choice((0, 1, 1, 2)))),
                buyer_categories=tuple(prices),
                purposes=("training",),
                access_mode=dice.choice(_MODES),
                prices=prices,
                min_price_amount_minor=full // 10,
                currency="EUR",
                published_at=1_700_000_000 + dice.randrange(60_000_000),
                sequence=number + 1,
            )

    def queries(self, count: int) -> list[SearchQuery]:
        """Browsing, one to three words of which the last may be half typed, a third of all with a filter."""
        return [self._query() for _ in range(count)]

    def _query(self) -> SearchQuery:
        dice = self._dice
        title = [dice.choice(_TOPICS), dice.choice(self._places), dice.choice(_KINDS)]
        text = " ".join(dice.sample(title, dice.choice((0, 1, 1, 1, 2, 2, 2, 2, 3, 3))))
        if dice.random() < 0.2:
            text = f"{text} {dice.choices(self._words, cum_weights=self._weights)[0]}".strip()
        if len(text) > 6 and dice.random() < 0.2:
            text = text[:-2]
        filters = Filters()
        if dice.random() < 0.33:
            filters = dice.choice(
                [
                    Filters(modalities=frozenset({dice.choice(_MODALITIES)})),
                    Filters(languages=frozenset({dice.choice(_LANGUAGES)})),
                    Filters(access_modes=frozenset({dice.choice(_MODES)})),
                    Filters(
                        category="academic", currency="EUR", max_price_amount_minor=dice.choice([0, 5_000, 50_000])
                    ),
                ]
            )
        order = dice.choice([None, None, None, Order.NEWEST])
        return SearchQuery(text=text, filters=filters, facets=FACETS, page_size=PAGE, order=order)


@dataclass
class _Loaded:
    size: int
    index: SearchIndex
    uncached: SearchIndex
    build_seconds: float
    index_bytes: int
    table: str | None


def run(
    sizes: Sequence[int] = (10_000, 100_000, 1_000_000),
    *,
    dsn: str | None = None,
    home: Path | None = None,
    queries: int = 1_500,
    seed: int = 1844,
) -> list[dict[str, Any]]:
    """One row per size: milliseconds, seconds, bytes, and ratios to the smallest size and to PostgreSQL.

    `dsn`: an empty PostgreSQL database for the baseline, left empty again. Sizes and sides take turns; every
    figure is the median of three repetitions.
    """
    with tempfile.TemporaryDirectory(dir=home) as folder:
        loaded = [_load(size, Path(folder) / str(size), dsn, seed) for size in sizes]
        try:
            return _measure(loaded, dsn, queries, seed)
        finally:
            for one in loaded:
                one.index.close()
            if dsn is not None:
                asyncio.run(_drop(dsn, [one.table for one in loaded if one.table is not None]))


def _load(size: int, folder: Path, dsn: str | None, seed: int) -> _Loaded:
    index = SearchIndex(folder)
    table = f"bench_listings_{size}" if dsn is not None else None
    seconds = 0.0
    chunk: list[Listing] = []
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(dsn)) if dsn is not None else None
        if connection is not None:
            runner.run(create_table(connection, table))
        stream = Shelf(seed).listings(size)
        while chunk := list(itertools.islice(stream, _CHUNK)):
            started = time.perf_counter()
            index.apply(chunk)
            seconds += time.perf_counter() - started
            if connection is not None:
                runner.run(copy_listings(connection, table, chunk))
        started = time.perf_counter()
        index.commit(size)
        seconds += time.perf_counter() - started
        if connection is not None:
            runner.run(finish_table(connection, table))
    # Reopened, so that both sides read what the writer's threads have merged.
    index.close()
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    uncached = SearchIndex(folder, cached_answers=0)
    return _Loaded(size, SearchIndex(folder), uncached, seconds, stored, table)


def _measure(loaded: list[_Loaded], dsn: str | None, count: int, seed: int) -> list[dict[str, Any]]:
    shelf = Shelf(seed + 1)
    # Buyers ask alike: a query's popularity falls with its rank.
    pool = Shelf(seed).queries(1_000)
    popularity = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(pool))))
    dice = random.Random(seed)
    figures: list[dict[str, list[float]]] = [{} for _ in loaded]
    for _ in range(REPETITIONS):
        draws = dice.choices(pool, cum_weights=popularity, k=count)
        fresh = shelf.queries(max(count // 3, 50))
        for one, seen in zip(loaded, figures, strict=True):
            _note(seen, "", _in_flight(one.index, draws))
            # Nothing cached and every query new: what the index itself can do.
            _note(seen, "uncached_", _in_flight(one.uncached, fresh))
            for order in (Order.NEWEST, Order.PRICE):
                _note_pages(seen, one, order)
            if dsn is not None and one.table is not None:
                # Slow, so fewer; the first are a fair sample of all.
                _note(seen, "postgres_", asyncio.run(ask_postgres(dsn, one.table, fresh[:60])))
    rows = []
    for one, seen in zip(loaded, figures, strict=True):
        row: dict[str, Any] = {"listings": one.size}
        row |= {name: round(statistics.median(values), 3) for name, values in seen.items()}
        row |= {"build_seconds": round(one.build_seconds, 2), "index_bytes": one.index_bytes}
        row["deep_page"] = _deep_page(one.size)
        rows.append(row)
    for row in rows:
        for kind in ("", "uncached_"):
            row[f"{kind}p99_over_smallest"] = round(row[f"{kind}p99_ms"] / rows[0][f"{kind}p99_ms"], 2)
        if dsn is not None:
            row["postgres_p99_over_ours"] = round(row["postgres_p99_ms"] / row["p99_ms"], 1)
            row["postgres_p99_over_uncached"] = round(row["postgres_p99_ms"] / row["uncached_p99_ms"], 1)
    return rows


def _note(seen: dict[str, list[float]], prefix: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    for name, share in (("p50_ms", 0.50), ("p99_ms", 0.99)):
        seen.setdefault(prefix + name, []).append(ordered[int(share * (len(ordered) - 1))] * 1_000)


def _in_flight(index: SearchIndex, queries: list[SearchQuery]) -> list[float]:
    def timed(query: SearchQuery) -> float:
        started = time.perf_counter()
        index.search(query)
        return time.perf_counter() - started

    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        return list(threads.map(timed, queries))


def _note_pages(seen: dict[str, list[float]], one: _Loaded, order: Order) -> None:
    """Page 1,000, or the last full one, against page 1; nothing cached."""
    query = SearchQuery(page_size=PAGE, order=order)
    target = _deep_page(one.size)
    after: Cursor | None = one.index.search(replace(query, page_size=(target - 1) * PAGE)).next
    assert after is not None
    first: list[float] = []
    deep: list[float] = []
    for _ in range(50):
        for times, asked in ((first, query), (deep, replace(query, after=after))):
            started = time.perf_counter()
            one.uncached.search(asked)
            times.append((time.perf_counter() - started) * 1_000)
    page_1, deep_page = statistics.median(first), statistics.median(deep)
    for name, value in (("page_1_ms", page_1), ("deep_page_ms", deep_page), ("deep_over_page_1", deep_page / page_1)):
        seen.setdefault(f"{order.value}_{name}", []).append(value)


def _deep_page(size: int) -> int:
    return min(1_000, size // PAGE)


# ---- The baseline: the same rows and questions in PostgreSQL, one statement each


async def create_table(connection: Any, table: str | None) -> None:
    await connection.execute(
        f"""DROP TABLE IF EXISTS {table};
        CREATE UNLOGGED TABLE {table} (
            id text PRIMARY KEY, title text, description text, modality text, languages text[], license_tags text[],
            access_mode text, academic_amount bigint, min_amount bigint, published_at bigint,
            words tsvector GENERATED ALWAYS AS (
                setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', description), 'B')
            ) STORED)"""
    )


async def copy_listings(connection: Any, table: str | None, chunk: list[Listing]) -> None:
    rows = [
        (
            one.offering_id,
            one.title,
            f"{one.description} {one.cooperative_title}",
            one.modality,
            list(one.languages),
            list(one.license_tags),
            one.access_mode,
            one.prices["academic"].amount_minor,
            one.min_price_amount_minor,
            one.published_at,
        )
        for one in chunk
    ]
    columns = "id title description modality languages license_tags access_mode academic_amount min_amount published_at"
    await connection.copy_records_to_table(table, records=rows, columns=columns.split())


async def finish_table(connection: Any, table: str | None) -> None:
    await connection.execute(
        f"SET maintenance_work_mem = '512MB'; CREATE INDEX ON {table} USING gin (words);"
        f"CREATE INDEX ON {table} (published_at DESC, id);"
    )
    await connection.execute(f"VACUUM ANALYZE {table}")
    await connection.close()


async def _drop(dsn: str, tables: list[str]) -> None:
    connection = await asyncpg.connect(dsn)
    for table in tables:
        await connection.execute(f"DROP TABLE {table}")
    await connection.close()


async def ask_postgres(dsn: str, table: str, queries: list[SearchQuery]) -> list[float]:
    waiting = iter(queries)
    seconds: list[float] = []

    async def one_connection() -> None:
        connection = await asyncpg.connect(dsn)
        for query in waiting:
            statement, arguments = _statement(table, query)
            started = time.perf_counter()
            await connection.fetchrow(statement, *arguments)
            seconds.append(time.perf_counter() - started)
        await connection.close()

    await asyncio.gather(*(one_connection() for _ in range(IN_FLIGHT)))
    return seconds


def _statement(table: str, query: SearchQuery) -> tuple[str, list[object]]:
    arguments: list[object] = []

    def bind(value: object) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    filters = query.filters
    own: dict[str, str] = {}
    if filters.modalities:
        own["modality"] = f"modality = ANY({bind(sorted(filters.modalities))}::text[])"
    if filters.languages:
        own["languages"] = f"languages && {bind(sorted(filters.languages))}::text[]"
    always = ["true"]
    if filters.access_modes:
        always.append(f"access_mode = ANY({bind(sorted(filters.access_modes))}::text[])")
    if filters.max_price_amount_minor is not None:
        always.append(f"academic_amount <= {bind(filters.max_price_amount_minor)}::bigint")
    rank = "0"
    if query.text:
        asked = f"to_tsquery('simple', {bind(' & '.join(query.text.split()) + ':*')}::text)"
        always.append(f"words @@ {asked}")
        rank = f"ts_rank(words, {asked})"
    order = "published_at DESC, id" if query.order is Order.NEWEST or not query.text else "rank DESC, id"
    columns = {"modality": "modality", "languages": "unnest(languages)", "license_tags": "unnest(license_tags)"}
    matched = " AND ".join(always)

    def but(facet: str | None) -> str:
        return " AND ".join(["true", *(condition for name, condition in own.items() if name != facet)])

    counts = ", ".join(
        f"(SELECT json_object_agg(value, n) FROM (SELECT {column} AS value, count(*) AS n FROM matched"
        f" WHERE {but(name)} GROUP BY 1) AS counts)"
        for name, column in columns.items()
    )
    return (
        f"WITH matched AS MATERIALIZED (SELECT id, modality, languages, license_tags, published_at, {rank} AS rank"
        f" FROM {table} WHERE {matched})"
        f" SELECT (SELECT count(*) FROM matched WHERE {but(None)}), {counts},"
        f" ARRAY(SELECT id FROM matched WHERE {but(None)} ORDER BY {order} LIMIT {query.page_size})",
        arguments,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dsn", help="an empty PostgreSQL database for the baseline")
    asked = parser.parse_args()
    for row in run(asked.sizes, dsn=asked.dsn):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
