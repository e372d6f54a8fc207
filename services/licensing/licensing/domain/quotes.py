"""What a quote promises, and when it no longer does."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from licensing.domain.deals import Deal
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import to_timestamp
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import canonical_hash

QUOTE_LIFE = dt.timedelta(days=1)


@dataclass(frozen=True)
class Kept:
    """A quote as it is kept: the wish it answered, and the hash of the answer."""

    name: str
    offering: str
    wish: pb.Wish
    quote_hash: str
    expire_time: dt.datetime


def quoted(name: str, deal: Deal, at: dt.datetime) -> pb.Quote:
    """A quote of a deal at its listed price."""
    quote = pb.Quote(
        name=name,
        offering=deal.offering.name,
        scope=deal.scope,
        price=deal.price,
        price_plan=deal.plan,
        expire_time=to_timestamp(at + QUOTE_LIFE),
    )
    quote.quote_hash = canonical_hash(quote, "offering", "scope", "price", "price_plan")
    return quote


def require_usable(kept: Kept, request: pb.RequestLicenseRequest, at: dt.datetime) -> None:
    """Refuses a quote that is over (QUOTE_EXPIRED) or is asked to mean something else (QUOTE_MISMATCH)."""
    if kept.expire_time <= at:
        until = kept.expire_time.isoformat()
        raise Refusal(
            "QUOTE_EXPIRED", f"{kept.name} held until {until}.", Kind.STATE, quote=kept.name, expire_time=until
        )
    if request.HasField("wish"):
        raise Refusal(
            "QUOTE_MISMATCH", f"{kept.name} holds a wish already; leave yours out.", Kind.STATE, quote=kept.name
        )
    if request.offering != kept.offering:
        raise Refusal(
            "QUOTE_MISMATCH",
            f"{kept.name} is for {kept.offering}, not for {request.offering}.",
            Kind.STATE,
            quote=kept.name,
            offering=kept.offering,
        )


def require_unchanged(kept: Kept, deal: Deal, at: dt.datetime) -> None:
    """Refuses a quote whose wish would be answered differently now, as when the buyer's category changed."""
    if quoted(kept.name, deal, at).quote_hash != kept.quote_hash:
        raise Refusal(
            "QUOTE_MISMATCH", f"{kept.name} was for another scope or price; ask again.", Kind.STATE, quote=kept.name
        )
