"""The moment two sides have agreed: what is counted, signed, kept and told, the same from wherever it was reached."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from licensing import domain, store
from licensing.domain.deals import Deal
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import new_id
from rochdale_kit.cooperative_keys import keys_of
from rochdale_kit.outbox import announce
from rochdale_kit.signing import LICENSE_PREFIX, SigningKey, sign_hash


async def hold_rules(connection: AsyncConnection, offering: str) -> None:
    """Taken before the time is asked: a narrowing comes wholly before this signature or wholly after it."""
    await store.rules.hold(connection, offering.split("/")[1])


async def allowing_rule(connection: AsyncConnection, deal: Deal, at: dt.datetime) -> governance_pb2.SharingRule:
    """The rule revision in force that allows a deal. Refuses with OFFERING_CLOSED (it was signed with a key that is no
    longer believed), RULE_NOT_IN_FORCE and REQUEST_OUTSIDE_RULE."""
    cooperative = deal.offering.name.split("/")[1]
    keys = keys_of(await store.cooperatives.cooperative(connection, cooperative), f"cooperatives/{cooperative}")
    domain.cooperatives.require_still_signed(deal.offering, keys)
    book = await store.rules.book(connection, cooperative, deal.tier.sharing_rule, at)
    return book.require_allowed(deal.scope, keys)


async def sign(
    connection: AsyncConnection,
    key: SigningKey,
    negotiation: pb.Negotiation,
    party: pb.Party.ValueType,
    deal: Deal,
    rule: governance_pb2.SharingRule,
    at: dt.datetime,
    pay_by: dt.datetime,
) -> pb.Negotiation:
    """The license, signed, and the negotiation that led to it as AGREED. The caller has locked the offering and the rules.

    Refuses with LICENSES_EXHAUSTED.
    """
    if rule.scope.max_licenses:
        await store.rules.one_at_a_time(connection, rule)
    of_offering, of_rule = await store.licenses.live(connection, deal.offering.name, rule.name)
    domain.licenses.require_vacancy(deal, rule, of_offering, of_rule)
    name = f"licenses/{new_id('lic')}"
    license = domain.licenses.agreed(name, negotiation.name, negotiation.licensee, deal, rule, at)
    license.signature.CopyFrom(sign_hash(key, LICENSE_PREFIX, license.terms_hash))
    signed = domain.negotiations.agreed(negotiation, party, name, at, pay_by)
    await store.negotiations.save(connection, signed, negotiation)
    await store.licenses.insert(connection, license, pay_by)
    await announce(connection, events_pb2.LicenseAgreed(license=license), at)
    return signed
