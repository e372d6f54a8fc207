"""Whether a license stands on what members decided: the check that catalog, licensing, broker and gateway each make.

Values in, value out: every document and key is given, nothing is fetched. What a rule, its end, an offering and a grant
hash is said here, once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.access_broker.v1 import access_broker_pb2
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import events_pb2, governance_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import scope_pb2, signature_pb2
from rochdale_kit.clock import from_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.price_plans import flaw_of_plan
from rochdale_kit.scope import escapes, ill_formed, overlaps
from rochdale_kit.signing import (
    LICENSE_PREFIX,
    OFFERING_PREFIX,
    RULE_END_PREFIX,
    RULE_PREFIX,
    KeySet,
    canonical_hash,
    verify_hash,
)

_RULE_FIELDS = (
    "name",
    "revision",
    "effect",
    "scope",
    "effective_time",
    "expire_time",
    "proposal",
    "tally_hash",
    "member_recall",
    "emergency",
)
_GRANT_FIELDS = ("name", "license", "terms_hash", "holder", "gateway", "scope", "open_time", "end_time")


@dataclass(frozen=True)
class Flaw:
    """Why a chain does not hold: a word for programs, from docs/reference/refusals.md, and a sentence for people."""

    reason: str
    sentence: str


def hash_of_rule(rule: governance_pb2.SharingRule) -> str:
    """What rule_hash must be. State, end and approvals change later, so they are not in it."""
    return canonical_hash(rule, *_RULE_FIELDS)


def hash_of_rule_end(rule: governance_pb2.SharingRule) -> str:
    """What end_signature is made over."""
    return canonical_hash(rule, "name", "revision", "rule_hash", "end_time")


def hash_of_offering(offering: catalog_pb2.Offering) -> str:
    """What offering_hash must be. Whether it is still open is not in it."""
    return canonical_hash(offering, "name", "scope", "tiers", "rule_hashes")


def hash_of_dividend_policy(enacted: events_pb2.DividendPolicyEnacted) -> str:
    """What policy_hash must be. Which version it is, governance counts."""
    return canonical_hash(enacted, "cooperative", "policy", "proposal", "tally_hash", "effective_time")


def hash_of_grant(grant: access_broker_pb2.Grant) -> str:
    """What grant_hash must be. Its state is not in it."""
    return canonical_hash(grant, *_GRANT_FIELDS)


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
    if terms.HasField("price_plan") and (wrong := flaw_of_plan(terms.price_plan)):
        return f"have a price plan that {wrong}"
    if not terms.emergency_suspension:
        return "leave out that an emergency may suspend them"
    cited = [terms.sharing_rule, terms.offering, *(part.dataset for part in terms.scope.datasets)]
    # A cooperative can give only what is its own: its rule, its offering, its datasets.
    if foreign := [name for name in cited if not name.startswith(f"{terms.licensor}/")]:
        return f"cite {foreign[0] or 'nothing'}, which is not {terms.licensor}'s"
    return ""


def flaw_of_signed_rule(rule: governance_pb2.SharingRule, keys: CooperativeKeys) -> Flaw | None:
    """Whether a rule is the one its cooperative signed after a vote; and its end, if it ended by a decision.

    An emergency prohibition of the board needs no signature: to forbid is always safe.
    """
    cited = f"{rule.name} revision {rule.revision}"
    if hash_of_rule(rule) != rule.rule_hash:
        return Flaw("RULE_HASH_MISMATCH", f"{cited} is not what its hash was made of.")
    if not rule.name.startswith(f"{keys.cooperative}/sharingRules/"):
        return Flaw("RULE_SIGNATURE_INVALID", f"{cited} is not {keys.cooperative}'s.")
    if rule.effect == governance_pb2.RULE_EFFECT_DENY and rule.emergency:
        return None
    if not rule.HasField("effective_time") or not rule.HasField("expire_time"):
        return Flaw("RULE_NOT_IN_FORCE", f"{cited} does not say from when and until when it is in force.")
    if not rule.proposal or not rule.tally_hash:
        return Flaw("RULE_NOT_VOTED", f"{cited} cites no vote.")
    if not keys.verify(rule.signature, RULE_PREFIX, rule.rule_hash, from_timestamp(rule.effective_time)):
        return Flaw("RULE_SIGNATURE_INVALID", f"{cited} is not signed by {keys.cooperative}.")
    return None


def end_is_signed(rule: governance_pb2.SharingRule, keys: CooperativeKeys) -> bool:
    """Whether the end a rule shows is its cooperative's decision. Who keeps rules lets a prohibition end only by this,
    or by its own expire_time."""
    if not rule.HasField("end_time"):
        return False
    ended = from_timestamp(rule.end_time)
    return keys.verify(rule.end_signature, RULE_END_PREFIX, hash_of_rule_end(rule), ended)


def flaw_of_license_signature(
    license: str, terms_hash: str, signature: signature_pb2.Signature, licensing: KeySet
) -> Flaw | None:
    """Whether licensing signed the terms with this hash. A row changed by hand has no signature of its own."""
    if not verify_hash(licensing, signature, LICENSE_PREFIX, terms_hash):
        return Flaw("LICENSE_SIGNATURE_INVALID", f"The terms of {license} are not signed by licensing.")
    return None


def flaw_of_rule(
    terms: licensing_pb2.LicenseTerms, rule: governance_pb2.SharingRule | None, keys: CooperativeKeys
) -> Flaw | None:
    """Whether the rule revision cited is what the terms say, was voted, signed and in force when they were agreed, and
    holds them. keys: those of the licensor that the caller believes."""
    cited = f"{terms.sharing_rule} revision {terms.rule_revision}"
    if rule is None or (rule.name, rule.revision) != (terms.sharing_rule, terms.rule_revision):
        return Flaw("RULE_UNKNOWN", f"There is no {cited}.")
    if not hash_of_rule(rule) == rule.rule_hash == terms.rule_hash:
        return Flaw("RULE_HASH_MISMATCH", f"{cited} is not the one the license was agreed on.")
    if rule.effect != governance_pb2.RULE_EFFECT_ALLOW:
        return Flaw("RULE_FORBIDS", f"{cited} allows nothing; it forbids.")
    if flaw := flaw_of_signed_rule(rule, keys):
        return flaw
    # Licensing decides against its own copy of the rules. One signed after a narrowing took effect, but before licensing
    # heard of it, is found here and nowhere else.
    agreed = _moment(terms.agree_time)
    begun = rule.HasField("effective_time") and _moment(rule.effective_time) <= agreed
    ended = rule.HasField("end_time") and agreed >= _moment(rule.end_time)
    if not begun or ended:
        return Flaw("RULE_NOT_IN_FORCE", f"{cited} was not in force at {terms.agree_time.ToJsonString()}.")
    if agreed >= _moment(rule.expire_time):
        return Flaw("RULE_EXPIRED", f"{cited} had expired at {terms.agree_time.ToJsonString()}.")
    if rule.member_recall and not terms.member_recall:
        return Flaw("TERMS_INCONSISTENT", f"The terms of {terms.license} leave out that members may recall them.")
    if found := escapes(rule.scope, terms.scope):
        return Flaw("LICENSE_OUTSIDE_RULE", f"The license is outside {cited}: {'; '.join(map(str, found))}.")
    return None


def flaw_of_denials(
    terms: licensing_pb2.LicenseTerms, rules: Iterable[governance_pb2.SharingRule], keys: CooperativeKeys
) -> Flaw | None:
    """Whether a prohibition in force when the terms were agreed meets them. rules: all those of the cooperative that the
    caller knows; what allows is passed over, and so is a prohibition nobody signed that claims to be the members'."""
    agreed = _moment(terms.agree_time)
    for rule in rules:
        if rule.effect != governance_pb2.RULE_EFFECT_DENY or not rule.HasField("effective_time"):
            continue
        ended = rule.HasField("end_time") and agreed >= _moment(rule.end_time)
        expired = rule.HasField("expire_time") and agreed >= _moment(rule.expire_time)
        if _moment(rule.effective_time) > agreed or ended or expired or flaw_of_signed_rule(rule, keys):
            continue
        if overlaps(rule.scope, terms.scope):
            return Flaw("RULE_DENIES", f"{rule.name} forbade it at {terms.agree_time.ToJsonString()}.")
    return None


