"""Shares become free, and the rolling reserve ends: each in one transaction with the books, told once."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.config import Config
from billing.domain import postings, releases
from billing.domain.ledger import PLATFORM, accounts_of_shares
from billing.domain.shares import Share, ShareState
from billing.keeper import each
from rochdale.billing.v1 import events_pb2
from rochdale.data_gateway.v1 import events_pb2 as gateway_events
from rochdale_kit.clock import now
from rochdale_kit.database import Database
from rochdale_kit.outbox import announce

BATCH = 200


class Releasing:
    """Steps of the treasurer. The order's row lock makes one replica first, and the other finds it done."""

    def __init__(self, database: Database, config: Config) -> None:
        self._database = database
        self._reserve_bps = {postings.STRIPE: config.reserve_bps_cards, postings.BANK: config.reserve_bps_bank}
        self._reserve_life = dt.timedelta(seconds=config.reserve_seconds)
        self._delivery_deadline = dt.timedelta(seconds=config.delivery_deadline_seconds)

    async def release(self) -> None:
        """Shares that nothing holds any more."""
        async with self._database.read() as connection:
            due = await store.releases.due(connection, now(), self._delivery_deadline, BATCH)
        await each(due, self._release)

    async def end_reserves(self) -> None:
        """Reserves whose time is over."""
        async with self._database.read() as connection:
            due = await store.releases.reserves_due(connection, now(), BATCH)
        await each(due, self._end_reserve)

    async def _release(self, order_id: str) -> None:
        async with self._database.begin() as connection:
            await store.orders.lock(connection, order_id)
            share = await store.shares.lock(connection, order_id)
            shown, at = await store.releases.get(connection, order_id, self._delivery_deadline), now()
            if share is None or shown is None or not shown.free(at):
                return
            reserve = releases.reserve_of(share, self._reserve_bps[share.rail])
            owed = min(await _owed(connection, share), share.amount_minor - reserve)
            await store.ledger.post(
                connection,
                postings.release(share.id, share.cooperative, share.currency, share.amount_minor, reserve, owed, at),
            )
            released = replace(
                share,
                state=ShareState.RELEASED,
                release_time=at,
                deliver_time=share.deliver_time or (at if shown.used_before else None),
                reserve_minor=reserve,
                reserve_time=at if reserve else None,
                reserve_release_time=at + self._reserve_life if reserve else None,
            )
            await store.shares.save(connection, released)
            told = replace(shown, share=released).resource(at)
            await announce(connection, events_pb2.RevenueReleased(share=told))

    async def _end_reserve(self, order_id: str) -> None:
        async with self._database.begin() as connection:
            await store.orders.lock(connection, order_id)
            share, at = await store.shares.lock(connection, order_id), now()
            over = share is not None and share.reserve_release_time is not None and share.reserve_release_time <= at
            if share is None or not over or not share.reserve_minor or share.frozen:
                return
            owed = min(await _owed(connection, share), share.reserve_minor)
            await store.ledger.post(
                connection,
                postings.reserve_released(share.id, share.cooperative, share.currency, share.reserve_minor, owed, at),
            )
            await store.shares.save(connection, replace(share, reserve_minor=0))


async def _owed(connection: AsyncConnection, share: Share) -> int:
    """What the cooperative owes the market, held until it is posted against."""
    held = await store.ledger.hold(connection, PLATFORM, accounts_of_shares(share.cooperative), share.currency)
    return held[f"coop:{share.cooperative}:receivable"]


async def usage_recorded(connection: AsyncConnection, event: gateway_events.UsageRecorded) -> None:
    """Something left through the door, so what was paid for was delivered. Again, it changes nothing.

    A share that is paid after this use is delivered by the next one.
    """
    if event.listed_files > 0 or event.sent_bytes > 0:
        await store.releases.deliver(connection, event.license, now())
