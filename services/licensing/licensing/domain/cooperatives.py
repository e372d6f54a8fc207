"""When a rule or an offering is believed to be its cooperative's own."""

from __future__ import annotations

from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale_kit.chain import Flaw, flaw_of_signed_rule, hash_of_offering
from rochdale_kit.cooperative_keys import CooperativeKeys, keys_of, require_heard
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import OFFERING_PREFIX


def require_signed_rule(rule: governance_pb2.SharingRule, known: governance_pb2.Cooperative | None) -> CooperativeKeys:
    """The keys by which a rule is its cooperative's own. Refuses any other with the reason of its flaw."""
    name = rule.name.partition("/sharingRules/")[0]
    keys = keys_of(known, name)
    if not (rule.effect == governance_pb2.RULE_EFFECT_DENY and rule.emergency):
        require_heard(keys, known, rule.signature.key_id)
    _require(flaw_of_signed_rule(rule, keys))
    return keys


def require_signed_offering(offering: catalog_pb2.Offering, known: governance_pb2.Cooperative | None) -> None:
    """Likewise for an offering."""
    keys = keys_of(known, offering.name.partition("/offerings/")[0])
    require_heard(keys, known, offering.signature.key_id)
    _require(flaw_of_signed_offering(offering, keys))


def require_still_signed(offering: catalog_pb2.Offering, keys: CooperativeKeys) -> None:
    """Refuses an offering signed by a key that was lost since it was heard of with OFFERING_CLOSED."""
    if flaw := flaw_of_signed_offering(offering, keys):
        raise Refusal("OFFERING_CLOSED", flaw.sentence, Kind.STATE, offering=offering.name)


def flaw_of_signed_offering(offering: catalog_pb2.Offering, keys: CooperativeKeys) -> Flaw | None:
    if hash_of_offering(offering) != offering.offering_hash:
        return Flaw("OFFERING_HASH_MISMATCH", f"{offering.name} is not what its hash was made of.")
    if not keys.verify(offering.signature, OFFERING_PREFIX, offering.offering_hash):
        return Flaw("OFFERING_SIGNATURE_INVALID", f"{offering.name} is not signed by {keys.cooperative}.")
    return None


def _require(flaw: Flaw | None) -> None:
    if flaw is not None:
        raise Refusal(flaw.reason, flaw.sentence, Kind.STATE)
