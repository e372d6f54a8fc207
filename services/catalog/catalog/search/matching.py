"""Turns words and filters into one tantivy query. Whatever the text, the result is a query."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import tantivy
from tantivy import Occur, Query

from catalog.search.schema import SEPARATOR, path
from catalog.search.values import Facet, Filters
from catalog.search.words import Word, words

MOST_WORDS = 32
MOST_COMPLETIONS = 32
MOST_TYPOS = 3
# Beyond this many candidates, looking up positions costs more than the whole search; the title's phrase remains.
MOST_PHRASE_CANDIDATES = 20_000
_LARGEST = (1 << 63) - 1

# Which fields of Filters belong to a facet's own dimension, and so do not apply to its counts.
OWN_FILTERS: dict[Facet, tuple[str, ...]] = {
    Facet.MODALITY: ("modalities",),
    Facet.LANGUAGE: ("languages",),
    Facet.LICENSE_TAG: ("license_tags",),
    Facet.COOPERATIVE: ("cooperative_ids",),
    Facet.ACCESS_MODE: ("access_modes",),
    Facet.PRICE: ("price_buckets", "max_price_amount_minor", "free_only"),
}
_ANY_OF = {
    "modality": "modalities",
    "language": "languages",
    "license_tag": "license_tags",
    "cooperative": "cooperative_ids",
    "dataset": "dataset_ids",
    "access_mode": "access_modes",
    "purpose": "purposes",
}


class Matching:
    """Builds queries against one committed state, whose vocabulary decides about completions and typos."""

    def __init__(self, index: tantivy.Index, searcher: tantivy.Searcher) -> None:
        self._index = index
        self._schema = index.schema
        self._searcher = searcher
        # One search asks several times, for counting and for ranking, and people type the same beginnings.
        self._completions = lru_cache(4_096)(self._look_up_completions)

    def required(self, text: str, filters: Filters) -> Query:
        """Exactly the matching listings, without ranking."""
        return _all([*self._words(text), *self._filters(filters)])

    def ranked(self, text: str, filters: Filters) -> Query:
        """The same listings, scored: title over description, phrases over scattered words."""
        found = words(text, MOST_WORDS)
        parts = self._words(text)
        if not found or not parts:
            return self.required(text, filters)
        wishes = [Query.boost_query(self._title(word), 3.0) for word in found]
        if len(found) > 1 and not any(word.unspaced for word in found):
            phrase = [word.terms[0] for word in found]
            wishes.append(Query.boost_query(Query.phrase_query(self._schema, "title", list(phrase)), 4.0))
            if min(self._searcher.doc_freq("text", word) for word in phrase) <= MOST_PHRASE_CANDIDATES:
                wishes.append(Query.boost_query(Query.phrase_query(self._schema, "text", list(phrase)), 2.0))
        filtered = [Query.const_score_query(part, 0.0) for part in self._filters(filters)]
        required = [(Occur.Must, part) for part in parts + filtered]
        return Query.boolean_query([*required, *((Occur.Should, wish) for wish in wishes)])

    def _words(self, text: str) -> list[Query]:
        found = words(text, MOST_WORDS)
        if not found:
            return [Query.empty_query()] if text.strip() else []
        parts: list[Query] = []
        typos = 0
        for at, word in enumerate(found):
            if word.unspaced:
                parts.append(self._run(word))
                continue
            term = word.terms[0]
            known = self._searcher.doc_freq("text", term) > 0
            completions = self._completions(term) if at == len(found) - 1 else []
            if completions:
                exact = [Query.boost_query(self._term("text", term), 1.0)] if known else []
                longer = [Query.boost_query(self._term("text", longer), 0.3) for longer in completions]
                parts.append(_any(exact + longer))
            elif not known and len(term) >= 4 and typos < MOST_TYPOS:
                # Only words that nobody wrote are taken for typos, so that a right word never costs a wrong hit.
                typos += 1
                parts.append(Query.fuzzy_term_query(self._schema, "text", term, distance=1))
            else:
                parts.append(self._term("text", term))
        return parts

    def _look_up_completions(self, term: str) -> list[str]:
        """The most frequent longer words; one plain letter begins too many to be worth it."""
        if len(term) < 2:
            return []
        found = self._searcher.terms_with_prefix("text", term, limit=MOST_COMPLETIONS + 1)
        return [longer for longer, _ in found if longer != term][:MOST_COMPLETIONS]

    def _run(self, word: Word) -> Query:
        if len(word.terms) > 1:
            return Query.phrase_query(self._schema, "text", list(word.terms))
        if len(word.terms[0]) == 1:
            return self._term("characters", word.terms[0])
        return self._term("text", word.terms[0])

    def _title(self, word: Word) -> Query:
        if len(word.terms) > 1:
            return Query.phrase_query(self._schema, "title", list(word.terms))
        return self._term("title", word.terms[0])

    def _filters(self, filters: Filters) -> list[Query]:
        parts = [
            _any([self._raw(name, value) for value in sorted(getattr(filters, asked))])
            for name, asked in _ANY_OF.items()
            if getattr(filters, asked)
        ]
        category, currency = filters.category, filters.currency
        if category is not None:
            parts.append(self._raw("category", category))
        if currency is not None:
            priced = f"{category}{SEPARATOR}{currency}"
            parts.append(self._raw("currency", currency) if category is None else self._raw("priced", priced))
        if filters.price_buckets:
            bucket = "price_bucket" if category is None else f"bucket.{path(category)}"
            parts.append(_any([self._raw(bucket, value) for value in sorted(filters.price_buckets)]))
        if filters.max_price_amount_minor is not None or filters.free_only:
            highest = 0 if filters.free_only else _LARGEST
            if filters.max_price_amount_minor is not None:
                highest = min(highest, filters.max_price_amount_minor)
            parts.append(self._amount_at_most(category, highest))
        return parts

    def _amount_at_most(self, category: str | None, highest: int) -> Query:
        if highest < 0:
            return Query.empty_query()
        if category is None:
            integer = tantivy.FieldType.Integer
            return Query.range_query(self._schema, "min_amount", integer, lower_bound=0, upper_bound=highest)
        # range_query knows no JSON paths, the parser does; ours is made of hexadecimal digits only.
        return self._index.parse_query(f"amount.{path(category)}:[0 TO {highest}]")

    def _term(self, name: str, term: str) -> Query:
        return Query.term_query(self._schema, name, term)

    def _raw(self, name: str, value: str) -> Query:
        return Query.term_query(self._schema, name, value, "basic")


def _all(parts: list[Query]) -> Query:
    if not parts:
        return Query.all_query()
    return parts[0] if len(parts) == 1 else Query.boolean_query([(Occur.Must, part) for part in parts])


def _any(parts: Iterable[Query]) -> Query:
    several = list(parts)
    return several[0] if len(several) == 1 else Query.boolean_query([(Occur.Should, part) for part in several])
