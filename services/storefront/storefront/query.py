"""What a visitor asked for, as it stands in the address of the page: read, turned into a request, and linked to again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import urlencode

from rochdale.catalog.v1 import catalog_pb2
from rochdale.type.v1 import scope_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import require_currency
from rochdale_kit.refusals import Refusal

FACETS = ("modality", "mode", "language", "license_terms", "cooperative", "price")


class Parameters(Protocol):
    """A query string, parsed."""

    def getlist(self, key: Any) -> list[str]: ...


def words_of(enum: Any, prefix: str) -> dict[str, int]:
    """An enum's values by the word for an address: BUYER_CATEGORY_PUBLIC_BODY is "public-body"."""
    return {
        name.removeprefix(prefix).lower().replace("_", "-"): number
        for name, number in enum.items()
        if number  # zero is "not stated" in every contract
    }


CATEGORIES = words_of(scope_pb2.BuyerCategory, "BUYER_CATEGORY_")
MODES = words_of(scope_pb2.AccessMode, "ACCESS_MODE_")
MODALITIES = words_of(catalog_pb2.Modality, "MODALITY_")
ACTIONS = words_of(scope_pb2.UseAction, "USE_ACTION_")
DUTIES = words_of(scope_pb2.Duty, "DUTY_")
ORDERS = words_of(catalog_pb2.SearchOrder, "SEARCH_ORDER_")


@dataclass(frozen=True)
class Query:
    """One search. Fields are named as in the address; tuples may be given several times and mean any of them."""

    q: str = ""
    category: str = ""
    order: str = ""
    free: str = ""
    max: str = ""
    currency: str = ""
    modality: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    term: tuple[str, ...] = ()
    cooperative: tuple[str, ...] = ()
    page: str = ""

    @classmethod
    def read(cls, parameters: Parameters) -> Query:
        """From an address; what it does not know is ignored, as on every web page."""
        found: dict[str, Any] = {}
        for field in fields(cls):
            values = [value for value in parameters.getlist(field.name) if value.strip()]
            if field.default == ():
                found[field.name] = tuple(dict.fromkeys(values))
            elif values:
                found[field.name] = values[-1] if field.name == "q" else values[-1].strip()
        return cls(**found)

    def request(self) -> catalog_pb2.SearchOfferingsRequest:
        """As the catalog's request. Refuses words it does not know; the catalog judges everything else."""
        request = catalog_pb2.SearchOfferingsRequest(
            query=self.q,
            modalities=[_number(MODALITIES, word, "kind of data") for word in self.modality],
            languages=self.language,
            license_terms=self.term,
            cooperatives=[f"cooperatives/{id}" for id in self.cooperative],
            modes=[_number(MODES, word, "access mode") for word in self.mode],
            category=_number(CATEGORIES, self.category, "buyer category"),
            free_only=bool(self.free),
            order=_number(ORDERS, self.order, "order"),
            facets=FACETS,
            page_token=self.page,
        )
        if self.max:
            request.max_price.CopyFrom(_price(self.max, self.currency or "EUR"))
        return request

    @property
    def narrowed(self) -> bool:
        """Whether anything but the order was asked."""
        return replace(self, order="", page="", currency="") != Query()

    def with_value(self, name: str, value: str) -> str:
        """The address of the same search, narrowed to one more value (or set to it), from its first page."""
        before = getattr(self, name)
        return self._changed(name, (*before, value) if isinstance(before, tuple) else value)

    def without(self, name: str, value: str = "") -> str:
        """The address of the same search without one value."""
        before = getattr(self, name)
        return self._changed(name, tuple(one for one in before if one != value) if isinstance(before, tuple) else "")

    def _changed(self, name: str, value: Any) -> str:
        changes: dict[str, Any] = {name: value, "page": ""}
        return replace(self, **changes).address()

    def at_page(self, token: str) -> str:
        return replace(self, page=token).address()

    def address(self) -> str:
        """The path and query string."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        asked = {name: value for name, value in values.items() if value}
        return "/?" + urlencode(asked, doseq=True) if asked else "/"

    def kept(self) -> Sequence[tuple[str, str]]:
        """What the search form must carry along unseen: the filters that only facets set."""
        names = ("modality", "mode", "language", "term", "cooperative")
        return [(name, value) for name in names for value in getattr(self, name)]


def _number(words: Mapping[str, int], word: str, what: str) -> Any:
    """The enum value of a word; nothing said is zero, which every contract reads as not stated."""
    if not word:
        return 0
    if word not in words:
        raise Refusal("REQUEST_INVALID", f"“{word}” is no {what}; there are {', '.join(words)}.", value=word)
    return words[word]


def _price(text: str, code: str) -> Money:
    currency = require_currency(code.upper())
    try:
        amount = Decimal(text.replace(",", "")).scaleb(currency.exponent)
    except ArithmeticError:
        amount = Decimal(-1)
    # Bounded as the contract bounds it, and before int(): "1e9999999" would take all memory there.
    if not amount.is_finite() or not 0 <= amount <= 10**15 or amount != amount.to_integral_value():
        raise Refusal("REQUEST_INVALID", f"“{text}” is no amount of {currency.code}, such as 1200.", value=text)
    return Money(amount_minor=int(amount), currency=currency.code)
