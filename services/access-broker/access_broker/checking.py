"""Whether a license holds, from the sources: the check before a grant is opened, and every night after. Believes no
earlier step."""

from __future__ import annotations

from dataclasses import dataclass

from access_broker.domain import chain
from access_broker.sources import Asked
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale_kit.chain import (
    Flaw,
    flaw_of_denials,
    flaw_of_license_signature,
    flaw_of_offering,
    flaw_of_rule,
    flaw_of_terms,
)
from rochdale_kit.cooperative_keys import CooperativeKeys


@dataclass(frozen=True)
class Checked:
    """The first flaw in the chain, if any, with as much of the chain as was asked for before it was found."""

    flaw: Flaw | None
    keys: CooperativeKeys
    sharing_rule: governance_pb2.SharingRule | None = None
    offering: catalog_pb2.Offering | None = None


async def check(license: licensing_pb2.License, sources: Asked) -> Checked:
    """license: its name, terms, terms_hash and signature. Refuses with SERVICE_UNAVAILABLE if somebody cannot be asked."""
    terms, none = license.terms, CooperativeKeys.none(license.terms.licensor)
    # Nothing they cite need be asked for before the terms hold by themselves.
    if flaw := flaw_of_terms(terms, license.name, license.terms_hash):
        return Checked(flaw, none)
    signers = await sources.licensing_keys()
    if flaw := flaw_of_license_signature(license.name, license.terms_hash, license.signature, signers):
        return Checked(flaw, none)
    keys, flaw = chain.keys_of(terms.licensor, await sources.cooperative_keys(terms.licensor))
    if flaw:
        return Checked(flaw, none)
    rule = await sources.sharing_rule(terms.sharing_rule, terms.rule_revision)
    if flaw := flaw_of_rule(terms, rule, keys):
        return Checked(flaw, keys, rule)
    denials = chain.without_unsigned_ends(await sources.denials(terms.licensor), keys)
    if flaw := flaw_of_denials(terms, denials, keys):
        return Checked(flaw, keys, rule)
    offering = await sources.offering(terms.offering)
    return Checked(flaw_of_offering(terms, offering, keys), keys, rule, offering)
