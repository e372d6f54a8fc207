"""Access tokens for one license: asked for when needed, renewed before they end. What they open is for others to use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ulid import ULID

from rochdale.client.renewal import Renewable

if TYPE_CHECKING:
    from rochdale.access_broker.v1 import access_broker_pb2
    from rochdale.client.market import Market


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token for one gateway. `datasets` are resource names; `expires_at` is in seconds since the epoch."""

    token: str
    expires_at: float
    gateway_url: str
    datasets: tuple[str, ...]


def license_name(text: str) -> str:
    """ "licenses/lic_…" of either that or "lic_…"."""
    return text if text.startswith("licenses/") else f"licenses/{text}"


def issue_token(
    market: Market,
    license: str,
    *,
    request_id: str | None = None,
    ttl_seconds: int = 0,
    dataset: str = "",
    version: int = 0,
    columns: Sequence[str] = (),
) -> access_broker_pb2.IssuedToken:
    """Asks the broker for one token. What is left out is the grant's; ttl_seconds 0 means 900.

    Refuses with NOT_FOUND, GRANT_NOT_OPEN, GATEWAY_UNKNOWN, TTL_TOO_SHORT, TOKEN_OUTSIDE_GRANT.
    """
    from rochdale.access_broker.v1 import access_broker_pb2

    request = access_broker_pb2.IssueTokenRequest(
        request_id=request_id or str(ULID()),
        license=license_name(license),
        ttl_seconds=ttl_seconds,
        dataset=dataset,
        version=version,
        columns=columns,
    )
    return market.call(market.access_broker.IssueToken, request)


def license_tokens(
    market: Market, license: str, *, dataset: str = "", version: int = 0, columns: Sequence[str] = ()
) -> Renewable[AccessToken]:
    """Tokens of the same scope for as long as the license lasts."""

    def issue() -> AccessToken:
        issued = issue_token(market, license, dataset=dataset, version=version, columns=columns)
        return AccessToken(
            token=issued.token,
            expires_at=float(issued.expire_time.seconds),
            gateway_url=issued.gateway_url,
            datasets=tuple(entry.dataset for entry in issued.scope.datasets),
        )

    return Renewable(issue)
