"""Whether a license stands on its rule and its offering: the check that broker and gateway each make for themselves.

Values in, value out: every document is given, nothing is fetched. What a rule or an offering hashes is said here, once.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.scope import escapes, ill_formed
from rochdale_kit.signing import canonical_hash


@dataclass(frozen=True)
class Flaw:
    """Why a chain does not hold: a word for programs, from docs/reference/refusals.md, and a sentence for people."""

    reason: str
    sentence: str


def hash_of_rule(rule: governance_pb2.SharingRule) -> str:
    """What rule_hash must be. State, end and approvals change later, so they are not in it."""
    return canonical_hash(rule, "name", "revision", "effect", "scope", "effective_time")


def hash_of_offering(offering: catalog_pb2.Offering) -> str:
    """What offering_hash must be. Whether it is still open is not in it."""
    return canonical_hash(offering, "name", "scope", "tiers", "rule_hashes")


def tier_scope(offered: scope_pb2.SharingScope, tier: catalog_pb2.OfferingTier) -> scope_pb2.SharingScope:
    """An offering's scope as one of its tiers has it: the tier's categories, at the tier's price."""
    scope = scope_pb2.SharingScope()
    scope.CopyFrom(offered)
    scope.categories[:] = tier.categories
    scope.floor_price.CopyFrom(tier.price)
    return scope


def flaw_of_terms(terms: licensing_pb2.LicenseTerms, license: str, terms_hash: str) -> Flaw | None:
    """What the terms say about themselves, for the license of this name that claims this hash for them."""
    if canonical_hash(terms) != terms_hash:
        return Flaw("TERMS_HASH_MISMATCH", f"The terms of {license} are not those its hash was made of.")
    if wrong := ill_formed(terms.scope):
        return Flaw("SCOPE_ILL_FORMED", " ".join(wrong))
    if inconsistent := _inconsistent(terms, license):
        return Flaw("TERMS_INCONSISTENT", f"The terms of {license} {inconsistent}.")
    return None


def _inconsistent(terms: licensing_pb2.LicenseTerms, license: str) -> str:
    if terms.license != license:
        return f"are those of {terms.license or 'no license'}"
    if not terms.HasField("agree_time"):
        return "do not say when they were agreed"
    if terms.category not in terms.scope.categories:
        return "are not for the licensee's category"
    if terms.price != terms.scope.floor_price:
        return "name two prices"
    if not 1 <= terms.duration_seconds <= terms.scope.max_duration_seconds:
        return "last longer than their own scope allows"
    if not terms.emergency_suspension:
        return "leave out that an emergency may suspend them"
    cited = [terms.sharing_rule, terms.offering, *(part.dataset for part in terms.scope.datasets)]
    # A cooperative can give only what is its own: its rule, its offering, its datasets.
    if foreign := [name for name in cited if not name.startswith(f"{terms.licensor}/")]:
        return f"cite {foreign[0] or 'nothing'}, which is not {terms.licensor}'s"
    return ""


def flaw_of_rule(terms: licensing_pb2.LicenseTerms, rule: governance_pb2.SharingRule | None) -> Flaw | None:
    """Whether the rule revision cited is what the terms say, was in force when they were agreed, and holds them."""
    cited = f"{terms.sharing_rule} revision {terms.rule_revision}"
    if rule is None or (rule.name, rule.revision) != (terms.sharing_rule, terms.rule_revision):
        return Flaw("RULE_UNKNOWN", f"There is no {cited}.")
    if not hash_of_rule(rule) == rule.rule_hash == terms.rule_hash:
        return Flaw("RULE_HASH_MISMATCH", f"{cited} is not the one the license was agreed on.")
    if rule.effect != governance_pb2.RULE_EFFECT_ALLOW:
        return Flaw("RULE_FORBIDS", f"{cited} allows nothing; it forbids.")
    # Licensing decides against its own copy of the rules. One signed after a narrowing took effect, but before licensing
    # heard of it, is found here and nowhere else.
    agreed = _moment(terms.agree_time)
    begun = rule.HasField("effective_time") and _moment(rule.effective_time) <= agreed
    ended = rule.HasField("end_time") and agreed >= _moment(rule.end_time)
    if not begun or ended:
        return Flaw("RULE_NOT_IN_FORCE", f"{cited} was not in force at {terms.agree_time.ToJsonString()}.")
    if found := escapes(rule.scope, terms.scope):
        return Flaw("LICENSE_OUTSIDE_RULE", f"The license is outside {cited}: {'; '.join(map(str, found))}.")
    return None


def flaw_of_offering(terms: licensing_pb2.LicenseTerms, offering: catalog_pb2.Offering | None) -> Flaw | None:
    """Whether the offering cited is what the terms say, stands on the same rule for this licensee, and holds them."""
    if offering is None or offering.name != terms.offering:
        return Flaw("OFFERING_UNKNOWN", f"There is no {terms.offering}.")
    if not hash_of_offering(offering) == offering.offering_hash == terms.offering_hash:
        return Flaw("OFFERING_HASH_MISMATCH", f"{terms.offering} is not the one the license was agreed on.")
    if not any(
        terms.category in tier.categories and tier.sharing_rule == terms.sharing_rule for tier in offering.tiers
    ):
        return Flaw(
            "OFFERING_ON_OTHER_RULE", f"{terms.offering} does not stand on {terms.sharing_rule} for this buyer."
        )
    # Price and duration may be negotiated away from the listed ones; the rule bounds both, and was asked already.
    listed = scope_pb2.SharingScope()
    listed.CopyFrom(offering.scope)
    listed.floor_price.CopyFrom(terms.scope.floor_price)
    listed.max_duration_seconds = terms.scope.max_duration_seconds
    if found := escapes(listed, terms.scope):
        return Flaw(
            "LICENSE_OUTSIDE_OFFERING", f"The license is outside {terms.offering}: {'; '.join(map(str, found))}."
        )
    return None


def _moment(stamp: Timestamp) -> tuple[int, int]:
    return stamp.seconds, stamp.nanos
