"""When a dataset may be offered, to whom and for what. No clock, no ids, no connection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import Flaw, end_is_signed, flaw_of_signed_rule, hash_of_offering, tier_scope
from rochdale_kit.clock import from_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.money import require_currency
from rochdale_kit.price_plans import flaw_of_plan, shortest_period_seconds
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import escapes, overlaps, require_inside, require_well_formed
from rochdale_kit.scope_words import duration
from rochdale_kit.signing import OFFERING_PREFIX


@dataclass(frozen=True)
class Rules:
    """A cooperative's rules at one moment, and the keys they were checked with.

    in_force: by name. flawed: kept, but not what the cooperative's keys sign now; why, by name. expired: names.
    """

    keys: CooperativeKeys
    in_force: Mapping[str, governance.SharingRule]
    flawed: Mapping[str, Flaw]
    expired: frozenset[str]

    @classmethod
    def at(cls, kept: Iterable[governance.SharingRule], keys: CooperativeKeys, at: dt.datetime) -> Rules:
        """Of what is kept as not ended. Checked each time, not only when heard: a key may be found compromised later,
        and a row may be changed by hand."""
        in_force, flawed, expired = {}, {}, set()
        for rule in kept:
            if flaw := flaw_of_signed_rule(rule, keys):
                flawed[rule.name] = flaw
            elif rule.HasField("expire_time") and from_timestamp(rule.expire_time) <= at:
                expired.add(rule.name)
            else:
                in_force[rule.name] = rule
        return cls(keys, in_force, flawed, frozenset(expired))


def in_force(rule: governance.SharingRule, keys: CooperativeKeys) -> bool:
    """Whether a rule heard has not ended. A prohibition ends by its cooperative's signature only: whoever could end one
    by a mere event could let data out."""
    if rule.effect == governance.RULE_EFFECT_DENY:
        return not end_is_signed(rule, keys)
    return rule.state == governance.RULE_STATE_IN_FORCE


def replaces(heard: governance.SharingRule, heard_in_force: bool, known: governance.SharingRule) -> bool:
    """Whether a rule as heard takes the place of what is known of it; events may arrive in any order.

    A prohibition has one revision, and only its own end changes it.
    """
    if known.effect == governance.RULE_EFFECT_DENY:
        return not heard_in_force and heard.rule_hash == known.rule_hash
    return heard.revision > known.revision or (heard.revision == known.revision and not heard_in_force)


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


def check_plans(scope: scope_pb2.SharingScope, tiers: Sequence[pb.OfferingTier]) -> None:
    """Every tier's price plan makes sense, and a license may last as long as its shortest period. Refuses with
    PRICE_PLAN_INVALID."""
    for number, tier in enumerate(tiers, 1):
        if not tier.HasField("price_plan"):
            continue
        wrong = flaw_of_plan(tier.price_plan)
        shortest = shortest_period_seconds(tier.price_plan)
        if not wrong and scope.max_duration_seconds < shortest:
            wrong = f"has a period of {duration(shortest)} or more, and no license lasts as long"
        if wrong:
            raise Refusal("PRICE_PLAN_INVALID", f"The price plan of tier {number} {wrong}.", tier=number)


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
        if later := published[last].superseded_by:
            raise Refusal(
                "VERSION_SUPERSEDED",
                f"Version {last} of {dataset.dataset} gave way to version {later}, because members withdrew.",
                Kind.STATE,
                dataset=dataset.dataset,
                version=last,
                superseded_by=later,
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


def check_heard(keys: CooperativeKeys, unheard: Sequence[str]) -> None:
    """Keys and rules of the cooperative that the catalog has not heard of may be on their way: the caller is told to try
    again."""
    if not keys:
        raise Refusal(
            "COOPERATIVE_KEY_MISSING",
            f"The catalog has not heard of a key of {keys.cooperative}; if it was just added, try again.",
            Kind.UNAVAILABLE,
            cooperative=keys.cooperative,
        )
    for name in unheard:
        if name.startswith(f"{keys.cooperative}/"):
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
    rules: Rules,
) -> list[governance.SharingRule]:
    """Every tier stands on a signed ALLOW rule in force that it is inside of, and no DENY rule reaches it.

    rules: all those of the cooperative. Returns the rule of each tier.
    """
    cited = []
    for tier in tiers:
        if flaw := rules.flawed.get(tier.sharing_rule):
            raise Refusal(
                "RULE_SIGNATURE_INVALID", flaw.sentence, Kind.STATE, sharing_rule=tier.sharing_rule, flaw=flaw.reason
            )
        rule = rules.in_force.get(tier.sharing_rule)
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
        if (forbids := forbidding(offered, rules.in_force.values())) is not None:
            raise Refusal(
                "OFFERING_FORBIDDEN",
                f"{forbids.name} forbids what this offering offers.",
                Kind.STATE,
                sharing_rule=forbids.name,
            )
        cited.append(rule)
    return cited


def check_signature(offering: pb.Offering, keys: CooperativeKeys) -> None:
    """The cooperative's latest key signed the offering. What was computed is named, so that a client sees what differs."""
    if offering.signature.key_id == keys.latest_id and keys.verify(
        offering.signature, OFFERING_PREFIX, offering.offering_hash
    ):
        return
    raise Refusal(
        "SIGNATURE_INVALID",
        f"The signature is not one of the key {keys.latest_id} over the offering's hash, {offering.offering_hash}.",
        offering=offering.name,
        offering_hash=offering.offering_hash,
        key_id=keys.latest_id,
    )


def forbidding(scope: scope_pb2.SharingScope, rules: Iterable[governance.SharingRule]) -> governance.SharingRule | None:
    """The first DENY rule that reaches a scope: deny wins, whatever other rules allow."""
    return next(
        (rule for rule in rules if rule.effect == governance.RULE_EFFECT_DENY and overlaps(rule.scope, scope)), None
    )


def close_reason(offering: pb.Offering, rules: Rules) -> str:
    """Why an open offering can no longer stand; empty if it can."""
    if hash_of_offering(offering) != offering.offering_hash or not rules.keys.verify(
        offering.signature, OFFERING_PREFIX, offering.offering_hash
    ):
        return "SIGNATURE_INVALID"
    for tier in offering.tiers:
        offered = tier_scope(offering.scope, tier)
        if tier.sharing_rule in rules.flawed:
            return "RULE_SIGNATURE_INVALID"
        if tier.sharing_rule in rules.expired:
            return "RULE_EXPIRED"
        rule = rules.in_force.get(tier.sharing_rule)
        if rule is None or escapes(rule.scope, offered):
            return "RULE_NARROWED"
        if forbidding(offered, rules.in_force.values()) is not None:
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
