"""How a request outside the mandate goes on: its proposal moves, its offering is published, or it is over."""

from __future__ import annotations

import datetime as dt
import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from licensing import domain, store
from licensing.domain.negotiations import AS_PUBLISHED
from licensing.lives import Lives
from licensing.signature import allowing_rule, hold_rules, sign
from licensing.store.tables import bare
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import proposals_pb2
from rochdale.licensing.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import from_timestamp, new_id, now
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import SigningKey

log = logging.getLogger(__name__)


async def close(connection: AsyncConnection, request: pb.MandateRequest, at: dt.datetime) -> pb.MandateRequest:
    """Keeps and tells that a request is over. The caller has locked it."""
    await store.mandates.save(connection, request)
    await announce(connection, events_pb2.MandateRequestClosed(mandate_request=request), at)
    return request


async def follow(connection: AsyncConnection, proposal: proposals_pb2.Proposal) -> None:
    """The request after its proposal moved; a proposal of another cooperative's moves nothing."""
    before = await store.mandates.mandate_request(connection, bare(proposal.mandate_request), None, lock=True)
    if before is None or not proposal.name.startswith(f"{before.cooperative}/proposals/"):
        log.error("%s answers %s, which it cannot", proposal.name, proposal.mandate_request)
        return
    after = domain.mandates.moved(before, proposal)
    if after is None:
        return
    if after.state == pb.MANDATE_REQUEST_STATE_DECLINED:
        await close(connection, after, now())
    else:
        await store.mandates.save(connection, after)


async def carry_on(connection: AsyncConnection, key: SigningKey, lives: Lives, offering: catalog_pb2.Offering) -> None:
    """The negotiation a published offering was made for: begun for the asker at the asked terms, and agreed at once.

    What the asker asked binds it until it is answered, and what the cooperative published at that price binds the
    cooperative; so nobody has to be asked again. At another price than the asked one the cooperative has the next move,
    and the buyer where the price is due otherwise than it was in the offering the request started from.
    """
    before = await store.mandates.mandate_request(connection, bare(offering.mandate_request), None, lock=True)
    if before is None or before.cooperative != offering.name.partition("/offerings/")[0]:
        log.error("%s answers %s, which it cannot", offering.name, offering.mandate_request)
        return
    if before.state not in domain.mandates.OPEN:
        return
    try:
        # Undone as a whole if it is refused: the request then says why, and nothing else has happened.
        async with connection.begin_nested():
            negotiation = await _negotiate(connection, key, lives, before, offering)
    except Refusal as refusal:
        if refusal.kind in (Kind.UNAVAILABLE, Kind.INTERNAL):
            raise
        await close(connection, domain.mandates.declined(before, refusal.message), now())
    else:
        await close(connection, domain.mandates.continued(before, negotiation.name), now())


async def _negotiate(
    connection: AsyncConnection,
    key: SigningKey,
    lives: Lives,
    request: pb.MandateRequest,
    offering: catalog_pb2.Offering,
) -> pb.Negotiation:
    licensee = await store.licensees.licensee(connection, bare(request.licensee), lock=True)
    kept = await store.offerings.offering(connection, offering.name, lock=True)
    assert kept is not None, "it has just been kept"
    await hold_rules(connection, offering.name)
    at = now()
    deal = domain.deals.on_the_table(kept, licensee, request.scope, at)
    latest = await store.rules.latest(connection, deal.tier.sharing_rule)
    if latest is None or from_timestamp(latest.effective_time) > at:
        raise Refusal(
            "RULE_NOT_YET_KNOWN",
            f"{deal.tier.sharing_rule} has not been heard of yet, or begins in a moment.",
            Kind.UNAVAILABLE,
            sharing_rule=deal.tier.sharing_rule,
        )
    deal.require_negotiable()
    rule = await allowing_rule(connection, deal, at)
    negotiation = domain.negotiations.requested(
        f"negotiations/{new_id('neg')}",
        offering.name,
        request.licensee,
        request.cooperative,
        deal.scope,
        deal.plan,
        request.message,
        at,
        at + lives.negotiation,
    )
    await store.negotiations.save(connection, negotiation)
    first = await store.offerings.offering(connection, request.offering)
    if domain.mandates.asked_plan(first, request) != deal.plan:
        # The buyer is bound to what it asked, and it never asked to owe it each period: it is asked.
        published = domain.deals.Deal(offering, deal.tier, domain.deals.at_price(deal.scope, deal.tier.price))
        await allowing_rule(connection, published, at)
        offered = domain.negotiations.countered(
            negotiation, pb.PARTY_COOPERATIVE, published.scope, AS_PUBLISHED, at, at + lives.negotiation
        )
        await store.negotiations.save(connection, offered, negotiation)
        return offered
    if not deal.listed:
        return negotiation
    return await sign(connection, key, negotiation, pb.PARTY_MARKET, deal, rule, at, at + lives.payment)
