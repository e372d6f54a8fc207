"""Money of members nobody knows where to pay: set apart as a debt, never income, and theirs again once they name where."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain import postings
from billing.domain.ledger import book_of
from billing.keeper import each, patiently
from rochdale_kit.clock import now
from rochdale_kit.database import Database

BATCH = 100


class Unclaimed:
    """One loop; safe to repeat and beside another replica."""

    def __init__(self, database: Database, after_seconds: float, round_seconds: float) -> None:
        self._database = database
        self._after_seconds = after_seconds
        self._round_seconds = round_seconds

    async def run(self) -> None:
        """Until canceled."""
        while True:
            await patiently(self.set_apart)
            await asyncio.sleep(self._round_seconds)

    async def set_apart(self) -> None:
        """What members who left long ago, or were erased, are owed and could not be paid."""
        at = now()
        before = at - dt.timedelta(seconds=self._after_seconds)
        async with self._database.read() as connection:
            found = await store.payees.lost(connection, before, BATCH)

        async def one(row: Any) -> None:
            async with self._database.begin() as connection:
                # One who names an account meanwhile is found, and nothing of theirs is set apart.
                await store.payees.hold(connection, row.member_id)
                account = await store.payees.get(connection, row.member_id)
                if account is not None and account.iban:
                    return
                code = f"member:{row.member_id}:payable"
                held = await store.ledger.hold(connection, book_of(row.cooperative), [code], row.currency)
                if held[code]:
                    await _move(connection, row.cooperative, row.member_id, row.currency, held[code], at)

        await each(found, one)


async def claim(connection: AsyncConnection, cooperative: str, member_id: str, at: dt.datetime) -> None:
    """The member is found: what was set apart is payable again."""
    for currency, amount in await store.payees.unclaimed(connection, member_id):
        await _move(connection, cooperative, member_id, currency, -amount, at)


async def _move(
    connection: AsyncConnection, cooperative: str, member_id: str, currency: str, amount_minor: int, at: dt.datetime
) -> None:
    moves = await store.payees.move_unclaimed(connection, member_id, currency, amount_minor)
    journals = postings.unclaimed(
        f"{member_id}:{currency}:{moves}",
        member_id,
        cooperative,
        currency,
        abs(amount_minor),
        claimed=amount_minor < 0,
        at=at,
    )
    await store.ledger.post(connection, journals)
