"""The shape of the index: its fields, a listing as a document, and the sort keys. Bump VERSION with any change."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b

import tantivy

from catalog.search.values import Listing, Order, price_bucket
from catalog.search.words import indexed

# Indexes of another version are thrown away and fed anew.
VERSION = 2

SEPARATOR = "\x1f"
SAMPLE_OF = 256

# The bits left over tell apart equal values: enough that a few of a million free offerings share one key.
_PUBLISHED_BITS, _AMOUNT_BITS = 34, 44
_LATEST, _HIGHEST = (1 << _PUBLISHED_BITS) - 1, (1 << _AMOUNT_BITS) - 1

KEY_FIELD = {Order.NEWEST: "newest_key", Order.PRICE: "price_key"}
_FILTERED = ("modality", "language", "license_tag", "cooperative", "dataset", "access_mode", "purpose")
_FILTERED_PRICES = ("category", "priced", "currency", "price_bucket", "sampled")
_FAST = {"modality", "cooperative", "access_mode", "price_bucket"}


def build(price_categories: Collection[str]) -> tantivy.Schema:
    schema = tantivy.SchemaBuilder()
    schema.add_text_field("offering_id", stored=True, tokenizer_name="raw", index_option="basic")
    # `text` holds all words, the title's too: a required word is then one posting list, not a union of fields.
    schema.add_text_field("title", tokenizer_name="whitespace", index_option="position")
    schema.add_text_field("text", tokenizer_name="whitespace", index_option="position")
    schema.add_text_field("characters", tokenizer_name="whitespace", index_option="basic")
    for name in _FILTERED + _FILTERED_PRICES:
        schema.add_text_field(name, fast=name in _FAST, tokenizer_name="raw", index_option="basic")
    # Counting a column with several values per document is forty times slower than one with a single value,
    # so facets count whole combinations ("en + fr") and take them apart afterwards.
    for name in ("languages", "license_tags"):
        schema.add_text_field(name, fast=True, tokenizer_name="raw", index_option="basic")
    for name in KEY_FIELD.values():
        schema.add_integer_field(name, fast=True, indexed=True)
    for category in price_categories:
        # Scanned only: indexing every key once more for each category would double the index.
        schema.add_integer_field(category_price_field(category), fast=True, indexed=False)
    schema.add_integer_field("min_amount", fast=True, indexed=True)
    # One path per buyer category.
    schema.add_json_field("amount", fast=True, tokenizer_name="raw", index_option="basic")
    schema.add_json_field("bucket", fast=True, tokenizer_name="raw", index_option="basic")
    return schema.build()


def document(listing: Listing, schema: tantivy.Schema, price_categories: Collection[str]) -> tantivy.Document:
    title, title_characters = indexed(listing.title)
    rest, rest_characters = indexed(f"{listing.description}\n{listing.cooperative_title}")
    categories = {category: path(category) for category in listing.prices}
    fields: dict[str, object] = {
        "offering_id": listing.offering_id,
        "title": title,
        "text": f"{title} {rest}",
        "modality": listing.modality,
        "language": sorted(set(listing.languages)),
        "languages": SEPARATOR.join(sorted(set(listing.languages))) or SEPARATOR,
        "license_tag": sorted(set(listing.license_tags)),
        "license_tags": SEPARATOR.join(sorted(set(listing.license_tags))) or SEPARATOR,
        "cooperative": listing.cooperative_id,
        "dataset": listing.dataset_id,
        "access_mode": listing.access_mode,
        "purpose": sorted(set(listing.purposes)),
        "category": sorted(set(listing.buyer_categories)),
        "priced": [f"{category}{SEPARATOR}{price.currency}" for category, price in listing.prices.items()],
        "currency": listing.currency,
        "price_bucket": price_bucket(listing.min_price_amount_minor),
        "min_amount": listing.min_price_amount_minor,
        "newest_key": newest_key(listing.offering_id, listing.published_at),
        "price_key": price_key(listing.offering_id, listing.min_price_amount_minor),
        "amount": {at: listing.prices[category].amount_minor for category, at in categories.items()},
        "bucket": {at: price_bucket(listing.prices[category].amount_minor) for category, at in categories.items()},
    }
    for category, price in listing.prices.items():
        if category in price_categories:
            fields[category_price_field(category)] = price_key(listing.offering_id, price.amount_minor)
    if title_characters or rest_characters:
        fields["characters"] = f"{title_characters} {rest_characters}"
    if _digest(listing.offering_id) % SAMPLE_OF == 0:
        fields["sampled"] = "yes"
    return tantivy.Document.from_dict(fields, schema)


def newest_key(offering_id: str, published_at: int) -> int:
    """Ascends from the latest to the oldest. The low bits spread offerings of one second, so ties stay rare."""
    back = _LATEST - min(max(published_at, 0), _LATEST)
    return _with_tie(back, _PUBLISHED_BITS, offering_id)


def price_key(offering_id: str, amount_minor: int) -> int:
    """Ascends with the price; amounts of 2^44 minor units and more count as equal."""
    return _with_tie(min(max(amount_minor, 0), _HIGHEST), _AMOUNT_BITS, offering_id)


def path(category: str) -> str:
    """A category as a path in the JSON fields; hexadecimal, because dots and spaces there mean something."""
    return f"c{category.encode().hex()}"


def category_price_field(category: str) -> str:
    """The field that orders by what a category pays."""
    return f"price_key_{path(category)}"


def _with_tie(value: int, bits: int, offering_id: str) -> int:
    tie_bits = 63 - bits
    return value << tie_bits | _digest(offering_id) >> 8 & (1 << tie_bits) - 1


def _digest(offering_id: str) -> int:
    return int.from_bytes(blake2b(offering_id.encode(), digest_size=8).digest(), "big")
