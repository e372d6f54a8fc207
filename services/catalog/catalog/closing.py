"""Closes offerings that can no longer stand: when a rule or a key is heard, and by itself when a rule expires."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from catalog import domain, store
from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.catalog.v1 import events_pb2
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.database import LOST, Database
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0


async def close(connection: AsyncConnection, id: str, offering: pb.Offering, reason: str, at: dt.datetime) -> None:
    """Closes one locked, open offering and tells."""
    offering.state = pb.OFFERING_STATE_CLOSED
    offering.close_reason = reason
    offering.close_time.CopyFrom(to_timestamp(at))
    await store.close_offering(connection, id, offering)
    await announce(connection, events_pb2.OfferingClosed(offering=offering))


async def close_fallen(connection: AsyncConnection, cooperative: str, at: dt.datetime) -> None:
    """Closes every open offering of a cooperative, whose rules are held, that no longer stands."""
    rules = await store.rules(connection, cooperative, at)
    for id, offering in await store.open_offerings(connection, cooperative):
        if reason := domain.close_reason(offering, rules):
            await close(connection, id, offering, reason, at)


class Expiry:
    """Several replicas may run it: they take turns at a cooperative's rules, and the second finds nothing to do."""

    def __init__(self, database: Database, changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def run(self) -> None:
        """Until canceled. A lost database is waited out; anything else ends the loop, and with it the process."""
        while True:
            try:
                await self._once(now())
            except LOST as error:
                log.warning("expiry waits: %s", error)
            await asyncio.sleep(EVERY_SECONDS)

    async def _once(self, at: dt.datetime) -> None:
        async with self._database.read() as connection:
            cooperatives = await store.cooperatives_with_expired(connection, at)
        for cooperative in cooperatives:
            async with self._database.begin() as connection:
                await store.hold_rules(connection, cooperative, change=True)
                await close_fallen(connection, cooperative, at)
                await store.let_expire(connection, cooperative, at)
            self._changed()
