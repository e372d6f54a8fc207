"""Counts the values of each facet, and with them the total. No ranking, no pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import tantivy

from catalog.search.matching import OWN_FILTERS, Matching
from catalog.search.schema import SEPARATOR, path
from catalog.search.values import Facet, FacetCount, Filters

# tantivy refuses more buckets than this in one answer.
MOST_BUCKETS = 65_000
MOST_COOPERATIVES = 100
_NOTHING = Filters()

_COLUMN = {
    Facet.MODALITY: "modality",
    Facet.LANGUAGE: "languages",
    Facet.LICENSE_TAG: "license_tags",
    Facet.COOPERATIVE: "cooperative",
    Facet.ACCESS_MODE: "access_mode",
    Facet.PRICE: "price_bucket",
}


class Counted(NamedTuple):
    """One facet's values and the number of listings they were counted over."""

    values: tuple[FacetCount, ...]
    listings: int


def without_own(filters: Filters, facet: Facet) -> Filters:
    """The filters that apply to a facet's counts: all but its own, so a buyer sees what else they could choose."""
    return replace(filters, **{name: getattr(_NOTHING, name) for name in OWN_FILTERS[facet]})


def count(
    searcher: tantivy.Searcher, matching: Matching, text: str, filters: Filters, facets: Iterable[Facet]
) -> dict[Facet, Counted]:
    """Counts facets in one pass over the listings that match text and filters."""
    asked = list(facets)
    wanted = {facet.value: _terms(facet, filters) for facet in asked}
    answer = searcher.aggregate(matching.required(text, filters), wanted)
    return {facet: _counted(facet, answer[facet.value]) for facet in asked}


def _terms(facet: Facet, filters: Filters) -> dict[str, Any]:
    column = _COLUMN[facet]
    if facet is Facet.PRICE and filters.category is not None:
        column = f"bucket.{path(filters.category)}"
    size = MOST_COOPERATIVES if facet is Facet.COOPERATIVE else MOST_BUCKETS
    # Each segment answers with all its buckets; a shorter list per segment would make the sums approximate.
    return {"terms": {"field": column, "size": size, "segment_size": MOST_BUCKETS}}


def _counted(facet: Facet, answer: dict[str, Any]) -> Counted:
    counts: Counter[str] = Counter()
    listings = int(answer.get("sum_other_doc_count") or 0)
    for bucket in answer["buckets"]:
        listings += bucket["doc_count"]
        if facet in (Facet.LANGUAGE, Facet.LICENSE_TAG):
            for value in bucket["key"].split(SEPARATOR):
                counts[value] += bucket["doc_count"]
        else:
            counts[bucket["key"]] += bucket["doc_count"]
    counts.pop("", None)
    values = sorted((FacetCount(value, number) for value, number in counts.items()), key=lambda one: (-one[1], one[0]))
    return Counted(tuple(values), listings)
