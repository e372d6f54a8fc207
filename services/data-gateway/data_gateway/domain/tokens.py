"""What an access token opens: its claims against a closed schema, and the scope they make of the grant's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rochdale.type.v1 import scope_pb2
from rochdale_kit.scope import escapes
from rochdale_kit.signing import TokenError, TokenRules

ISSUER = "rochdale-access-broker"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068's name, not a secret
DETAILS_TYPE = "rochdale_dataset"
# The broker's longest life of a token, and some minutes for its arithmetic.
MAX_LIFE_SECONDS = 86_400 + 300

# A name we do not know may be a limit we would not keep, so it denies.
_CLAIMS = {"iss", "aud", "sub", "client_id", "iat", "nbf", "exp", "jti", "authorization_details"}
_REQUIRED = {"type", "locations", "license", "grant", "grant_hash", "dataset", "first_version"} | {
    "last_version",
    "mode",
    "purposes",
    "actions",
}
_OPTIONAL = {"columns", "not_before", "not_after"}
_VERSIONS = 2**31
_TIMES = 2**37  # the year 6325


def token_rules(cooperative: str) -> TokenRules:
    return TokenRules(TOKEN_TYPE, ISSUER, f"gateways/{cooperative}", MAX_LIFE_SECONDS)


@dataclass(frozen=True)
class TokenDetail:
    """The one authorization detail of a token, type-checked. columns None means all of the grant's; times are seconds
    since 1970."""

    license: str
    grant: str
    grant_hash: str
    dataset: str
    first_version: int
    last_version: int
    mode: int
    purposes: tuple[str, ...]
    actions: tuple[int, ...]
    columns: tuple[str, ...] | None
    not_before: int | None
    not_after: int | None


def read_detail(claims: Mapping[str, Any], public_url: str) -> TokenDetail:
    """Raises TokenError for anything but exactly one detail of exactly our shape, meant for this place."""
    if not set(claims) <= _CLAIMS:
        raise TokenError("a claim that is not known")
    details = claims.get("authorization_details")
    if not isinstance(details, list) or len(details) != 1 or not isinstance(details[0], dict):
        raise TokenError("not exactly one authorization detail")
    detail: dict[str, Any] = details[0]
    if not _REQUIRED <= set(detail) <= _REQUIRED | _OPTIONAL or detail["type"] != DETAILS_TYPE:
        raise TokenError("the authorization detail has another shape")
    if public_url.rstrip("/") not in [place.rstrip("/") for place in _texts(detail, "locations")]:
        raise TokenError("for another location")
    try:
        mode = scope_pb2.AccessMode.Value(_text(detail, "mode"))
        actions = tuple(scope_pb2.UseAction.Value(action) for action in _texts(detail, "actions"))
    except ValueError:
        raise TokenError("a mode or an action that is not known") from None
    return TokenDetail(
        license=_text(detail, "license"),
        grant=_text(detail, "grant"),
        grant_hash=_text(detail, "grant_hash"),
        dataset=_text(detail, "dataset"),
        first_version=_whole(detail, "first_version", _VERSIONS),
        last_version=_whole(detail, "last_version", _VERSIONS),
        mode=mode,
        purposes=_texts(detail, "purposes"),
        actions=actions,
        columns=_texts(detail, "columns") if "columns" in detail else None,
        not_before=_whole(detail, "not_before", _TIMES) if "not_before" in detail else None,
        not_after=_whole(detail, "not_after", _TIMES) if "not_after" in detail else None,
    )


def token_scope(granted: scope_pb2.SharingScope, detail: TokenDetail) -> scope_pb2.SharingScope:
    """What the token opens: the grant's scope with the token's own values. Raises TokenError if that is no narrowing."""
    scope = scope_pb2.SharingScope()
    scope.CopyFrom(granted)
    del scope.datasets[:]
    held = next((part for part in granted.datasets if part.dataset == detail.dataset), None)
    columns = detail.columns if detail.columns is not None else tuple(held.columns) if held else ()
    scope.datasets.add(
        dataset=detail.dataset,
        first_version=detail.first_version,
        last_version=detail.last_version,
        columns=columns,
    )
    scope.max_mode = detail.mode  # type: ignore[assignment] # the enum's int, read by its name above
    scope.purposes[:] = detail.purposes
    scope.actions[:] = detail.actions  # type: ignore[assignment]
    if detail.not_before is not None:
        scope.not_before.FromSeconds(detail.not_before)
    if detail.not_after is not None:
        scope.not_after.FromSeconds(detail.not_after)
    if found := escapes(granted, scope):
        raise TokenError(f"outside its grant: {', '.join(one.dimension for one in found)}")
    return scope


def _text(detail: Mapping[str, Any], name: str) -> str:
    value = detail[name]
    if type(value) is not str or not value:
        raise TokenError(f"{name} is not a text")
    return value


def _texts(detail: Mapping[str, Any], name: str) -> tuple[str, ...]:
    # A text where a list belongs would turn "in" into a search for a part of it.
    value = detail[name]
    if type(value) is not list or not value or any(type(one) is not str or not one for one in value):
        raise TokenError(f"{name} is not a list of texts")
    if len(set(value)) != len(value):
        raise TokenError(f"{name} names something twice")
    return tuple(value)


def _whole(detail: Mapping[str, Any], name: str, limit: int) -> int:
    value = detail[name]
    if type(value) is not int or not 0 <= value < limit:
        raise TokenError(f"{name} is not a number")
    return value
