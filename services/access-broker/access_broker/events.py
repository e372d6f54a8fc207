"""What the broker does when it hears of licenses: open a grant, interrupt it, close it."""

from __future__ import annotations

import datetime as dt
import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from access_broker import store
from access_broker.domain import chain
from access_broker.domain.tokens import MAX_TTL_SECONDS
from access_broker.sources import Sources
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import events_pb2
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2
from rochdale_kit.chain import Flaw, flaw_of_offering, flaw_of_rule
from rochdale_kit.clock import new_id, now
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal

log = logging.getLogger(__name__)

# The longest a token can outlive the moment its grant is cut off: its whole life, and some minutes for clocks.
FORGET_AFTER = dt.timedelta(seconds=MAX_TTL_SECONDS + 300)


class LicensingEvents:
    """Handlers of licensing's events. Each re-reads the grant under the license's lock before it acts."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def license_activated(self, connection: AsyncConnection, event: licensing_events.LicenseActivated) -> None:
        """Opens the grant of a license, or keeps a void one for all to see. A license that has one is left alone."""
        license = event.license
        between = chain.parties(license)
        if await store.grant_of_license(connection, license.name) is not None:
            return
        # Asked before the lock: the answers never change, and a termination must not wait for another service.
        flaw, rule, offering = await self._check(license)
        await store.lock_license(connection, license.name)
        if await store.is_ended(connection, license.name):
            log.info("%s had ended before it was heard to begin; no grant is opened", license.name)
            return
        row = await store.insert_grant(
            connection,
            id=new_id("gra"),
            license=license.name,
            terms_hash=license.terms_hash,
            holder=between.holder,
            cooperative=between.cooperative,
            state=pb.GRANT_STATE_VOID if flaw else pb.GRANT_STATE_OPEN,
            state_reason=flaw.reason if flaw else "",
            terms=license.terms,
            sharing_rule=rule,
            offering=offering,
            now=now(),
            end_time=chain.end_of_grant(license),
        )
        if row is None:
            return
        if flaw:
            log.error("%s is void, %s: %s", license.name, flaw.reason, flaw.sentence)
            return
        await announce(connection, events_pb2.GrantOpened(chain=row.chain))

    async def _check(
        self, license: licensing_pb2.License
    ) -> tuple[Flaw | None, governance_pb2.SharingRule | None, catalog_pb2.Offering | None]:
        """The first flaw in the chain, with as much of the chain as was found. Believes no earlier step."""
        terms = license.terms
        if flaw := chain.flaw_of_license(license):
            return flaw, None, None
        rule = await self._sources.sharing_rule(terms.sharing_rule, terms.rule_revision)
        if flaw := flaw_of_rule(terms, rule):
            return flaw, rule, None
        offering = await self._sources.offering(terms.offering)
        return flaw_of_offering(terms, offering), rule, offering

    async def license_suspended(self, connection: AsyncConnection, event: licensing_events.LicenseSuspended) -> None:
        """Interrupts an open grant."""
        name = event.license.name
        await store.lock_license(connection, name)
        row = await store.grant_of_license(connection, name, lock=True)
        if row is None:
            if await store.is_ended(connection, name):
                return
            raise Refusal(
                "GRANT_NOT_YET_KNOWN", f"{name} was suspended before it was heard to begin.", Kind.UNAVAILABLE
            )
        if row.grant.state == pb.GRANT_STATE_OPEN:
            await _cut_off(connection, row, pb.GRANT_STATE_SUSPENDED, "LICENSE_SUSPENDED")

    async def license_terminated(self, connection: AsyncConnection, event: licensing_events.LicenseTerminated) -> None:
        """Closes a grant for good. Heard before the beginning, it is remembered, and no grant is opened later."""
        name = event.license.name
        await store.lock_license(connection, name)
        row = await store.grant_of_license(connection, name, lock=True)
        if row is None:
            await store.remember_ended(connection, name, now())
        elif row.grant.state in (pb.GRANT_STATE_OPEN, pb.GRANT_STATE_SUSPENDED):
            expired = event.license.state == licensing_pb2.LICENSE_STATE_EXPIRED
            await _cut_off(
                connection, row, pb.GRANT_STATE_CLOSED, "LICENSE_EXPIRED" if expired else "LICENSE_TERMINATED"
            )


async def _cut_off(
    connection: AsyncConnection, row: store.GrantRow, state: pb.GrantState.ValueType, reason: str
) -> None:
    at = now()
    await store.set_grant_state(connection, row.id, state, reason)
    revocation = await store.insert_revocation(
        connection, row.cooperative, pb.REVOCATION_KIND_GRANT, row.grant.name, at, at + FORGET_AFTER
    )
    await announce(connection, events_pb2.AccessRevoked(gateway=row.grant.gateway, revocation=revocation))
