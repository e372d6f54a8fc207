"""Whether a grant's chain holds, decided here again from its documents alone: this gateway believes no earlier step."""

from __future__ import annotations

import re

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale_kit.chain import Flaw, flaw_of_offering, flaw_of_rule, flaw_of_terms
from rochdale_kit.scope import escapes

_GRANT = re.compile(r"grants/gra_[0-9A-Z]{26}")
_LICENSE = re.compile(r"licenses/lic_[0-9A-Z]{26}")
# Every license says that an emergency may suspend it for at most 30 days and extends its term by as long.
_LONGEST_EXTENSION_SECONDS = 30 * 86_400
# The two times are of two services' clocks, and a free license is agreed, in force and granted within milliseconds.
_CLOCK_SECONDS = 30


def flaw(chain: broker.GrantChain, cooperative: str) -> Flaw | None:
    """The first flaw found; None if the grant may be served by the gateway of this cooperative."""
    grant, terms = chain.grant, chain.terms
    return (
        _of_names(chain, cooperative)
        or flaw_of_terms(terms, grant.license, grant.terms_hash)
        or flaw_of_rule(terms, chain.sharing_rule)
        or flaw_of_offering(terms, chain.offering)
        or _of_grant(chain)
    )


def _of_names(chain: broker.GrantChain, cooperative: str) -> Flaw | None:
    grant, terms = chain.grant, chain.terms
    if not _GRANT.fullmatch(grant.name) or not _LICENSE.fullmatch(grant.license):
        return Flaw("CHAIN_INCONSISTENT", "The grant or its license has a name that is none.")
    if grant.gateway != f"gateways/{cooperative}" or terms.licensor != f"cooperatives/{cooperative}":
        return Flaw("NOT_OURS", "The grant or its license is another cooperative's.")
    if terms.licensee != f"licensees/{grant.holder.removeprefix('organizations/')}":
        return Flaw("CHAIN_INCONSISTENT", "The grant is not for the licensee of its terms.")
    return None


def _of_grant(chain: broker.GrantChain) -> Flaw | None:
    grant, terms = chain.grant, chain.terms
    if found := escapes(terms.scope, grant.scope):
        return Flaw("GRANT_OUTSIDE_LICENSE", f"The grant is outside its license: {'; '.join(map(str, found))}.")
    if not (grant.HasField("open_time") and grant.HasField("end_time")):
        return Flaw("CHAIN_INCONSISTENT", "The grant does not say when it begins and ends.")
    latest = grant.open_time.seconds + terms.duration_seconds + _LONGEST_EXTENSION_SECONDS
    early = grant.open_time.seconds + _CLOCK_SECONDS < terms.agree_time.seconds
    if grant.end_time.seconds > latest or early:
        return Flaw("GRANT_OUTSIDE_LICENSE", "The grant begins before or lasts longer than its license.")
    return None
