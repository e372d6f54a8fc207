"""The values search takes and gives: listings, queries, cursors, pages. No index, no token encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

# Ranking needs every better hit first, so the cost of a page grows with its depth; NEWEST and PRICE have no such limit.
DEEPEST_RELEVANCE_HIT = 10_000


class Order(StrEnum):
    """How hits are ordered. Equal keys follow in a fixed arbitrary order, then by offering id."""

    RELEVANCE = "relevance"  # best first; equal scores keep one order until the next commit
    NEWEST = "newest"  # by published_at, latest first
    PRICE = "price"  # cheapest first by the filtered category's price, else the lowest, whatever the currency


class Facet(StrEnum):
    """A dimension that can be counted."""

    MODALITY = "modality"
    LANGUAGE = "language"
    LICENSE_TAG = "license_tag"
    COOPERATIVE = "cooperative"
    ACCESS_MODE = "access_mode"
    PRICE = "price"


class Price(NamedTuple):
    """Whole minor units of one currency."""

    amount_minor: int
    currency: str


# Upper bounds in minor units, each included. Powers of ten suit every currency without knowing its exponent.
_BUCKET_BOUNDS: tuple[tuple[int, str], ...] = (
    (0, "free"),
    (9_999, "1-9999"),
    (99_999, "10000-99999"),
    (999_999, "100000-999999"),
    (9_999_999, "1000000-9999999"),
)
PRICE_BUCKETS: tuple[str, ...] = (*(name for _, name in _BUCKET_BOUNDS), "10000000-")


def price_bucket(amount_minor: int) -> str:
    """The bucket a price falls into, named by its bounds in minor units."""
    for bound, name in _BUCKET_BOUNDS:
        if amount_minor <= bound:
            return name
    return PRICE_BUCKETS[-1]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One published offering as a buyer may find it. A later listing of the same offering replaces it."""

    offering_id: str
    title: str
    description: str
    dataset_id: str
    cooperative_id: str
    cooperative_title: str
    modality: str
    languages: tuple[str, ...]
    license_tags: tuple[str, ...]
    buyer_categories: tuple[str, ...]
    purposes: tuple[str, ...]
    access_mode: str
    prices: Mapping[str, Price]  # buyer category -> what that category pays
    min_price_amount_minor: int
    currency: str  # of min_price_amount_minor
    published_at: int  # Unix seconds
    sequence: int  # position of the change in PostgreSQL's order


@dataclass(frozen=True)
class Removed:
    """The offering is no longer to be found."""

    offering_id: str
    sequence: int


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What hits must be. An empty set does not filter; several values of one set mean any of them.

    With `category`, every price below is what that category pays; without it, the listing's lowest price.
    Amounts are compared in minor units, so `max_price_amount_minor` makes sense with `currency` only.
    """

    modalities: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    license_tags: frozenset[str] = frozenset()
    cooperative_ids: frozenset[str] = frozenset()
    dataset_ids: frozenset[str] = frozenset()
    access_modes: frozenset[str] = frozenset()
    purposes: frozenset[str] = frozenset()
    price_buckets: frozenset[str] = frozenset()
    category: str | None = None
    currency: str | None = None
    max_price_amount_minor: int | None = None
    free_only: bool = False


@dataclass(frozen=True)
class Cursor:
    """Where a page ended. `key` is the last hit's sort key, or for RELEVANCE the number of hits before."""

    order: Order
    key: int
    offering_id: str

    def to_json(self) -> dict[str, Any]:
        return {"order": self.order.value, "key": self.key, "offering_id": self.offering_id}

    @classmethod
    def from_json(cls, value: object) -> Cursor:
        """Raises WrongCursor for anything `to_json` did not make."""
        match value:
            case {"order": str(order), "key": int(key), "offering_id": str(offering_id)} if (
                order in list(Order) and not isinstance(key, bool) and 0 <= key < 1 << 63
            ):
                return cls(Order(order), key, offering_id)
        raise WrongCursor("this cursor was not made by search")


@dataclass(frozen=True, kw_only=True)
class SearchQuery:
    """What a buyer asks for. Text is never an expression: quotes, colons and operators are just spaces.

    Every word must match, the last one as a prefix too. Text without any letter or digit finds nothing,
    blank text everything. Without an order it is RELEVANCE when there is text, else NEWEST.
    """

    text: str = ""
    filters: Filters = field(default_factory=Filters)
    facets: frozenset[Facet] = frozenset()
    page_size: int = 20
    after: Cursor | None = None
    order: Order | None = None


class Hit(NamedTuple):
    """One offering found. The score orders RELEVANCE pages and is 0.0 in the others."""

    offering_id: str
    score: float


class FacetCount(NamedTuple):
    """How many listings have this value, all other dimensions filtered as asked."""

    value: str
    listings: int


@dataclass(frozen=True)
class SearchPage:
    """A page of hits. Total and facets are exact for the committed state and the same on every page.

    Facets come most frequent first. COOPERATIVE names at most the 100 most frequent.
    `next` is None on the last page.
    """

    hits: tuple[Hit, ...]
    next: Cursor | None
    total: int
    facets: Mapping[Facet, tuple[FacetCount, ...]]


class TooDeep(Exception):
    """A RELEVANCE page would reach beyond the deepest hit; narrow the query or order by NEWEST."""

    def __init__(self) -> None:
        super().__init__(f"relevance pages end at hit {DEEPEST_RELEVANCE_HIT}; narrow the search or order by newest")
        self.deepest_hit = DEEPEST_RELEVANCE_HIT


class WrongCursor(ValueError):
    """The cursor is malformed or belongs to another order."""
