"""Search against a naive oracle, in every script, under concurrency. What it is for a buyer; no RPC, no database."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.search import (
    DEEPEST_RELEVANCE_HIT,
    Cursor,
    Facet,
    Filters,
    Listing,
    Order,
    Price,
    Removed,
    SearchIndex,
    SearchPage,
    SearchQuery,
    TooDeep,
    WrongCursor,
    pages,
    price_bucket,
    schema,
)

# One begins another, but none is a typo of another: the naive list knows no typos.
VOCABULARY = ["trip", "tripping", "health", "claims", "urban", "x", "données", "数据", "हिन्दी"]
ALL_FACETS = frozenset(Facet)


def listing(number: int, title: str = "Trips", description: str = "", **changes: Any) -> Listing:
    plain = Listing(
        offering_id=f"offerings/{number}",
        title=title,
        description=description,
        dataset_id=f"datasets/{number}",
        cooperative_id="cooperatives/rideshare",
        cooperative_title="Drivers",
        modality="tabular",
        languages=("en",),
        license_tags=(),
        buyer_categories=("company",),
        purposes=("training",),
        access_mode="DOWNLOAD",
        prices={"company": Price(500_00, "EUR")},
        min_price_amount_minor=500_00,
        currency="EUR",
        published_at=1_700_000_000 + number,
        sequence=number,
    )
    return replace(plain, **changes)


def shelf(*listings: Listing | Removed) -> SearchIndex:
    index = SearchIndex(None)
    index.apply(listings)
    index.commit(len(listings))
    return index


def found(index: SearchIndex, text: str, **asked: Any) -> list[str]:
    return [hit.offering_id.removeprefix("offerings/") for hit in index.search(SearchQuery(text=text, **asked)).hits]


def every_page(index: SearchIndex, query: SearchQuery) -> list[SearchPage]:
    taken = [index.search(query)]
    while (after := taken[-1].next) is not None:
        # Cursors travel as JSON inside a token.
        again = Cursor.from_json(json.loads(json.dumps(after.to_json())))
        taken.append(index.search(replace(query, after=again)))
    return taken


# ---- The oracle


def some(values: list[str], at_most: int = 2) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=at_most, unique=True).map(tuple)


CATEGORIES = ["company", "academic", "non profit"]
AMOUNTS = st.sampled_from([0, 0, 1, 9_999, 10_000, 250_000, 5_000_000, 1 << 50])
TEXTS = st.lists(st.sampled_from(VOCABULARY), max_size=4).map(" ".join)


@st.composite
def listings(draw: st.DrawFn) -> Listing:
    categories = draw(some(CATEGORIES))
    prices = {one: Price(draw(AMOUNTS), draw(st.sampled_from(["EUR", "USD"]))) for one in categories}
    least = min(prices.values(), default=Price(draw(AMOUNTS), "EUR"))
    return listing(
        draw(st.integers(0, 30)),
        draw(TEXTS),
        draw(TEXTS),
        cooperative_id=draw(st.sampled_from(["a", "b", "c"])),
        modality=draw(st.sampled_from(["tabular", "text", "image"])),
        languages=draw(some(["en", "fr", "hi"])),
        license_tags=draw(some(["research-only", "attribution"])),
        buyer_categories=categories,
        purposes=draw(some(["training", "research"])),
        access_mode=draw(st.sampled_from(["DOWNLOAD", "STREAM"])),
        prices=prices,
        min_price_amount_minor=least.amount_minor,
        currency=least.currency,
        published_at=draw(st.sampled_from([0, 1_700_000_000, 1_700_000_001])),
    )


def any_of(values: list[str]) -> st.SearchStrategy[frozenset[str]]:
    return st.one_of(st.just(frozenset[str]()), some(values).map(frozenset))


FILTERS = st.builds(
    Filters,
    modalities=any_of(["tabular", "text"]),
    languages=any_of(["en", "fr"]),
    license_tags=any_of(["research-only", "attribution"]),
    cooperative_ids=any_of(["a", "b"]),
    access_modes=any_of(["DOWNLOAD"]),
    purposes=any_of(["training"]),
    price_buckets=any_of(["free", "1-9999"]),
    category=st.none() | st.sampled_from(CATEGORIES),
    currency=st.none() | st.sampled_from(["EUR", "USD"]),
    max_price_amount_minor=st.none() | AMOUNTS,
    free_only=st.booleans(),
)
QUERIES = st.builds(
    SearchQuery,
    text=st.just("") | TEXTS,
    filters=st.just(Filters()) | FILTERS,
    facets=st.sets(st.sampled_from(Facet)).map(frozenset),
    page_size=st.integers(1, 7),
    order=st.sampled_from([None, Order.NEWEST, Order.PRICE]),
)


def matches_text(one: Listing, text: str) -> bool:
    held = f"{one.title} {one.description} Drivers".split()
    asked = list(dict.fromkeys(text.split()))
    return all(word in held for word in asked[:-1]) and all(
        any(begins(own, word) for own in held) for word in asked[-1:]
    )


def begins(own: str, word: str) -> bool:
    return own.startswith(word) and (len(word) > 1 or own == word)


def price_of(one: Listing, filters: Filters) -> Price | None:
    if filters.category is None:
        return Price(one.min_price_amount_minor, one.currency)
    return one.prices.get(filters.category)


def meets(one: Listing, filters: Filters, price_too: bool = True) -> bool:
    price = price_of(one, filters)
    checks: list[Callable[[], bool]] = [
        lambda: not filters.modalities or one.modality in filters.modalities,
        lambda: not filters.languages or bool(filters.languages & set(one.languages)),
        lambda: not filters.license_tags or bool(filters.license_tags & set(one.license_tags)),
        lambda: not filters.cooperative_ids or one.cooperative_id in filters.cooperative_ids,
        lambda: not filters.access_modes or one.access_mode in filters.access_modes,
        lambda: not filters.purposes or bool(filters.purposes & set(one.purposes)),
        lambda: filters.category is None or filters.category in one.buyer_categories,
        lambda: filters.currency is None or (price is not None and price.currency == filters.currency),
    ]
    if price_too:
        limit, buckets = filters.max_price_amount_minor, filters.price_buckets
        checks += [
            lambda: not buckets or (price is not None and price_bucket(price.amount_minor) in buckets),
            lambda: limit is None or (price is not None and price.amount_minor <= limit),
            lambda: not filters.free_only or (price is not None and price.amount_minor == 0),
        ]
    return all(check() for check in checks)


OWN = {
    Facet.MODALITY: "modalities",
    Facet.LANGUAGE: "languages",
    Facet.LICENSE_TAG: "license_tags",
    Facet.COOPERATIVE: "cooperative_ids",
    Facet.ACCESS_MODE: "access_modes",
}


def values_of(one: Listing, facet: Facet, filters: Filters) -> tuple[str, ...]:
    price = price_of(one, filters)
    return {
        Facet.MODALITY: (one.modality,),
        Facet.LANGUAGE: one.languages,
        Facet.LICENSE_TAG: one.license_tags,
        Facet.COOPERATIVE: (one.cooperative_id,),
        Facet.ACCESS_MODE: (one.access_mode,),
        Facet.PRICE: () if price is None else (price_bucket(price.amount_minor),),
    }[facet]


def counted(held: list[Listing], query: SearchQuery, facet: Facet) -> dict[str, int]:
    nothing: dict[str, Any] = {OWN[facet]: frozenset()} if facet in OWN else {}
    filters = replace(query.filters, **nothing)
    left = [one for one in held if matches_text(one, query.text) and meets(one, filters, facet is not Facet.PRICE)]
    return dict(Counter(value for one in left for value in values_of(one, facet, filters)))


CHANGES = st.lists(st.one_of(listings(), st.builds(Removed, st.integers(0, 30).map("offerings/{}".format), st.just(1))))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(CHANGES, max_size=3), st.lists(QUERIES, min_size=1, max_size=6))
def test_hits_totals_facets_and_pages_agree_with_a_naive_list(
    batches: list[list[Listing | Removed]], queries: list[SearchQuery]
) -> None:
    index = SearchIndex(None, price_categories=CATEGORIES)
    held: dict[str, Listing] = {}
    for number, batch in enumerate(batches, 1):
        index.apply(batch)
        index.commit(number)
        for change in batch:
            held.pop(change.offering_id, None)
            if isinstance(change, Listing):
                held[change.offering_id] = change
        for query in queries:
            agrees(index, list(held.values()), query)
    index.close()


def agrees(index: SearchIndex, held: list[Listing], query: SearchQuery) -> None:
    by_id = {one.offering_id: one for one in held}
    expected = {one.offering_id for one in held if matches_text(one, query.text) and meets(one, query.filters)}
    taken = every_page(index, query)
    ids = [hit.offering_id for page in taken for hit in page.hits]
    assert len(ids) == len(set(ids)), "a hit came twice"
    assert set(ids) == expected
    assert all(len(page.hits) == query.page_size for page in taken[:-1])
    for page in taken:
        assert page.total == len(expected)
        assert {facet: dict(values) for facet, values in page.facets.items()} == {
            facet: counted(held, query, facet) for facet in query.facets
        }
    if query.order is Order.PRICE:
        prices = [price_of(by_id[one], query.filters) for one in ids]
        amounts = [min(price.amount_minor, 1 << 44) for price in prices if price is not None]
        assert amounts == sorted(amounts)
    elif query.order is Order.NEWEST or not query.text.strip():
        times = [by_id[one].published_at for one in ids]
        assert times == sorted(times, reverse=True)


def test_narrow_windows_give_the_same_pages_as_full_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(7)
    held = [
        listing(
            number,
            "common rare" if number % 40 == 0 else "common",
            published_at=1_700_000_000 + dice.randrange(50),
            min_price_amount_minor=dice.choice([0, 0, 0, dice.randrange(1_000_000)]),
        )
        for number in range(4_000)
    ]
    # Windows serve big indexes only; here even this small one uses them.
    monkeypatch.setattr(pages, "WINDOWS_FROM", 1)
    monkeypatch.setattr(schema, "SAMPLE_OF", 4)
    index = shelf(*held)
    for order in (Order.NEWEST, Order.PRICE):
        for text in ("", "common", "rare"):
            agrees(index, held, SearchQuery(text=text, order=order, page_size=61))


# ---- Text


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80), st.text(max_size=200))
def test_no_text_breaks_a_search(written: str, asked: str) -> None:
    index = shelf(listing(1, written, asked))
    page = index.search(SearchQuery(text=asked, facets=ALL_FACETS))
    assert 0 <= page.total <= 1
    assert len(page.hits) == page.total
    index.close()


@pytest.mark.parametrize(
    "text",
    [
        *[
            '"',
            '"unbalanced',
            "a AND",
            "NOT",
            "+-!(){}[]^~*?\\/",
            "title:",
            "price:[1 TO",
            "a:b:c",
            "/.*/",
            "*",
            "\x00",
        ],
        *["\ud800", "🙂" * 50, "a" * 10_000, "word " * 2_000, " ".join(map(str, range(3_000))), "𝕳𝖊𝖑𝖑𝖔", "ﷺ", "\u202e"],
    ],
)
def test_hostile_text_is_only_text(text: str) -> None:
    index = shelf(listing(1), listing(2, text.encode(errors="ignore").decode()))
    index.search(SearchQuery(text=text, facets=ALL_FACETS))
    index.search(SearchQuery(text=text, order=Order.PRICE))


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("Données médicales", "donnees medicales"),
        ("Donnees medicales", "Données MÉDICALES"),
        ("Łódź straße Øresund", "lodz strasse oresund"),
        ("机器学习数据集", "数据"),
        ("机器学习数据集", "数据集"),
        ("机器学习数据集", "习"),
        ("COVID数据2020", "covid 数据"),
        ("カタカナ", "ｶﾀｶﾅ"),
        ("ข้อมูลสุขภาพ", "สุขภาพ"),
        ("한국어 데이터를", "데이터"),
        ("हिन्दी समाचार", "समाचार हिन्दी"),
        ("தமிழ் தரவு", "தரவு"),
        ("مُعْطَيات صِحِّيَّة", "معطيات صحية"),
        ("נְתוּנִים", "נתונים"),
        ("Ελληνικά", "ελληνικα"),
        ("Cardiology claims", "claims cardio"),
        ("Cardiology claims", "cardioligy"),
        ("user_id e-mail", "user id email"[:7]),
    ],
)
def test_words_are_found_in_every_script(written: str, asked: str) -> None:
    index = shelf(listing(1, written), listing(2, "something else"), listing(3, "", written))
    assert sorted(found(index, asked)) == ["1", "3"]
    assert found(index, f"{asked} nowhere") == []


def test_parts_of_an_unspaced_word_must_follow_one_another() -> None:
    assert found(shelf(listing(1, "数据 据集")), "数据集") == []


def test_a_title_outranks_a_description_and_a_phrase_outranks_scattered_words() -> None:
    filler = " ".join(f"filler{number}" for number in range(12))
    index = shelf(
        listing(1, "Other", f"{filler} urban trips"),
        listing(2, "Trips beyond urban", filler),
        listing(3, "Urban trips", filler),
        listing(4, "Urban", filler),
    )
    assert found(index, "urban trips") == ["3", "2", "1"]


def test_the_exact_word_comes_before_its_completions() -> None:
    assert found(shelf(listing(1, "Healthcare"), listing(2, "Health"), listing(3, "Healthy")), "health")[0] == "2"


def test_text_without_words_finds_nothing_and_blank_text_everything() -> None:
    index = shelf(listing(1), listing(2))
    assert found(index, "?!") == []
    assert found(index, " \n") == ["2", "1"]


# ---- Pages, commits, restarts


def test_relevance_pages_end_honestly_at_the_deepest_hit() -> None:
    index = shelf(*(listing(number, "common word") for number in range(DEEPEST_RELEVANCE_HIT + 50)))
    query = SearchQuery(text="common word", page_size=2_500)
    seen: list[str] = []
    for _ in range(4):
        page = index.search(query)
        assert page.next is not None
        seen += [hit.offering_id for hit in page.hits]
        query = replace(query, after=page.next)
    assert len(set(seen)) == DEEPEST_RELEVANCE_HIT
    with pytest.raises(TooDeep):
        index.search(query)


def test_relevance_pages_have_no_duplicates_and_no_holes() -> None:
    dice = random.Random(3)
    vocabulary = [f"word{number}" for number in range(30)]
    held = [
        listing(n, " ".join(dice.choices(vocabulary, k=5)), " ".join(dice.choices(vocabulary, k=9)))
        for n in range(3_000)
    ]
    index = shelf(*held)
    for text in ("word1", "word2 word3", "word", "wordx1 word4", "word1 word2 word5 word7"):
        taken = every_page(index, SearchQuery(text=text, page_size=97))
        ids = [hit.offering_id for page in taken for hit in page.hits]
        assert len(ids) == len(set(ids)) == taken[0].total
        scores = [hit.score for page in taken for hit in page.hits]
        assert scores == sorted(scores, reverse=True)


def test_a_cursor_of_another_order_or_of_nobody_is_refused() -> None:
    index = shelf(*(listing(number) for number in range(5)))
    after = index.search(SearchQuery(page_size=2)).next
    with pytest.raises(WrongCursor):
        index.search(SearchQuery(page_size=2, after=after, order=Order.PRICE))
    nonsenses: list[object] = [None, [], {}, {"order": "newest", "key": True, "offering_id": "x"}, {"order": "x"}]
    for nonsense in nonsenses:
        with pytest.raises(WrongCursor):
            Cursor.from_json(nonsense)
    with pytest.raises(ValueError, match="page_size"):
        index.search(SearchQuery(page_size=0))


def test_nothing_shows_before_its_commit_and_cached_answers_end_with_it() -> None:
    index = shelf(listing(1))
    query = SearchQuery(text="trips", facets=ALL_FACETS)
    before = index.search(query)
    index.apply([listing(2, modality="image"), Removed("offerings/1", 3)])
    assert index.search(query) == before
    index.commit(3)
    after = index.search(query)
    assert [hit.offering_id for hit in after.hits] == ["offerings/2"]
    assert after.facets[Facet.MODALITY] == (("image", 1),)


def test_the_last_change_of_an_offering_wins_within_a_batch() -> None:
    index = shelf(listing(1, "First"), Removed("offerings/1", 2), listing(1, "Second"))
    assert (found(index, "first"), found(index, "second")) == ([], ["1"])


def test_an_index_on_disk_goes_on_where_it_was(tmp_path: Path) -> None:
    index = SearchIndex(tmp_path)
    assert index.last_sequence == 0
    index.apply([listing(1), listing(2)])
    index.commit(42)
    index.apply([listing(3)])  # never committed
    index.close()
    again = SearchIndex(tmp_path)
    assert (again.last_sequence, again.listings) == (42, 2)
    again.clear()
    again.commit(0)
    assert again.listings == 0
    again.close()


@pytest.mark.parametrize("damage", ["fed.json", "segments/meta.json"])
def test_a_damaged_index_is_fed_anew(tmp_path: Path, damage: str) -> None:
    index = SearchIndex(tmp_path)
    index.apply([listing(1)])
    index.commit(7)
    index.close()
    (tmp_path / damage).write_text("{broken")
    again = SearchIndex(tmp_path)
    assert (again.last_sequence, again.listings) == (0, 0)
    again.apply([listing(1)])
    again.commit(7)
    assert again.listings == 1
    again.close()


def test_many_threads_search_while_one_writes() -> None:
    index = shelf(*(listing(number) for number in range(100)))

    def look(_: int) -> tuple[int, int]:
        page = index.search(SearchQuery(text="trips", facets=frozenset({Facet.MODALITY})))
        return page.total, sum(count for _, count in page.facets[Facet.MODALITY])

    with ThreadPoolExecutor(4) as pool:
        looking = pool.map(look, range(400))
        for batch in range(1, 11):
            index.apply(listing(number) for number in range(batch * 100, batch * 100 + 100))
            index.commit(batch)
        # Every search sees one commit, whole.
        assert all(total == summed and total % 100 == 0 for total, summed in looking)
    assert index.search(SearchQuery(text="trips")).total == 1_100
