"""What the broker does when it hears of licenses: open a grant, interrupt it, open another, close it."""

from __future__ import annotations

import datetime as dt
import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from access_broker import store
from access_broker.checking import check
from access_broker.cutting import cut_off
from access_broker.domain import chain
from access_broker.sealing import Sealer
from access_broker.sources import Sources
from access_broker.store import GrantRow
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import events_pb2
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2
from rochdale_kit.chain import Flaw
from rochdale_kit.clock import from_timestamp, new_id, now, to_timestamp
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal

log = logging.getLogger(__name__)


class LicensingEvents:
    """Handlers of licensing's events. Each re-reads the grant under the license's lock before it acts."""

    def __init__(self, sources: Sources, sealer: Sealer) -> None:
        self._sources = sources
        self._sealer = sealer

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
        if await store.grant_of_license(connection, license.name) is None:
            end = chain.end_of_grant(license)
            await self._open(connection, license, between, end, flaw, rule, offering)

    async def license_suspended(self, connection: AsyncConnection, event: licensing_events.LicenseSuspended) -> None:
        """Interrupts an open grant."""
        license = event.license
        await store.lock_license(connection, license.name)
        row = await _grant(connection, license.name, "suspended", lock=True)
        if row is None or row.grant.state not in (pb.GRANT_STATE_OPEN, pb.GRANT_STATE_SUSPENDED):
            return
        end = from_timestamp(license.end_time) if license.HasField("end_time") else row.license_end_time
        if not chain.is_suspension_news(row.suspension_count, row.license_end_time, license):
            log.info("%s has resumed since it was suspended", license.name)
            return
        at = from_timestamp(license.suspend_time) if license.HasField("suspend_time") else now()
        await store.set_suspended(connection, row.id, at, end)
        if row.grant.state == pb.GRANT_STATE_OPEN:
            await cut_off(connection, row.id, row.cooperative, pb.GRANT_STATE_SUSPENDED, "LICENSE_SUSPENDED")

    async def license_resumed(self, connection: AsyncConnection, event: licensing_events.LicenseResumed) -> None:
        """Opens another grant: the gateway has the one before in its feed, and every token of it stays dead."""
        license = event.license
        between = chain.parties(license)
        before = await _grant(connection, license.name, "resumed", lock=False)
        if before is None or not _is_resumed(before, license):
            return
        # Asked before the lock, as above.
        flaw, rule, offering = await self._check(license)
        await store.lock_license(connection, license.name)
        row = await store.grant_of_license(connection, license.name, lock=True)
        if row is None or not _is_resumed(row, license) or await store.is_ended(connection, license.name):
            return
        assert row.end_time is not None and row.license_end_time is not None, "it was opened"
        end = chain.end_after_suspension(row.end_time, row.license_end_time, row.suspend_time, license, now())
        if row.grant.state == pb.GRANT_STATE_OPEN:
            # Its suspension is still to come, and will find this grant closed.
            await cut_off(connection, row.id, row.cooperative, pb.GRANT_STATE_CLOSED, "LICENSE_RESUMED")
        else:
            await store.set_grant_state(connection, row.id, pb.GRANT_STATE_CLOSED, "LICENSE_RESUMED")
        await self._open(connection, license, between, end, flaw, rule, offering, license.suspension_count)

    async def license_terminated(self, connection: AsyncConnection, event: licensing_events.LicenseTerminated) -> None:
        """Closes a grant for good. Heard before the beginning, it is remembered, and no grant is opened later."""
        name = event.license.name
        await store.lock_license(connection, name)
        row = await store.grant_of_license(connection, name, lock=True)
        if row is None:
            await store.remember_ended(connection, name, now())
        elif row.grant.state in (pb.GRANT_STATE_OPEN, pb.GRANT_STATE_SUSPENDED):
            expired = event.license.state == licensing_pb2.LICENSE_STATE_EXPIRED
            reason = "LICENSE_EXPIRED" if expired else "LICENSE_TERMINATED"
            await cut_off(connection, row.id, row.cooperative, pb.GRANT_STATE_CLOSED, reason)

    async def _check(
        self, license: licensing_pb2.License
    ) -> tuple[Flaw | None, governance_pb2.SharingRule | None, catalog_pb2.Offering | None]:
        """The first flaw in the chain, with as much of the chain as was found."""
        if flaw := chain.flaw_of_term(license):
            return flaw, None, None
        checked = await check(license, self._sources)
        return checked.flaw, checked.sharing_rule, checked.offering

    async def _open(
        self,
        connection: AsyncConnection,
        license: licensing_pb2.License,
        between: chain.Parties,
        end: dt.datetime | None,
        flaw: Flaw | None,
        rule: governance_pb2.SharingRule | None,
        offering: catalog_pb2.Offering | None,
        suspension_count: int = 0,
    ) -> None:
        """The grant of a locked license whose earlier ones are closed: open, or void with its reason.

        suspension_count: how many suspensions are over; 0 for the first grant, whose first one may just be to come.
        """
        at = now()
        grant = pb.Grant(
            name=f"grants/{new_id('gra')}",
            license=license.name,
            terms_hash=license.terms_hash,
            holder=f"organizations/{between.holder}",
            gateway=f"gateways/{between.cooperative}",
            scope=license.terms.scope,
            state=pb.GRANT_STATE_VOID if flaw else pb.GRANT_STATE_OPEN,
            state_reason=flaw.reason if flaw else "",
            open_time=None if flaw else to_timestamp(at),
            end_time=to_timestamp(end),
        )
        seal = None if flaw else self._sealer.seal(grant)
        row = await store.insert_grant(
            connection,
            grant,
            license=license,
            sharing_rule=rule,
            offering=offering,
            seal=seal,
            suspension_count=suspension_count,
            now=at,
        )
        if flaw:
            log.error("%s is void, %s: %s", license.name, flaw.reason, flaw.sentence)
            return
        await announce(connection, events_pb2.GrantOpened(chain=self._sealer.chain(row)))


async def _grant(connection: AsyncConnection, license: str, what: str, lock: bool) -> GrantRow | None:
    """A license's grant; None if the license ended before it began."""
    row = await store.grant_of_license(connection, license, lock=lock)
    if row is None and not await store.is_ended(connection, license):
        raise Refusal("GRANT_NOT_YET_KNOWN", f"{license} was {what} before it was heard to begin.", Kind.UNAVAILABLE)
    return row


def _is_resumed(row: GrantRow, license: licensing_pb2.License) -> bool:
    """Whether a resumption is news. One that comes late, after the next suspension, opens nothing."""
    under_way = row.grant.state in (pb.GRANT_STATE_OPEN, pb.GRANT_STATE_SUSPENDED)
    return under_way and chain.is_resumption_news(row.suspension_count, row.license_end_time, license)
