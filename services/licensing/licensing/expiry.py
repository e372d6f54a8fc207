"""The loop that ends what nobody ends: licenses at their term, emergencies, negotiations and orders left alone."""

from __future__ import annotations

import asyncio
import logging

from licensing import domain, store
from licensing.ending import end_early
from licensing.mandate import close
from licensing.reach import settle
from rochdale.licensing.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import now
from rochdale_kit.database import LOST, Database
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)

BATCH = 100
EVERY_SECONDS = 1.0

UNANSWERED = "Nobody answered in time."
NEVER_PAID = "The license was not paid in time."


class Expiry:
    """Several replicas may run it: each row is locked by the one that ends it, and the others pass it over."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Until canceled. A lost database is waited out; anything else ends the loop, and with it the process."""
        while True:
            try:
                for step in (self._rules, self._licenses, self._unpaid, self._negotiations, self._requests):
                    while await step() == BATCH:
                        pass
            except LOST as error:
                log.warning("expiry waits: %s", error)
            await asyncio.sleep(EVERY_SECONDS)

    async def _rules(self) -> int:
        """Emergencies that lapse, and decisions dated a little ahead of our clock. One transaction each: the book of a
        cooperative is held only for its own."""
        async with self._database.read() as connection:
            names = await store.rules.to_settle(connection, now(), BATCH)
        for name in names:
            async with self._database.begin() as connection:
                await store.rules.hold_alone(connection, name.split("/")[1])
                await settle(connection, name, now())
        return len(names)

    async def _licenses(self) -> int:
        at = now()
        async with self._database.begin() as connection:
            over = await store.licenses.over(connection, at, BATCH)
            for license in over:
                expired = domain.licenses.expired(license)
                await store.licenses.save(connection, expired)
                await announce(connection, events_pb2.LicenseTerminated(license=expired), at)
        return len(over)

    async def _unpaid(self) -> int:
        at = now()
        async with self._database.begin() as connection:
            unpaid = await store.licenses.unpaid(connection, at, BATCH)
            for license in unpaid:
                await end_early(connection, license, pb.PARTY_MARKET, NEVER_PAID, at)
        return len(unpaid)

    async def _negotiations(self) -> int:
        at = now()
        async with self._database.begin() as connection:
            unanswered = await store.negotiations.unanswered(connection, at, BATCH)
            for before in unanswered:
                after = domain.negotiations.terminated(before, pb.PARTY_MARKET, UNANSWERED, at)
                await store.negotiations.save(connection, after, before)
        return len(unanswered)

    async def _requests(self) -> int:
        at = now()
        async with self._database.begin() as connection:
            unanswered = await store.mandates.unanswered(connection, at, BATCH)
            for request in unanswered:
                await close(connection, domain.mandates.declined(request, domain.mandates.NOT_ANSWERED), at)
        return len(unanswered)
