"""Whose signature is believed under a dividend policy or a file of weights: a cooperative's keys, from the first heard of."""

from __future__ import annotations

from rochdale.governance.v1 import events_pb2 as governance
from rochdale.governance.v1 import governance_pb2
from rochdale_kit.chain import hash_of_dividend_policy
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import DIVIDEND_POLICY_PREFIX


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


def require_signed(event: governance.DividendPolicyEnacted, known: governance_pb2.Cooperative | None) -> None:
    """Refuses a policy that is not its cooperative's own; one whose key was not heard of yet, for now only."""
    keys, name = keys_of(known, event.cooperative), event.cooperative
    if not keys:
        raise Refusal(
            "COOPERATIVE_KEY_NOT_YET_KNOWN", f"No key of {name} is known yet.", Kind.UNAVAILABLE, cooperative=name
        )
    policy = f"Version {event.version} of the dividend policy of {name}"
    if hash_of_dividend_policy(event) != event.policy_hash:
        raise Refusal("POLICY_HASH_MISMATCH", f"{policy} is not what its hash was made of.", Kind.STATE)
    taken = event.policy.reserve_bps + event.policy.commons_bps + event.policy.solidarity_bps
    if taken > 10_000:
        raise Refusal("POLICY_INVALID", f"{policy} gives away {taken} of 10000.", Kind.STATE)
    if not keys.verify(event.signature, DIVIDEND_POLICY_PREFIX, event.policy_hash):
        known_ids = [key.key_id for key in known.signing_keys] if known is not None else []
        if event.signature.key_id and event.signature.key_id not in known_ids:
            # The key may be on its way, or the signature anybody's. Tried for half an hour, then parked.
            raise Refusal(
                "COOPERATIVE_KEY_UNKNOWN",
                f"The key {event.signature.key_id} is not known to be {name}'s.",
                Kind.INTERNAL,
                cooperative=name,
                key_id=event.signature.key_id,
            )
        raise Refusal("POLICY_SIGNATURE_INVALID", f"{policy} is not signed by it.", Kind.STATE)
