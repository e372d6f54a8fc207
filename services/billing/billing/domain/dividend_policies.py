"""When a dividend policy is believed to be its cooperative's own."""

from __future__ import annotations

from rochdale.governance.v1 import events_pb2 as governance
from rochdale.governance.v1 import governance_pb2
from rochdale_kit.chain import hash_of_dividend_policy
from rochdale_kit.cooperative_keys import keys_of, require_heard
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import DIVIDEND_POLICY_PREFIX


def require_signed(event: governance.DividendPolicyEnacted, known: governance_pb2.Cooperative | None) -> None:
    """Refuses a policy that is not its cooperative's own; one whose key was not heard of yet, for now only."""
    keys, name = keys_of(known, event.cooperative), event.cooperative
    require_heard(keys, known, "")
    policy = f"Version {event.version} of the dividend policy of {name}"
    if hash_of_dividend_policy(event) != event.policy_hash:
        raise Refusal("POLICY_HASH_MISMATCH", f"{policy} is not what its hash was made of.", Kind.STATE)
    taken = event.policy.reserve_bps + event.policy.commons_bps + event.policy.solidarity_bps
    if taken > 10_000:
        raise Refusal("POLICY_INVALID", f"{policy} gives away {taken} of 10000.", Kind.STATE)
    if not keys.verify(event.signature, DIVIDEND_POLICY_PREFIX, event.policy_hash):
        require_heard(keys, known, event.signature.key_id)
        raise Refusal("POLICY_SIGNATURE_INVALID", f"{policy} is not signed by it.", Kind.STATE)