def flaw_of_offering(
    terms: licensing_pb2.LicenseTerms, offering: catalog_pb2.Offering | None, keys: CooperativeKeys
) -> Flaw | None:
    """Whether the offering cited is what the terms say, signed by its cooperative, stands on the same rule for this
    licensee, and holds them."""
    if offering is None or offering.name != terms.offering:
        return Flaw("OFFERING_UNKNOWN", f"There is no {terms.offering}.")
    if not hash_of_offering(offering) == offering.offering_hash == terms.offering_hash:
        return Flaw("OFFERING_HASH_MISMATCH", f"{terms.offering} is not the one the license was agreed on.")
    if not keys.verify(offering.signature, OFFERING_PREFIX, offering.offering_hash):
        return Flaw("OFFERING_SIGNATURE_INVALID", f"{terms.offering} is not signed by {keys.cooperative}.")
    tiers = [
        tier for tier in offering.tiers if terms.category in tier.categories and tier.sharing_rule == terms.sharing_rule
    ]
    if not tiers:
        return Flaw(
            "OFFERING_ON_OTHER_RULE", f"{terms.offering} does not stand on {terms.sharing_rule} for this buyer."
        )
    # Only the price is negotiated, never how it is due: a year for the price of a month would be another price.
    if not any(_same_plan(tier, terms) for tier in tiers):
        return Flaw("PRICE_PLAN_MISMATCH", f"{terms.offering} says another price plan than the terms for this buyer.")
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


def _same_plan(tier: catalog_pb2.OfferingTier, terms: licensing_pb2.LicenseTerms) -> bool:
    # An absent plan equals an empty one in value, but not in the hash that was signed.
    return tier.HasField("price_plan") == terms.HasField("price_plan") and tier.price_plan == terms.price_plan


def _moment(stamp: Timestamp) -> tuple[int, int]:
    return stamp.seconds, stamp.nanos
