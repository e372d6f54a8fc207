"""What licensing hears: rules, offerings, and whether its licenses were paid. Rules are in domain, queries in store."""

from __future__ import annotations

import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from licensing import domain, store
from licensing.ending import end_early, negotiation_of
from licensing.lives import Lives
from licensing.mandate import carry_on, follow
from licensing.reach import emergency_over, resume, settle, suspend
from licensing.store.tables import bare
from rochdale.billing.v1 import events_pb2 as billing
from rochdale.catalog.v1 import events_pb2 as catalog
from rochdale.governance.v1 import events_pb2 as governance
from rochdale.governance.v1.governance_pb2 import Cooperative, SharingRule
from rochdale.licensing.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import from_timestamp, now
from rochdale_kit.cooperative_keys import followed
from rochdale_kit.inbox import Subscription, on
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)

UNPAID = "The order was closed unpaid."
UNSTATED = "UNSTATED"


def of_governance() -> list[Subscription]:
    return [
        on(governance.CooperativeCreated, cooperative_created),
        on(governance.CooperativeKeyAdded, cooperative_key_added),
        on(governance.RuleEnacted, rule_enacted),
        on(governance.RuleNarrowed, rule_narrowed),
        on(governance.ProposalMoved, proposal_moved),
    ]


def of_catalog(keys: LiveKeyring, lives: Lives) -> list[Subscription]:
    """keys: those that sign the license of a buyer whose request the offering answers."""

    async def offering_published(connection: AsyncConnection, event: catalog.OfferingPublished) -> None:
        known = await store.cooperatives.cooperative(connection, event.offering.name.split("/")[1])
        domain.cooperatives.require_signed_offering(event.offering, known)
        await store.offerings.keep(connection, event.offering)
        if event.offering.mandate_request:
            await carry_on(connection, keys.current, lives, event.offering)

    return [on(catalog.OfferingPublished, offering_published), on(catalog.OfferingClosed, offering_closed)]


def of_billing() -> list[Subscription]:
    return [
        on(billing.OrderPaid, order_paid),
        on(billing.OrderCanceled, order_canceled),
        on(billing.StandingChanged, standing_changed),
    ]


async def cooperative_created(connection: AsyncConnection, event: governance.CooperativeCreated) -> None:
    await _keep_keys(connection, event.cooperative)


async def cooperative_key_added(connection: AsyncConnection, event: governance.CooperativeKeyAdded) -> None:
    await _keep_keys(connection, event.cooperative)


async def _keep_keys(connection: AsyncConnection, told: Cooperative) -> None:
    known = await store.cooperatives.cooperative(connection, bare(told.name), lock=True)
    await store.cooperatives.keep(connection, followed(known, told))


async def rule_enacted(connection: AsyncConnection, event: governance.RuleEnacted) -> None:
    await _keep_rule(connection, event.sharing_rule)


async def rule_narrowed(connection: AsyncConnection, event: governance.RuleNarrowed) -> None:
    await _keep_rule(connection, event.sharing_rule)


async def _keep_rule(connection: AsyncConnection, rule: SharingRule) -> None:
    """Into the book, if its cooperative signed it; what that does to licenses is done in the same transaction."""
    cooperative = rule.name.split("/")[1]
    known = await store.cooperatives.cooperative(connection, cooperative)
    keys = domain.cooperatives.require_signed_rule(rule, known)
    await store.rules.hold_alone(connection, cooperative)
    end, expire = domain.rules.believed_end(rule, keys), domain.rules.believed_expiry(rule)
    if end is None and rule.HasField("end_time") and (expire is None or from_timestamp(rule.end_time) < expire):
        log.error("the end of %s revision %s is not its cooperative's decision", rule.name, rule.revision)
    await store.rules.keep(connection, rule, end, expire)
    await settle(connection, rule.name, now())


async def proposal_moved(connection: AsyncConnection, event: governance.ProposalMoved) -> None:
    if event.proposal.mandate_request:
        await follow(connection, event.proposal)


async def offering_closed(connection: AsyncConnection, event: catalog.OfferingClosed) -> None:
    await store.offerings.keep(connection, event.offering)


async def order_paid(connection: AsyncConnection, event: billing.OrderPaid) -> None:
    """Load, decide, save, announce: the license is in force from now."""
    if not domain.licenses.bills_its_start(event.order):
        return
    id = bare(event.order.license)
    seen = domain.licenses.require_order(await store.licenses.license(connection, id, None), event.order)
    # The book before the license, as everybody takes them: an emergency reaches it from here or from there.
    await store.rules.hold(connection, bare(seen.terms.licensor))
    found = await store.licenses.license(connection, id, None, lock=True)
    before = domain.licenses.require_order(found, event.order)
    if before.state != pb.LICENSE_STATE_AGREED:
        # Heard before, or paid in the moment it ended: what has ended stays ended, and billing sees LicenseTerminated.
        log.warning("%s is paid, but %s is %s", event.order.name, before.name, pb.LicenseState.Name(before.state))
        return
    at = now()
    negotiation = await negotiation_of(connection, before)
    license = domain.licenses.activated(before, at)
    cause = await emergency_over(connection, license, at)
    if not cause and (held := (await store.licenses.standing(connection, license.name)).held):
        # Billing may be heard to hold a license, as for a dispute at once, before the payment is heard.
        cause = domain.licenses.held_by(held)
    if cause:
        license = domain.licenses.suspended(license, cause, at)
    await store.licenses.save(connection, license)
    await store.negotiations.save(connection, domain.negotiations.paid(negotiation, at), negotiation)
    await announce(connection, events_pb2.LicenseActivated(license=license), at)
    if cause:
        await announce(connection, events_pb2.LicenseSuspended(license=license), at)


async def order_canceled(connection: AsyncConnection, event: billing.OrderCanceled) -> None:
    if not domain.licenses.bills_its_start(event.order):
        return
    found = await store.licenses.license(connection, bare(event.order.license), None, lock=True)
    before = domain.licenses.require_order(found, event.order)
    if before.state == pb.LICENSE_STATE_AGREED:
        await end_early(connection, before, pb.PARTY_MARKET, UNPAID, now())


async def standing_changed(connection: AsyncConnection, event: billing.StandingChanged) -> None:
    """Suspends, resumes or ends a license for its money. An earlier change that comes late does nothing."""
    id = bare(event.license)
    seen = domain.licenses.require_known(await store.licenses.license(connection, id, None), event.license)
    # The book before the license, as in order_paid.
    await store.rules.hold(connection, bare(seen.terms.licensor))
    license = await store.licenses.license(connection, id, None, lock=True)
    assert license is not None, "a license stays"
    known = await store.licenses.standing(connection, license.name)
    if event.sequence <= known.sequence:
        log.info("%s: standing %s is heard after %s", license.name, event.sequence, known.sequence)
        return
    at, reason = now(), event.reason or UNSTATED
    held = reason if event.standing == billing.STANDING_HELD else ""
    await store.licenses.set_standing(connection, license.name, domain.licenses.Standing(event.sequence, held))
    if event.standing == billing.STANDING_ENDED:
        if license.state in domain.licenses.LIVE:
            await end_early(connection, license, pb.PARTY_MARKET, reason, at)
    elif event.standing == billing.STANDING_HELD:
        # Where an emergency suspends it, that goes on; what billing holds is looked at when the emergency is over.
        if license.state == pb.LICENSE_STATE_ACTIVE or domain.licenses.is_held(license):
            await suspend(connection, license, domain.licenses.held_by(reason), at)
    elif domain.licenses.is_held(license):
        await resume(connection, license, at)
