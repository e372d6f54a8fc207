"""What is done unasked about money on its way back: lost answers, lost webhooks, evidence that nobody gave."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging

from billing import store
from billing.config import Config
from billing.disputing import Disputing
from billing.domain.disputes import LAST_CALL, Dispute
from billing.domain.refunds import Refund
from billing.keeper import BATCH, each, patiently
from billing.refunding import Refunding
from rochdale_kit.clock import now
from rochdale_kit.database import Database

log = logging.getLogger(__name__)


class Returning:
    """One loop; each step is safe to repeat and safe beside another replica's."""

    def __init__(self, database: Database, refunding: Refunding, disputing: Disputing, config: Config) -> None:
        self._database = database
        self._refunding = refunding
        self._disputing = disputing
        self._round_seconds = config.sweep_seconds
        self._age = dt.timedelta(seconds=config.recover_age_seconds)
        self._looked_at = ""

    async def run(self) -> None:
        """Until canceled."""
        while True:
            for step in (self.recover, self.sweep, self.answer):
                await patiently(step)
            await asyncio.sleep(self._round_seconds)

    async def recover(self) -> None:
        """Refunds without an answer are asked for again; marked first, so that one that fails keeps nobody waiting."""
        at = now()
        async with self._database.begin() as connection:
            due = await store.refunds.to_ask(connection, at - self._age, BATCH)
            await store.refunds.asked(connection, [refund.id for refund in due], at)

        async def again(refund: Refund) -> None:
            await self._refunding.advance(refund)

        await each(due, again)

    async def sweep(self) -> None:
        """Undecided disputes are looked at, whether or not a webhook told of them. They are undecided for months, so a
        round goes on where the last one ended."""
        async with self._database.read() as connection:
            found = await store.disputes.to_look_at(connection, self._looked_at, BATCH)
        self._looked_at = found[-1].id if len(found) == BATCH else ""

        async def look(dispute: Dispute) -> None:
            await self._disputing.look(dispute.rail_id)

        await each(found, look)

    async def answer(self) -> None:
        """A dispute that nobody answered is answered with what the market has, a day before it is too late."""
        async with self._database.read() as connection:
            due = await store.disputes.to_answer(connection, now() + LAST_CALL, BATCH)

        async def give(dispute: Dispute) -> None:
            log.warning("%s is answered without a word of the cooperative", dispute.name)
            await self._disputing.answer(dispute)

        await each(due, give)
