"""Access tokens for one license: asked for when needed, renewed before they end. What they open is for others to use."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ulid import ULID

from rochdale.client.refusals import MarketError
from rochdale.client.renewal import Renewable

if TYPE_CHECKING:
    from rochdale.access_broker.v1 import access_broker_pb2
    from rochdale.client.market import Market


# How long a grant may take to follow its license before we believe that there is none.
_GRANT_SECONDS = 15.0
_POLL_SECONDS = 0.1


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

    A grant follows its license by an event, so right after an agreement or a payment this waits for it a little.
    Refuses with NOT_FOUND, GRANT_NOT_OPEN, GATEWAY_UNKNOWN, TTL_TOO_SHORT, TOKEN_OUTSIDE_GRANT, and LICENSE_NOT_PAID.
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
    deadline = time.monotonic() + _GRANT_SECONDS
    while True:
        try:
            return market.call(market.access_broker.IssueToken, request)
        except MarketError as error:
            if error.reason != "NOT_FOUND" or time.monotonic() > deadline or not _coming(market, request.license):
                raise
        time.sleep(_POLL_SECONDS)


def _coming(market: Market, license: str) -> bool:
    """Whether a grant for the license is to be expected. Refuses with LICENSE_NOT_PAID, which a buyer can mend."""
    from rochdale.billing.v1 import billing_pb2
    from rochdale.licensing.v1 import licensing_pb2

    found = market.call(market.licensing.GetLicense, licensing_pb2.GetLicenseRequest(name=license))
    if found.state == licensing_pb2.LICENSE_STATE_AGREED and found.terms.price.amount_minor:
        orders = market.call(market.billing.ListOrders, billing_pb2.ListOrdersRequest(license=license)).orders
        if all(order.state != billing_pb2.ORDER_STATE_PAID for order in orders):
            raise MarketError(
                "LICENSE_NOT_PAID",
                f"{license} is agreed but not paid. Pay with: rochdale order pay {license.removeprefix('licenses/')}",
                {"license": license},
            )
    return found.state in (licensing_pb2.LICENSE_STATE_AGREED, licensing_pb2.LICENSE_STATE_ACTIVE)


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
