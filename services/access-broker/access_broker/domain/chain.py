"""Whether a license holds: its terms, the rule revision and the offering they cite, checked against one another."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import escapes, ill_formed
from rochdale_kit.signing import canonical_hash

_LICENSE = re.compile(r"licenses/lic_[0-9A-Z]{26}")
_LICENSEE = re.compile(r"licensees/([a-z][a-z0-9-]{1,38}[a-z0-9])")
_LICENSOR = re.compile(r"cooperatives/([a-z][a-z0-9-]{1,38}[a-z0-9])")


@dataclass(frozen=True)
class Flaw:
    """Why a license does not hold: a word for programs, kept as the grant's state_reason, and a sentence for people."""

    reason: str
    sentence: str


@dataclass(frozen=True)
class Parties:
    """Who a license is between, as bare ids: the cooperative whose gateway serves it, and who holds it."""

    cooperative: str
    holder: str


def parties(license: licensing_pb2.License) -> Parties:
    """Refuses with EVENT_ILL_FORMED a license nobody could be found by; such an event is parked for an operator."""
    licensor, licensee = _LICENSOR.fullmatch(license.terms.licensor), _LICENSEE.fullmatch(license.terms.licensee)
    if not _LICENSE.fullmatch(license.name) or not licensor or not licensee:
        raise Refusal(
            "EVENT_ILL_FORMED",
            f"License '{license.name}' between '{license.terms.licensor}' and '{license.terms.licensee}' has a name "
            "that is none.",
            Kind.INVALID,
            license=license.name,
        )
    return Parties(licensor[1], licensee[1])


def flaw_of_terms(license: licensing_pb2.License) -> Flaw | None:
    """What the license says about itself. Nothing it cites need be asked for before this holds."""
    terms = license.terms
    if canonical_hash(terms) != license.terms_hash:
        return Flaw("TERMS_HASH_MISMATCH", f"The terms of {license.name} are not those its hash was made of.")
    if wrong := ill_formed(terms.scope):
        return Flaw("SCOPE_ILL_FORMED", " ".join(wrong))
    if inconsistent := _inconsistent(license, terms):
        return Flaw("TERMS_INCONSISTENT", f"The terms of {license.name} {inconsistent}.")
    return None


def _inconsistent(license: licensing_pb2.License, terms: licensing_pb2.LicenseTerms) -> str:
    if terms.license != license.name:
        return f"are those of {terms.license or 'no license'}"
    if not terms.HasField("agree_time"):
        return "do not say when they were agreed"
    if not license.HasField("activate_time") or not license.HasField("end_time"):
        return "are in force without a beginning or an end"
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
        return Flaw("RULE_UNKNOWN", f"Governance knows no {cited}.")
    recomputed = canonical_hash(rule, "name", "revision", "effect", "scope", "effective_time")
    if not recomputed == rule.rule_hash == terms.rule_hash:
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
        return Flaw("OFFERING_UNKNOWN", f"The catalog knows no {terms.offering}.")
    recomputed = canonical_hash(offering, "name", "scope", "tiers", "rule_hashes")
    if not recomputed == offering.offering_hash == terms.offering_hash:
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


def end_of_grant(license: licensing_pb2.License) -> dt.datetime | None:
    """The earliest of every end a license knows, so that none of them has to be believed alone; None if it has none."""
    terms = license.terms
    ends = []
    if license.HasField("end_time"):
        ends.append(license.end_time.ToDatetime(tzinfo=dt.UTC))
    if license.HasField("activate_time") and terms.duration_seconds > 0:
        begun = license.activate_time.ToDatetime(tzinfo=dt.UTC)
        ends.append(begun + dt.timedelta(seconds=min(terms.duration_seconds, 100 * 365 * 86_400)))
    if terms.scope.HasField("not_after"):
        ends.append(terms.scope.not_after.ToDatetime(tzinfo=dt.UTC))
    return min(ends, default=None)


def _moment(stamp: Timestamp) -> tuple[int, int]:
    return stamp.seconds, stamp.nanos
