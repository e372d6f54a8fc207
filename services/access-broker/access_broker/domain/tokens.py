"""What a token may say: never more than its grant, never longer, never too large for a gateway to look at."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass

from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import require_inside

ISSUER = "rochdale-access-broker"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068's name, not a secret
DETAILS_TYPE = "rochdale_dataset"
DEFAULT_TTL_SECONDS = 900
MIN_TTL_SECONDS = 60
MAX_TTL_SECONDS = 86_400

# A gateway looks at no more than 4 KiB of claims with 256 brackets. Everything but the two lists that can be long takes
# at most 1,735 bytes of that: names at their longest, a gateway's address of 500 characters, every action.
MAX_LIST_BYTES = 2_300
MAX_LIST_BRACKETS = 200


@dataclass(frozen=True)
class HeldGrant:
    """What never changes about a grant that was opened, which may therefore be remembered. cooperative and holder are
    bare ids."""

    id: str
    license: str
    cooperative: str
    holder: str
    scope: scope_pb2.SharingScope
    end_time: dt.datetime
    grant_hash: str


@dataclass(frozen=True)
class Issuance:
    """A token as it is kept: enough to make it again, never the token itself.

    request: the serialized IssueTokenRequest, from which its scope follows. client: the API key that asked.
    """

    token_id: str
    organization: str
    request_id: str
    request: bytes
    grant_id: str
    client: str
    issue_time: dt.datetime
    expire_time: dt.datetime


def not_open(license: str, what: str, **facts: object) -> Refusal:
    """what: completes "The grant of license … "."""
    return Refusal("GRANT_NOT_OPEN", f"The grant of {license} {what}.", Kind.STATE, license=license, **facts)


def lifetime(grant: HeldGrant, ttl_seconds: int, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """When a token begins and ends, in whole seconds. Refuses with TTL_TOO_SHORT, GRANT_NOT_OPEN."""
    ttl = ttl_seconds or DEFAULT_TTL_SECONDS
    if ttl < MIN_TTL_SECONDS:
        raise Refusal(
            "TTL_TOO_SHORT",
            f"A token lives at least {MIN_TTL_SECONDS} seconds; {ttl} were asked for.",
            ttl_seconds=ttl,
            min_ttl_seconds=MIN_TTL_SECONDS,
        )
    issue = now.replace(microsecond=0)
    expire = min(issue + dt.timedelta(seconds=ttl), grant.end_time.replace(microsecond=0))
    if expire <= issue:
        raise not_open(grant.license, f"ended at {grant.end_time.isoformat()}", end_time=grant.end_time.isoformat())
    return issue, expire


def narrow(grant: HeldGrant, request: pb.IssueTokenRequest) -> scope_pb2.SharingScope:
    """The grant's scope, narrowed to one dataset and to what was asked.

    Refuses with DATASET_NOT_NAMED, TOKEN_OUTSIDE_GRANT, TOKEN_TOO_LARGE.
    """
    parts = grant.scope.datasets
    if not request.dataset and len(parts) > 1:
        names = ", ".join(part.dataset for part in parts)
        raise Refusal(
            "DATASET_NOT_NAMED",
            f"A token opens one dataset and this license has several; name one of {names}.",
            datasets=names,
        )
    wanted = request.dataset or parts[0].dataset
    scope = scope_pb2.SharingScope()
    scope.CopyFrom(grant.scope)
    del scope.datasets[:]
    part = scope.datasets.add()
    part.CopyFrom(_part(grant, wanted) or scope_pb2.DatasetScope(dataset=wanted))
    if request.version:
        part.first_version = part.last_version = request.version
    if request.columns:
        part.columns[:] = request.columns
    if request.mode:
        scope.max_mode = request.mode
    require_inside(
        grant.scope, scope, "TOKEN_OUTSIDE_GRANT", f"The token would be outside the grant of {grant.license}"
    )
    _require_fits(listed_columns(grant, scope) or (), scope.purposes)
    return scope


def _part(grant: HeldGrant, dataset: str) -> scope_pb2.DatasetScope | None:
    return next((part for part in grant.scope.datasets if part.dataset == dataset), None)


def listed_columns(grant: HeldGrant, scope: scope_pb2.SharingScope) -> Sequence[str] | None:
    """The columns a token lists, or None when it opens all of the grant's.

    A grant may have 2,000 columns and a token 6 KiB, so all of them are meant by leaving them out: the gateway has the
    grant's chain and reads them there. Only a narrower list is written down.
    """
    part = scope.datasets[0]
    granted = _part(grant, part.dataset)
    return None if granted is not None and set(granted.columns) == set(part.columns) else part.columns


def _require_fits(columns: Sequence[str], purposes: Sequence[str]) -> None:
    text = json.dumps([*columns, *purposes], separators=(",", ":"), ensure_ascii=False)
    size, brackets = len(text.encode()), text.count("[") + text.count("{")
    if size > MAX_LIST_BYTES or brackets > MAX_LIST_BRACKETS:
        raise Refusal(
            "TOKEN_TOO_LARGE",
            f"A token has room for {MAX_LIST_BYTES} bytes of column names and these take {size}; ask for fewer columns, "
            "or leave them out for all of the grant's.",
            Kind.TOO_LARGE,
            size_bytes=size,
            max_bytes=MAX_LIST_BYTES,
        )


def claims(grant: HeldGrant, issuance: Issuance, scope: scope_pb2.SharingScope, gateway_url: str) -> dict[str, object]:
    """The claims of a token: RFC 9068 with exactly one RFC 9396 authorization detail. Times are seconds since 1970."""
    part = scope.datasets[0]
    detail: dict[str, object] = {
        "type": DETAILS_TYPE,
        "locations": [gateway_url],
        "license": grant.license,
        "grant": f"grants/{grant.id}",
        "grant_hash": grant.grant_hash,
        "dataset": part.dataset,
        "first_version": part.first_version,
        "last_version": part.last_version,
        "mode": scope_pb2.AccessMode.Name(scope.max_mode),
        "purposes": list(scope.purposes),
        "actions": [scope_pb2.UseAction.Name(action) for action in scope.actions],
    }
    if (columns := listed_columns(grant, scope)) is not None:
        detail["columns"] = list(columns)
    if scope.HasField("not_before"):
        # Rounded to the narrower side.
        detail["not_before"] = scope.not_before.seconds + (1 if scope.not_before.nanos else 0)
    if scope.HasField("not_after"):
        detail["not_after"] = scope.not_after.seconds
    return {
        "iss": ISSUER,
        "aud": f"gateways/{grant.cooperative}",
        "sub": f"organizations/{grant.holder}",
        "client_id": issuance.client,
        "iat": int(issuance.issue_time.timestamp()),
        "exp": int(issuance.expire_time.timestamp()),
        "jti": issuance.token_id,
        "authorization_details": [detail],
    }
