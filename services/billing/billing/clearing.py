"""Moves what Stripe took from pending to available in the books, once Stripe lets us use it. Asks Stripe nothing."""

from __future__ import annotations

import asyncio

from billing import store
from billing.domain import postings
from billing.keeper import BATCH, patiently
from rochdale_kit.clock import now
from rochdale_kit.database import Database


class Clearing:
    """One loop, safe beside another replica's."""

    def __init__(self, database: Database, round_seconds: float) -> None:
        self._database = database
        self._round_seconds = round_seconds

    async def run(self) -> None:
        """Until canceled."""
        while True:
            await patiently(self.step)
            await asyncio.sleep(self._round_seconds)

    async def step(self) -> None:
        """Posts what became available, a batch in a transaction. The payments are locked, and nothing of their orders is
        decided: the journal's key alone keeps it from being posted twice."""
        while True:
            at = now()
            async with self._database.begin() as connection:
                due = await store.payments.to_clear(connection, at, BATCH)
                journals = [
                    journal
                    for taken in (payment.taken for payment in due)
                    if taken is not None and taken.net_minor
                    for journal in postings.available(taken.transaction_id, taken.net_minor, taken.amount.currency, at)
                ]
                await store.ledger.post(connection, journals)
                await store.payments.cleared(connection, [payment.id for payment in due], at)
            if len(due) < BATCH:
                return
