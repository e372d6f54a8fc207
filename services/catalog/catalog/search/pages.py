"""Answers queries on one committed state: hits, cursors, totals, cached answers. Nothing here outlives a commit."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Hashable
from types import MappingProxyType
from typing import Generic, TypeVar

import tantivy
from tantivy import Occur, Query

from catalog.search import facets, schema
from catalog.search.matching import Matching
from catalog.search.values import (
    DEEPEST_RELEVANCE_HIT,
    Cursor,
    Facet,
    Filters,
    Hit,
    Order,
    SearchPage,
    SearchQuery,
    TooDeep,
    WrongCursor,
)

# Below this many listings a plain scan is fast enough for every query.
WINDOWS_FROM = 50_000

_Answer = TypeVar("_Answer")


class _Recent(Generic[_Answer]):
    """The most recently used answers."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> _Answer | None:
        with self._lock:
            answer = self._answers.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
            return answer

    def put(self, key: Hashable, answer: _Answer) -> None:
        if self._at_most == 0:
            return
        with self._lock:
            self._answers[key] = answer
            if len(self._answers) > self._at_most:
                self._answers.popitem(last=False)


class State:
    """The index as of one commit. Safe for any number of threads."""

    def __init__(self, index: tantivy.Index, price_categories: Collection[str], cached_answers: int) -> None:
        self._schema = index.schema
        self._price_categories = price_categories
        self._searcher = index.searcher()
        self._matching = Matching(index, self._searcher)
        self._pages: _Recent[SearchPage] = _Recent(cached_answers)
        self._counts: _Recent[facets.Counted] = _Recent(cached_answers)
        self._samples: dict[Order, list[int]] = {}
        self.listings: int = self._searcher.num_docs

    def holds(self, offering_id: str) -> bool:
        """Whether the offering is in the index, or was and its traces are not yet merged away."""
        return bool(self._searcher.doc_freq("offering_id", offering_id))

    def search(self, query: SearchQuery) -> SearchPage:
        if query.page_size < 1:
            raise ValueError(f"page_size is {query.page_size}; ask for at least 1")
        order = query.order or (Order.RELEVANCE if query.text.strip() else Order.NEWEST)
        if order is Order.RELEVANCE and not query.text.strip():
            order = Order.NEWEST  # Nothing to rank by.
        if query.after is not None and query.after.order is not order:
            raise WrongCursor(f"this cursor continues a list by {query.after.order}, not by {order}")
        page = self._pages.get(query)
        if page is None:
            page = self._page(query, order)
            self._pages.put(query, page)
        return page

    def _page(self, query: SearchQuery, order: Order) -> SearchPage:
        total, counted = self._count(query.text, query.filters, query.facets)
        hits: tuple[Hit, ...]
        after: Cursor | None
        if total == 0:
            hits, after = (), None
        elif order is Order.RELEVANCE:
            hits, after = self._by_relevance(query, total)
        else:
            hits, after = self._by_key(query, order, total)
        return SearchPage(hits, after, total, MappingProxyType({facet: one.values for facet, one in counted.items()}))

    def _count(self, text: str, filters: Filters, wanted: frozenset[Facet]) -> tuple[int, dict[Facet, facets.Counted]]:
        """The total, and every facet wanted. A facet whose own filter is not set gives the total for nothing."""
        if not wanted and not text.strip() and filters == Filters():
            return self.listings, {}
        applied = {facet: facets.without_own(filters, facet) for facet in wanted}
        complete = [facet for facet in wanted if applied[facet] == filters and facet is not Facet.PRICE]
        bearer = min(complete, default=Facet.ACCESS_MODE)
        needs = {*applied.items(), (bearer, filters)}
        answers: dict[tuple[Facet, Filters], facets.Counted] = {}
        missing: dict[Filters, list[Facet]] = {}
        for need in needs:
            known = self._counts.get((text, need))
            if known is not None:
                answers[need] = known
            else:
                missing.setdefault(need[1], []).append(need[0])
        for under, several in missing.items():
            for facet, answer in facets.count(self._searcher, self._matching, text, under, several).items():
                answers[facet, under] = answer
                self._counts.put((text, (facet, under)), answer)
        return answers[bearer, filters].listings, {facet: answers[facet, under] for facet, under in applied.items()}

    def _by_relevance(self, query: SearchQuery, total: int) -> tuple[tuple[Hit, ...], Cursor | None]:
        start = query.after.key if query.after is not None else 0
        if start + query.page_size > DEEPEST_RELEVANCE_HIT:
            raise TooDeep
        ranked = self._matching.ranked(query.text, query.filters)
        found = self._searcher.search(ranked, query.page_size, count=False, offset=start).hits
        hits = tuple(Hit(self._offering_id(address), float(score)) for score, address in found)
        end = start + len(hits)
        return hits, Cursor(Order.RELEVANCE, end, hits[-1].offering_id) if hits and end < total else None

    def _by_key(self, query: SearchQuery, order: Order, total: int) -> tuple[tuple[Hit, ...], Cursor | None]:
        """Reads on from the cursor's key. Offerings that share a key are only used once all of them are there."""
        required = self._matching.required(query.text, query.filters)
        field, windows = schema.KEY_FIELD[order], True
        category = query.filters.category
        if order is Order.PRICE and category is not None and category in self._price_categories:
            # These keys have no posting lists to read a window from.
            field, windows = schema.category_price_field(category), False
        lower = query.after.key if query.after is not None else None
        last = (query.after.key, query.after.offering_id) if query.after is not None else (-1, "")
        limit = query.page_size + 9
        steps = self._first_window(limit, total) if windows else 0
        while True:
            upper, steps = self._window(order, lower, steps)
            found = self._searcher.search(
                self._between(required, field, lower, upper),
                limit,
                count=False,
                order_by_field=field,
                order=tantivy.Order.Asc,
            ).hits
            exhausted = len(found) < limit
            whole = found if exhausted else [one for one in found if one[0] < found[-1][0]]
            rows = sorted((int(key), self._offering_id(address)) for key, address in whole)
            rows = [row for row in rows if row > last]
            if len(rows) > query.page_size or (exhausted and upper is None):
                page = rows[: query.page_size]
                more = len(rows) > query.page_size
                return tuple(Hit(one, 0.0) for _, one in page), Cursor(order, *page[-1]) if more else None
            if exhausted:
                steps *= 8
            else:
                limit *= 4

    def _between(self, required: Query, field: str, lower: int | None, upper: int | None) -> Query:
        if lower is None and upper is None:
            return required
        within = Query.range_query(
            self._schema,
            field,
            tantivy.FieldType.Integer,
            lower_bound=lower if lower is not None else 0,
            upper_bound=upper,
            # A narrow window is read from its few terms; a wide one is faster by scanning the column.
            use_inverted_index=upper is not None,
        )
        return Query.boolean_query([(Occur.Must, required), (Occur.Must, within)])

    def _first_window(self, limit: int, total: int) -> int:
        """How many samples wide the first window is; 0 when scanning all matches is cheaper.

        Sorting a million matches to show twenty wastes milliseconds, so frequent queries look at a window of keys
        that should hold enough matches. A window costs about fifty times what a match costs in a scan.
        """
        if self.listings < WINDOWS_FROM or total * total < 256 * self.listings:
            return 0
        return 2 * limit * self.listings // (total * schema.SAMPLE_OF) + 2

    def _window(self, order: Order, lower: int | None, steps: int) -> tuple[int | None, int]:
        """The upper key of a window that begins at `lower`; None when it would hold much of the index."""
        if steps == 0:
            return None, 0
        sample = self._sample(order)
        end = (bisect_right(sample, lower) if lower is not None else 0) + steps
        if steps > len(sample) // 8 or end >= len(sample):
            return None, 0
        return sample[end], steps

    def _sample(self, order: Order) -> list[int]:
        """The sorted keys of one listing in 256, chosen by a hash of their ids."""
        sample = self._samples.get(order)
        if sample is None:
            chosen = Query.term_query(self._schema, "sampled", "yes", "basic")
            found = self._searcher.search(
                chosen,
                max(self.listings, 1),
                count=False,
                order_by_field=schema.KEY_FIELD[order],
                order=tantivy.Order.Asc,
            ).hits
            sample = self._samples[order] = [int(key) for key, _ in found]
        return sample

    def _offering_id(self, address: tantivy.DocAddress) -> str:
        return str(self._searcher.doc(address)["offering_id"][0])
