"""Publishing an offering that its cooperative signs: the hash as the catalog will have it, over the rules as they stand."""

from __future__ import annotations

import hashlib

from ulid import ULID

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.authority import SigningKey, sign_offering
from rochdale.client.market import Market
from rochdale.client.refusals import MarketError
from rochdale.governance.v1 import governance_pb2


def offering_id(request_id: str) -> str:
    """The id of the offering published under a request id, the same whenever it is said again."""
    return f"off_{ULID(hashlib.sha256(request_id.encode()).digest()[:16])}"


def publish_signed(
    market: Market, request: catalog_pb2.PublishOfferingRequest, key: SigningKey
) -> catalog_pb2.Offering:
    """Fills in what follows from the tiers, the id and the signature, and publishes.

    A rule that is narrowed at the same moment has another hash; then what it says now is signed, once.
    """
    request.offering_id = offering_id(request.request_id)
    request.scope.categories[:] = sorted({category for tier in request.tiers for category in tier.categories})
    request.scope.floor_price.CopyFrom(
        min((tier.price for tier in request.tiers), key=lambda amount: amount.amount_minor)
    )
    before = _sign(market, request, key)
    try:
        return market.call(market.catalog.PublishOffering, request)
    except MarketError as error:
        if error.reason != "SIGNATURE_INVALID" or _sign(market, request, key) == before:
            raise
        return market.call(market.catalog.PublishOffering, request)


def _sign(market: Market, request: catalog_pb2.PublishOfferingRequest, key: SigningKey) -> list[str]:
    """Signs the offering over the rules of its tiers as they are now, and says which hashes those have."""
    hashes = [
        market.call(market.governance.GetSharingRule, governance_pb2.GetSharingRuleRequest(name=name)).rule_hash
        for name in (tier.sharing_rule for tier in request.tiers)
    ]
    offering = catalog_pb2.Offering(
        name=f"{request.parent}/offerings/{request.offering_id}",
        scope=request.scope,
        tiers=request.tiers,
        rule_hashes=hashes,
    )
    request.signature.CopyFrom(sign_offering(offering, key))
    return hashes
