"""Whether a grant's chain holds, decided here again from its documents alone: this gateway believes no earlier step."""

from __future__ import annotations

import re
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.scope import escapes, ill_formed
from rochdale_kit.signing import canonical_hash

_GRANT = re.compile(r"grants/gra_[0-9A-Z]{26}")
_LICENSE = re.compile(r"licenses/lic_[0-9A-Z]{26}")
# Every license says that an emergency may suspend it for at most 30 days and extends its term by as long.
_LONGEST_EXTENSION_SECONDS = 30 * 86_400
# The two times are of two services' clocks, and a free license is agreed, in force and granted within milliseconds.
_CLOCK_SECONDS = 30


@dataclass(frozen=True)
class Flaw:
    """Why a chain does not hold: a word for programs, and a sentence for the log."""

    reason: str
    sentence: str


def flaw(chain: broker.GrantChain, cooperative: str) -> Flaw | None:
    """The first flaw found; None if the grant may be served by the gateway of this cooperative."""
    return _of_grant(chain, cooperative) or _of_rule(chain, cooperative) or _of_offering(chain, cooperative)


def _of_grant(chain: broker.GrantChain, cooperative: str) -> Flaw | None:
    grant, terms = chain.grant, chain.terms
    if not _GRANT.fullmatch(grant.name) or not _LICENSE.fullmatch(grant.license):
        return Flaw("CHAIN_INCONSISTENT", "The grant or its license has a name that is none.")
    if grant.gateway != f"gateways/{cooperative}" or terms.licensor != f"cooperatives/{cooperative}":
        return Flaw("NOT_OURS", "The grant or its license is another cooperative's.")
    if terms.license != grant.license or terms.licensee != f"licensees/{grant.holder.removeprefix('organizations/')}":
        return Flaw("CHAIN_INCONSISTENT", "The grant is not for the license or the licensee of its terms.")
    if canonical_hash(terms) != grant.terms_hash:
        return Flaw("TERMS_HASH_MISMATCH", "The terms are not those the grant's hash was made of.")
    if wrong := ill_formed(terms.scope):
        return Flaw("SCOPE_ILL_FORMED", " ".join(wrong))
    foreign = [part.dataset for part in terms.scope.datasets if not part.dataset.startswith(f"{terms.licensor}/")]
    if foreign:
        return Flaw("NOT_OURS", f"The license names {foreign[0]}, which is another cooperative's.")
    if terms.category not in terms.scope.categories or terms.price != terms.scope.floor_price:
        return Flaw("CHAIN_INCONSISTENT", "The license is not for its licensee's category, or names two prices.")
    if not 1 <= terms.duration_seconds <= terms.scope.max_duration_seconds:
        return Flaw("CHAIN_INCONSISTENT", "The license lasts longer than its own scope allows.")
    if found := escapes(terms.scope, grant.scope):
        return Flaw("GRANT_OUTSIDE_LICENSE", f"The grant is outside its license: {'; '.join(map(str, found))}.")
    if not (grant.HasField("open_time") and grant.HasField("end_time") and terms.HasField("agree_time")):
        return Flaw("CHAIN_INCONSISTENT", "The grant does not say when it begins and ends.")
    latest = grant.open_time.seconds + terms.duration_seconds + _LONGEST_EXTENSION_SECONDS
    early = grant.open_time.seconds + _CLOCK_SECONDS < terms.agree_time.seconds
    if grant.end_time.seconds > latest or early:
        return Flaw("GRANT_OUTSIDE_LICENSE", "The grant begins before or lasts longer than its license.")
    return None


def _of_rule(chain: broker.GrantChain, cooperative: str) -> Flaw | None:
    terms, rule = chain.terms, chain.sharing_rule
    if not rule.name.startswith(f"cooperatives/{cooperative}/"):
        return Flaw("NOT_OURS", "The license stands on another cooperative's rule.")
    if (rule.name, rule.revision) != (terms.sharing_rule, terms.rule_revision):
        return Flaw("CHAIN_INCONSISTENT", "The rule is not the one the license cites.")
    recomputed = canonical_hash(rule, "name", "revision", "effect", "scope", "effective_time")
    if not recomputed == rule.rule_hash == terms.rule_hash:
        return Flaw("RULE_HASH_MISMATCH", "The rule is not the one the license was agreed on.")
    if rule.effect != governance_pb2.RULE_EFFECT_ALLOW:
        return Flaw("RULE_FORBIDS", "The rule allows nothing; it forbids.")
    agreed = _moment(terms.agree_time)
    begun = rule.HasField("effective_time") and _moment(rule.effective_time) <= agreed
    ended = rule.HasField("end_time") and agreed >= _moment(rule.end_time)
    if not begun or ended:
        return Flaw("RULE_NOT_IN_FORCE", "The rule was not in force when the license was agreed.")
    if found := escapes(rule.scope, terms.scope):
        return Flaw("LICENSE_OUTSIDE_RULE", f"The license is outside the rule: {'; '.join(map(str, found))}.")
    return None


def _of_offering(chain: broker.GrantChain, cooperative: str) -> Flaw | None:
    terms, offering = chain.terms, chain.offering
    if not offering.name.startswith(f"cooperatives/{cooperative}/"):
        return Flaw("NOT_OURS", "The license stands on another cooperative's offering.")
    if offering.name != terms.offering:
        return Flaw("CHAIN_INCONSISTENT", "The offering is not the one the license cites.")
    recomputed = canonical_hash(offering, "name", "scope", "tiers", "rule_hashes")
    if not recomputed == offering.offering_hash == terms.offering_hash:
        return Flaw("OFFERING_HASH_MISMATCH", "The offering is not the one the license was agreed on.")
    if not any(
        terms.category in tier.categories and tier.sharing_rule == terms.sharing_rule for tier in offering.tiers
    ):
        return Flaw("OFFERING_ON_OTHER_RULE", "The offering does not stand on that rule for this buyer.")
    # Price and duration may be negotiated away from the listed ones; the rule bounds both, and was asked already.
    listed = scope_pb2.SharingScope()
    listed.CopyFrom(offering.scope)
    listed.floor_price.CopyFrom(terms.scope.floor_price)
    listed.max_duration_seconds = terms.scope.max_duration_seconds
    if found := escapes(listed, terms.scope):
        return Flaw("LICENSE_OUTSIDE_OFFERING", f"The license is outside the offering: {'; '.join(map(str, found))}.")
    return None


def _moment(stamp: Timestamp) -> tuple[int, int]:
    return stamp.seconds, stamp.nanos
