"""What one buyer would get out of one offering, and whether the offering holds it. Whether the rule does is in rules."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from licensing.domain.licensees import require_attested
from rochdale.catalog.v1 import catalog_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale.type.v1.pricing_pb2 import PricePlan
from rochdale_kit.chain import tier_scope
from rochdale_kit.clock import from_timestamp
from rochdale_kit.money import require_currency
from rochdale_kit.price_plans import shortest_period_seconds
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import require_inside
from rochdale_kit.scope_words import duration


@dataclass(frozen=True)
class Deal:
    """A scope for one buyer, and the tier of the offering it comes from. The scope's floor_price is the price."""

    offering: catalog_pb2.Offering
    tier: catalog_pb2.OfferingTier
    scope: scope_pb2.SharingScope

    @property
    def price(self) -> Money:
        return self.scope.floor_price

    @property
    def listed(self) -> bool:
        """Whether the price is the one the cooperative published; then nobody needs to be asked."""
        return self.price == self.tier.price

    @property
    def plan(self) -> PricePlan | None:
        """How the price is due, as the tier says; None for once."""
        return plan_of(self.tier)

    def require_inside_offering(self) -> None:
        """Refuses what leaves the tier as it was published with REQUEST_OUTSIDE_OFFERING."""
        self._require_inside(tier_scope(self.offering.scope, self.tier))

    def require_negotiable(self) -> None:
        """As above, but price and duration are for the two sides to agree; the rule alone bounds them."""
        parent = tier_scope(self.offering.scope, self.tier)
        parent.floor_price.CopyFrom(self.price)
        parent.max_duration_seconds = self.scope.max_duration_seconds
        self._require_inside(parent)

    def _require_inside(self, parent: scope_pb2.SharingScope) -> None:
        require_inside(
            parent, self.scope, "REQUEST_OUTSIDE_OFFERING", f"The request is outside {self.offering.name}", Kind.STATE
        )


def proposed(
    offering: catalog_pb2.Offering,
    licensee: pb.Licensee | None,
    wish: pb.Wish,
    price: Money | None,
    at: dt.datetime,
) -> Deal:
    """The deal a wish describes; no price means the listed one.

    Refuses with LICENSEE_NOT_ATTESTED, OFFERING_CLOSED, CATEGORY_NOT_OFFERED, CURRENCY_UNKNOWN, DURATION_BELOW_PERIOD,
    and with REQUEST_OUTSIDE_OFFERING for columns of several datasets at once.
    """
    attested = require_attested(licensee, at)
    require_open(offering, at)
    tier = tier_of(offering, attested.category)
    if price is not None:
        require_currency(price.currency)
    scope = tier_scope(offering.scope, tier)
    del scope.categories[:], scope.territories[:]
    scope.categories.append(attested.category)
    scope.territories.append(attested.territory)
    # A wish is a set in any order and may say a thing twice; a scope says it once, in the order it was wished.
    if wish.purposes:
        scope.purposes[:] = dict.fromkeys(wish.purposes)
    if wish.actions:
        scope.actions[:] = dict.fromkeys(wish.actions)
    if wish.columns:
        if len(scope.datasets) != 1:
            raise Refusal(
                "REQUEST_OUTSIDE_OFFERING",
                f"{offering.name} holds {len(scope.datasets)} datasets; columns can be chosen only of one.",
                Kind.STATE,
                escapes="columns",
                datasets=len(scope.datasets),
            )
        scope.datasets[0].columns[:] = dict.fromkeys(wish.columns)
    if wish.mode:
        scope.max_mode = wish.mode
    if wish.duration_seconds:
        scope.max_duration_seconds = wish.duration_seconds
    scope.floor_price.CopyFrom(tier.price if price is None else price)
    _require_a_period(tier, scope)
    return Deal(offering, tier, scope)


def on_the_table(
    offering: catalog_pb2.Offering,
    licensee: pb.Licensee | None,
    scope: scope_pb2.SharingScope,
    at: dt.datetime,
) -> Deal:
    """The deal as it lies on the table of a negotiation, looked at again before it is agreed.

    Refuses with LICENSEE_NOT_ATTESTED, LICENSEE_CHANGED, OFFERING_CLOSED, CATEGORY_NOT_OFFERED, DURATION_BELOW_PERIOD.
    """
    attested = require_attested(licensee, at)
    # A buyer may move or be attested anew while it negotiates; what was discussed was meant for who it was then.
    if list(scope.categories) != [attested.category] or list(scope.territories) != [attested.territory]:
        raise Refusal(
            "LICENSEE_CHANGED",
            f"{attested.name} has another category or seat than when these terms were made; put new ones on the table.",
            Kind.STATE,
            licensee=attested.name,
        )
    require_open(offering, at)
    tier = tier_of(offering, attested.category)
    _require_a_period(tier, scope)
    return Deal(offering, tier, scope)


def _require_a_period(tier: catalog_pb2.OfferingTier, scope: scope_pb2.SharingScope) -> None:
    """Refuses to sell a period that the license does not last with DURATION_BELOW_PERIOD."""
    shortest = shortest_period_seconds(tier.price_plan)
    if scope.max_duration_seconds < shortest:
        raise Refusal(
            "DURATION_BELOW_PERIOD",
            f"The price is for {duration(shortest)} or more; a license of {duration(scope.max_duration_seconds)} is "
            "shorter.",
            Kind.STATE,
            duration_seconds=scope.max_duration_seconds,
            period_seconds=shortest,
        )


def at_price(scope: scope_pb2.SharingScope, price: Money) -> scope_pb2.SharingScope:
    """The scope at another price."""
    priced = scope_pb2.SharingScope()
    priced.CopyFrom(scope)
    priced.floor_price.CopyFrom(price)
    return priced


def require_open(offering: catalog_pb2.Offering, at: dt.datetime) -> None:
    """Refuses a closed offering, and one whose window is over: nobody pays for access that cannot come."""
    if offering.state != catalog_pb2.OFFERING_STATE_OPEN:
        closed = from_timestamp(offering.close_time).isoformat()
        raise Refusal(
            "OFFERING_CLOSED",
            f"{offering.name} closed at {closed}.",
            Kind.STATE,
            offering=offering.name,
            close_time=closed,
            close_reason=offering.close_reason,
        )
    if offering.scope.HasField("not_after") and from_timestamp(offering.scope.not_after) <= at:
        until = from_timestamp(offering.scope.not_after).isoformat()
        raise Refusal(
            "OFFERING_CLOSED",
            f"{offering.name} gives access only until {until}.",
            Kind.STATE,
            offering=offering.name,
            not_after=until,
        )


def tier_of(offering: catalog_pb2.Offering, category: scope_pb2.BuyerCategory.ValueType) -> catalog_pb2.OfferingTier:
    """What a category pays, under which rule. Refuses with CATEGORY_NOT_OFFERED."""
    if tier := tier_or_none(offering, category):
        return tier
    word = scope_pb2.BuyerCategory.Name(category)
    raise Refusal(
        "CATEGORY_NOT_OFFERED",
        f"{offering.name} is not open to {word}.",
        Kind.STATE,
        offering=offering.name,
        category=word,
    )


def plan_of(tier: catalog_pb2.OfferingTier | None) -> PricePlan | None:
    """How a tier's price is due; None for once."""
    return tier.price_plan if tier is not None and tier.HasField("price_plan") else None


def tier_or_none(
    offering: catalog_pb2.Offering, category: scope_pb2.BuyerCategory.ValueType
) -> catalog_pb2.OfferingTier | None:
    return next((tier for tier in offering.tiers if category in tier.categories), None)
