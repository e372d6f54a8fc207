"""What licensing hears: rules, offerings, and whether its licenses were paid. Rules are in domain, queries in store."""

from __future__ import annotations

import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from licensing import domain, store
from licensing.ending import end_early, negotiation_of
from licensing.store.tables import bare
from rochdale.billing.v1 import events_pb2 as billing
from rochdale.catalog.v1 import events_pb2 as catalog
from rochdale.governance.v1 import events_pb2 as governance
from rochdale.licensing.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import now
from rochdale_kit.inbox import Subscription, on
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)

UNPAID = "The order was closed unpaid."


def of_governance() -> list[Subscription]:
    return [on(governance.RuleEnacted, rule_enacted), on(governance.RuleNarrowed, rule_narrowed)]


def of_catalog() -> list[Subscription]:
    return [on(catalog.OfferingPublished, offering_published), on(catalog.OfferingClosed, offering_closed)]


def of_billing() -> list[Subscription]:
    return [on(billing.OrderPaid, order_paid), on(billing.OrderCanceled, order_canceled)]


async def rule_enacted(connection: AsyncConnection, event: governance.RuleEnacted) -> None:
    await store.rules.keep(connection, event.sharing_rule)


async def rule_narrowed(connection: AsyncConnection, event: governance.RuleNarrowed) -> None:
    await store.rules.keep(connection, event.sharing_rule)


async def offering_published(connection: AsyncConnection, event: catalog.OfferingPublished) -> None:
    await store.offerings.keep(connection, event.offering)


async def offering_closed(connection: AsyncConnection, event: catalog.OfferingClosed) -> None:
    await store.offerings.keep(connection, event.offering)


async def order_paid(connection: AsyncConnection, event: billing.OrderPaid) -> None:
    """Load, decide, save, announce: the license is in force from now."""
    found = await store.licenses.license(connection, bare(event.order.license), None, lock=True)
    before = domain.licenses.require_order(found, event.order)
    if before.state != pb.LICENSE_STATE_AGREED:
        # Heard before, or paid in the moment it ended: what has ended stays ended, and billing sees LicenseTerminated.
        log.warning("%s is paid, but %s is %s", event.order.name, before.name, pb.LicenseState.Name(before.state))
        return
    at = now()
    negotiation = await negotiation_of(connection, before)
    license = domain.licenses.activated(before, at)
    await store.licenses.save(connection, license)
    await store.negotiations.save(connection, domain.negotiations.paid(negotiation, at), negotiation)
    await announce(connection, events_pb2.LicenseActivated(license=license), at)


async def order_canceled(connection: AsyncConnection, event: billing.OrderCanceled) -> None:
    found = await store.licenses.license(connection, bare(event.order.license), None, lock=True)
    before = domain.licenses.require_order(found, event.order)
    if before.state == pb.LICENSE_STATE_AGREED:
        await end_early(connection, before, pb.PARTY_MARKET, UNPAID, now())
