"""Whose signatures are believed: a cooperative's keys, from the first that was heard of."""

from __future__ import annotations

from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale_kit.chain import Flaw, flaw_of_signed_rule, hash_of_offering
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import OFFERING_PREFIX


def keys_of(cooperative: governance_pb2.Cooperative | None, name: str) -> CooperativeKeys:
    """The keys that are believed; none for a cooperative that has none, or was not heard of."""
    if cooperative is None or not cooperative.signing_keys:
        return CooperativeKeys.none(name)
    return CooperativeKeys.follow(name, list(cooperative.signing_keys))


def followed(known: governance_pb2.Cooperative | None, told: governance_pb2.Cooperative) -> governance_pb2.Cooperative:
    """What is known after governance told something, newer or older. Another line of keys is refused with
    COOPERATIVE_KEY_INVALID: the first key heard of is the one believed, and so is every one that followed."""
    if known is None:
        known = governance_pb2.Cooperative(name=told.name)
    before = [key.key_id for key in known.signing_keys]
    now = [key.key_id for key in told.signing_keys]
    if len(now) < len(before):
        # Told late: what was heard since stays, as long as both are one line.
        after = known
        now, before = before, now
    else:
        keys_of(told, told.name)
        after = told
    if now[: len(before)] != before:
        raise Refusal(
            "COOPERATIVE_KEY_INVALID",
            f"The keys told of {told.name} do not continue those that are known.",
            Kind.STATE,
            cooperative=told.name,
        )
    return after


def require_heard(keys: CooperativeKeys, known: governance_pb2.Cooperative | None, key_id: str) -> None:
    """Refuses, for now, what is signed by a key that was not heard of yet: events overtake one another."""
    told = [key.key_id for key in known.signing_keys] if known is not None else []
    if not told:
        raise Refusal(
            "COOPERATIVE_KEY_NOT_YET_KNOWN",
            f"No key of {keys.cooperative} is known yet.",
            Kind.UNAVAILABLE,
            cooperative=keys.cooperative,
        )
    if key_id and key_id not in told:
        # The key may be on its way, or the signature anybody's. Tried for half an hour, then parked for an operator.
        raise Refusal(
            "COOPERATIVE_KEY_UNKNOWN",
            f"The key {key_id} is not known to be {keys.cooperative}'s.",
            Kind.INTERNAL,
            cooperative=keys.cooperative,
            key_id=key_id,
        )


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
