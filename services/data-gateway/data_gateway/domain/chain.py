"""Whether a grant's chain holds, decided here again from its documents alone: this gateway believes no earlier step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.governance.v1 import governance_pb2
from rochdale_kit.chain import (
    Flaw,
    flaw_of_denials,
    flaw_of_license_signature,
    flaw_of_offering,
    flaw_of_rule,
    flaw_of_terms,
    hash_of_grant,
)
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.scope import escapes
from rochdale_kit.signing import GRANT_PREFIX, KeySet, verify_hash

_GRANT = re.compile(r"grants/gra_[0-9A-Z]{26}")
_LICENSE = re.compile(r"licenses/lic_[0-9A-Z]{26}")
# Every license says that an emergency may suspend it for at most 30 days and extends its term by as long.
_LONGEST_EXTENSION_SECONDS = 30 * 86_400
# The two times are of two services' clocks, and a free license is agreed, in force and granted within milliseconds.
_CLOCK_SECONDS = 30


@dataclass(frozen=True)
class Witness:
    """What this gateway knows by itself.

    signed: the broker's signature of the grant verified, now or when it was heard; the broker's keys are forgotten a day
    after they are retired, and grants live longer. ended says of a rule's name, revision and hash whether the cooperative
    had ended it by then (seconds, nanoseconds). denials are the prohibitions remembered.
    """

    cooperative: str
    keys: CooperativeKeys
    licensing: KeySet
    signed: bool
    ended: Callable[[str, int, str, tuple[int, int]], bool]
    denials: Iterable[governance_pb2.SharingRule]


def flaw(chain: broker.GrantChain, witness: Witness) -> Flaw | None:
    """The first flaw found; None if the grant may be served."""
    try:
        return _first(chain, witness)
    except (ValueError, OverflowError):
        # Nobody has checked what the broker tells, and a time outside of the calendar can neither be hashed nor compared.
        return Flaw("CHAIN_INCONSISTENT", "The chain holds a time outside of the years 1 to 9999.")


def _first(chain: broker.GrantChain, witness: Witness) -> Flaw | None:
    grant, terms = chain.grant, chain.terms
    return (
        _of_names(chain, witness.cooperative)
        or flaw_of_terms(terms, grant.license, grant.terms_hash)
        or flaw_of_license_signature(grant.license, grant.terms_hash, chain.license_signature, witness.licensing)
        or flaw_of_rule(terms, chain.sharing_rule, witness.keys)
        or _of_memory(chain, witness)
        or flaw_of_offering(terms, chain.offering, witness.keys)
        or flaw_of_denials(terms, witness.denials, witness.keys)
        or _of_grant(chain, witness.signed)
    )


def is_signed(chain: broker.GrantChain, keys: KeySet) -> bool:
    """Whether one of the broker's keys signed the grant."""
    try:
        hashed = hash_of_grant(chain.grant)
    except (ValueError, OverflowError):
        return False
    return verify_hash(keys, chain.grant_signature, GRANT_PREFIX, hashed)


def _of_names(chain: broker.GrantChain, cooperative: str) -> Flaw | None:
    grant, terms = chain.grant, chain.terms
    if not _GRANT.fullmatch(grant.name) or not _LICENSE.fullmatch(grant.license):
        return Flaw("CHAIN_INCONSISTENT", "The grant or its license has a name that is none.")
    if grant.gateway != f"gateways/{cooperative}" or terms.licensor != f"cooperatives/{cooperative}":
        return Flaw("NOT_OURS", "The grant or its license is another cooperative's.")
    if terms.licensee != f"licensees/{grant.holder.removeprefix('organizations/')}":
        return Flaw("CHAIN_INCONSISTENT", "The grant is not for the licensee of its terms.")
    return None


def _of_memory(chain: broker.GrantChain, witness: Witness) -> Flaw | None:
    """A rule replayed: the chain shows it without the end that this gateway heard the cooperative sign."""
    rule, agreed = chain.sharing_rule, chain.terms.agree_time
    if witness.ended(rule.name, rule.revision, rule.rule_hash, (agreed.seconds, agreed.nanos)):
        return Flaw(
            "RULE_NOT_IN_FORCE",
            f"{rule.name} revision {rule.revision} had been ended by {agreed.ToJsonString()}, whatever the chain shows.",
        )
    return None


def _of_grant(chain: broker.GrantChain, signed: bool) -> Flaw | None:
    grant, terms = chain.grant, chain.terms
    if hash_of_grant(grant) != grant.grant_hash:
        return Flaw("GRANT_HASH_MISMATCH", f"{grant.name} is not what its hash was made of.")
    if not signed:
        return Flaw("GRANT_SIGNATURE_INVALID", f"{grant.name} is not signed by the broker.")
    if found := escapes(terms.scope, grant.scope):
        return Flaw("GRANT_OUTSIDE_LICENSE", f"The grant is outside its license: {'; '.join(map(str, found))}.")
    if not (grant.HasField("open_time") and grant.HasField("end_time")):
        return Flaw("CHAIN_INCONSISTENT", "The grant does not say when it begins and ends.")
    latest = grant.open_time.seconds + terms.duration_seconds + _LONGEST_EXTENSION_SECONDS
    early = grant.open_time.seconds + _CLOCK_SECONDS < terms.agree_time.seconds
    if grant.end_time.seconds > latest or early:
        return Flaw("GRANT_OUTSIDE_LICENSE", "The grant begins before or lasts longer than its license.")
    return None
