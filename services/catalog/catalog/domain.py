"""When a dataset may be offered, to whom and for what. No clock, no ids, no connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import tier_scope
from rochdale_kit.money import require_currency
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import escapes, overlaps, require_inside, require_well_formed


def offering_scope(asked: scope_pb2.SharingScope, tiers: Sequence[pb.OfferingTier]) -> scope_pb2.SharingScope:
    """The scope of a whole offering: the asked one, with the categories and the lowest price of its tiers.

    Refuses CATEGORY_REPEATED, CURRENCY_UNKNOWN, CURRENCY_MISMATCH, SCOPE_ILL_FORMED.
    """
    categories: list[int] = []
    for tier in tiers:
        require_currency(tier.price.currency)
        for category in tier.categories:
            if category in categories:
                name = scope_pb2.BuyerCategory.Name(category)
                raise Refusal("CATEGORY_REPEATED", f"{name} is in two tiers of the offering.", category=name)
            categories.append(category)
    currencies = {tier.price.currency for tier in tiers}
    if len(currencies) > 1:
        listed = ", ".join(sorted(currencies))
        raise Refusal(
            "CURRENCY_MISMATCH", f"All tiers of an offering have one currency, not {listed}.", currencies=listed
        )
    scope = scope_pb2.SharingScope()
    scope.CopyFrom(asked)
    del scope.categories[:]
    scope.categories.extend(sorted(categories))  # type: ignore[arg-type] # the enum's ints, as they come from the wire
    scope.floor_price.CopyFrom(min((tier.price for tier in tiers), key=lambda price: price.amount_minor))
    require_well_formed(scope)
    return scope


def check_datasets(
    cooperative: str, scope: scope_pb2.SharingScope, versions: Mapping[str, Mapping[int, pb.Version]]
) -> None:
    """Every dataset is the cooperative's own, every version in scope is published and has every column in scope.

    versions: dataset name -> number -> published version.
    """
    for dataset in scope.datasets:
        if not dataset.dataset.startswith(f"cooperatives/{cooperative}/"):
            raise Refusal(
                "DATASET_NOT_OWN", f"{dataset.dataset} is not a dataset of {cooperative}.", dataset=dataset.dataset
            )
        published = versions.get(dataset.dataset, {})
        latest = max(published, default=0)
        last = dataset.last_version or latest
        if not 1 <= dataset.first_version <= latest or last > latest:
            raise Refusal(
                "VERSION_NOT_PUBLISHED",
                f"{dataset.dataset} has {latest} published version(s), not {dataset.first_version} to {last}.",
                Kind.STATE,
                dataset=dataset.dataset,
                latest_version=latest,
            )
        for number in range(dataset.first_version, last + 1):
            known = {column.name for column in published[number].columns}
            if unknown := [column for column in dataset.columns if column not in known]:
                raise Refusal(
                    "COLUMN_UNKNOWN",
                    f"Version {number} of {dataset.dataset} has no column {unknown[0]}.",
                    dataset=dataset.dataset,
                    version=number,
                    column=unknown[0],
                )


def check_heard(cooperative: str, unheard: Sequence[str]) -> None:
    """Rules of the cooperative that the catalog has not heard of may be on their way: the caller is told to try again."""
    for name in unheard:
        if name.startswith(f"cooperatives/{cooperative}/"):
            raise Refusal(
                "RULE_NOT_YET_KNOWN",
                f"The catalog has not heard of {name}; if it was just enacted, try again.",
                Kind.UNAVAILABLE,
                sharing_rule=name,
            )


def check_tiers(
    cooperative: str,
    scope: scope_pb2.SharingScope,
    tiers: Sequence[pb.OfferingTier],
    rules: Mapping[str, governance.SharingRule],
) -> list[governance.SharingRule]:
    """Every tier stands on an ALLOW rule in force that it is inside of, and no DENY rule reaches it.

    rules: every rule of the cooperative in force, by name. Returns the rule of each tier.
    """
    cited = []
    for tier in tiers:
        rule = rules.get(tier.sharing_rule)
        mine = tier.sharing_rule.startswith(f"cooperatives/{cooperative}/")
        if rule is None or not mine or rule.effect != governance.RULE_EFFECT_ALLOW:
            raise Refusal(
                "RULE_NOT_IN_FORCE",
                f"{tier.sharing_rule} is not a rule of {cooperative} that allows something now.",
                Kind.STATE,
                sharing_rule=tier.sharing_rule,
            )
        offered = tier_scope(scope, tier)
        require_inside(rule.scope, offered, "OFFERING_OUTSIDE_RULE", f"The offering leaves {rule.name}")
        if (forbids := forbidding(offered, rules.values())) is not None:
            raise Refusal(
                "OFFERING_FORBIDDEN",
                f"{forbids.name} forbids what this offering offers.",
                Kind.STATE,
                sharing_rule=forbids.name,
            )
        cited.append(rule)
    return cited


def forbidding(scope: scope_pb2.SharingScope, rules: Iterable[governance.SharingRule]) -> governance.SharingRule | None:
    """The first DENY rule that reaches a scope: deny wins, whatever other rules allow."""
    return next(
        (rule for rule in rules if rule.effect == governance.RULE_EFFECT_DENY and overlaps(rule.scope, scope)), None
    )


def close_reason(offering: pb.Offering, rules: Mapping[str, governance.SharingRule]) -> str:
    """Why an open offering can no longer stand; empty if it can."""
    for tier in offering.tiers:
        offered = tier_scope(offering.scope, tier)
        rule = rules.get(tier.sharing_rule)
        if rule is None or escapes(rule.scope, offered):
            return "RULE_NARROWED"
        if forbidding(offered, rules.values()) is not None:
            return "RULE_FORBIDS"
    return ""


def license_terms(scope: scope_pb2.SharingScope) -> list[str]:
    """What can be filtered by: "action:pretrain", "duty:attribution", "purpose:AcademicResearch"."""
    return [
        *(f"action:{_short(scope_pb2.UseAction.Name(action))}" for action in scope.actions),
        *(f"duty:{_short(scope_pb2.Duty.Name(duty))}" for duty in scope.duties),
        *(f"purpose:{purpose}" for purpose in scope.purposes),
    ]


def _short(name: str) -> str:
    return name.removeprefix("USE_ACTION_").removeprefix("DUTY_").lower().replace("_", "-")
