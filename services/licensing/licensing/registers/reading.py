"""Answers of the registers, read: ROR API v2, GLEIF API v1, Charity Commission API. Nothing is asked here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# GLEIF's reasons for naming no parent that mean there is none. The others mean that it is not said.
_NO_PARENT = frozenset({"NO_KNOWN_PERSON", "NATURAL_PERSONS", "NON_CONSOLIDATING"})


@dataclass(frozen=True)
class Entry:
    """What matters of an entry. domains: lower case, without "www."; lei: for the LEI register alone."""

    name: str
    kinds: tuple[str, ...]
    domains: tuple[str, ...]
    active: bool
    lei: str = ""


def ror_entry(document: dict[str, Any], identifier: str) -> Entry:
    """GET /organizations/{id}."""
    if str(document["id"]).rsplit("/", 1)[-1] != identifier:
        raise ValueError("another entry than the one asked for")
    names = document["names"]
    shown = next((one for one in names if "ror_display" in one["types"]), names[0])
    sites = [_host(link["value"]) for link in document.get("links", []) if link["type"] == "website"]
    domains = [str(domain).lower() for domain in document.get("domains", [])]
    return Entry(
        str(shown["value"]),
        tuple(str(kind) for kind in document["types"]),
        tuple(dict.fromkeys(one for one in (*domains, *sites) if one)),
        document["status"] == "active",
    )


def lei_entry(document: dict[str, Any], identifier: str) -> Entry:
    """GET /lei-records/{lei} and /lei-records/{lei}/ultimate-parent; identifier empty for any."""
    attributes = document["data"]["attributes"]
    entity, lei = attributes["entity"], str(attributes["lei"])
    if identifier and lei != identifier:
        raise ValueError("another entry than the one asked for")
    # A lapsed registration was not renewed: nobody has confirmed who owns it since.
    active = entity["status"] == "ACTIVE" and attributes["registration"]["status"] == "ISSUED"
    return Entry(str(entity["legalName"]["name"]), (str(entity.get("category") or "GENERAL"),), (), active, lei)


def parent_of(exception: dict[str, Any] | None, identifier: str) -> str:
    """GET /lei-records/{lei}/ultimate-parent-reporting-exception: the entity itself if it has no parent, empty if it does
    not say, or if nothing was reported."""
    try:
        reason = exception["data"]["attributes"]["reason"] if exception is not None else ""
    except (KeyError, TypeError):
        return ""
    return identifier if reason in _NO_PARENT else ""


def charity_entry(document: dict[str, Any], identifier: str) -> Entry:
    """GET /allcharitydetailsV2/{number}/{suffix}."""
    number, _, suffix = identifier.partition("-")
    if (str(document["reg_charity_number"]), int(document["group_subsid_suffix"])) != (number, int(suffix or 0)):
        raise ValueError("another entry than the one asked for")
    purposes = [
        str(one["classification_desc"])
        for one in document["who_what_where"] or []
        if one["classification_type"] == "What"
    ]
    site = _host(document.get("web") or "")
    # In administration or insolvent it is still registered; who speaks for it then is another question.
    active = document["reg_status"] == "R" and not document["insolvent"] and not document["in_administration"]
    return Entry(str(document["charity_name"]), tuple(purposes), (site,) if site else (), active)


def _host(url: str) -> str:
    host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    return host.lower().removeprefix("www.")


def read(reader: Callable[[dict[str, Any], str], Entry], document: Any, identifier: str) -> Entry | None:
    """The entry in an answer; None for no such entry. Raises ValueError for an answer that is not the register's."""
    if document is None:
        return None
    try:
        return reader(document, identifier)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not what was expected: {type(error).__name__} {error}") from None
