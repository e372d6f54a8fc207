"""The search index beside a catalog replica: what others may import. It knows no gRPC and no database."""

from catalog.search.index import SearchIndex
from catalog.search.values import (
    DEEPEST_RELEVANCE_HIT,
    PRICE_BUCKETS,
    Cursor,
    Facet,
    FacetCount,
    Filters,
    Hit,
    Listing,
    Order,
    Price,
    Removed,
    SearchPage,
    SearchQuery,
    TooDeep,
    WrongCursor,
    price_bucket,
)

__all__ = [
    "DEEPEST_RELEVANCE_HIT",
    "PRICE_BUCKETS",
    "Cursor",
    "Facet",
    "FacetCount",
    "Filters",
    "Hit",
    "Listing",
    "Order",
    "Price",
    "Removed",
    "SearchIndex",
    "SearchPage",
    "SearchQuery",
    "TooDeep",
    "WrongCursor",
    "price_bucket",
]
