"""Feeds this replica's search index from PostgreSQL, so that the index is never the truth and can be built anew."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import sqlalchemy as sa

from catalog import store
from catalog.domain import license_terms
from catalog.search import Listing, Price, Removed, SearchIndex
from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import from_timestamp
from rochdale_kit.database import LOST, Database
from rochdale_kit.refusals import unavailable

log = logging.getLogger(__name__)

CHUNK = 2_000
# Committed at least this often, so that a first feed of a million neither grows without end nor starts over when broken.
COMMIT_EVERY = 50_000
POLL_SECONDS = 1.0
# A handler wakes us just before its transaction commits; and changes that come together are one commit of the index.
GATHER_SECONDS = 0.05


class Indexer:
    """One loop. What was committed is found within about a tenth of a second, or a second for other replicas' changes.

    It remembers the first transaction that was not settled when it last looked, and reads from there on. What newer
    transactions changed is shown at once, but read again until all older ones are settled: whichever commits late is
    found, and a long transaction somewhere in the cluster delays nobody's offering.
    """

    def __init__(self, database: Database, index: SearchIndex) -> None:
        self._database = database
        self._index = index
        self._woken = asyncio.Event()
        self._fed = False
        # Offering id -> the transaction that changed it, for what is in the index although older ones are unsettled.
        self._ahead: dict[str, int] = {}

    def wake(self) -> None:
        """Something was committed here."""
        self._woken.set()

    async def run(self) -> None:
        while True:
            try:
                await self.feed()
                self._fed = True
            except LOST as error:
                log.warning("the search index waits: %s", error)
                await asyncio.sleep(0.5)
                continue
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
                self._woken.clear()
                await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                continue

    async def check(self) -> None:
        """Raises until the index has been fed once: an empty shop window is not a working catalog."""
        if not self._fed:
            raise unavailable("The search index")

    async def close(self) -> None:
        await asyncio.to_thread(self._index.close)

    async def feed(self) -> None:
        """One round: brings the index to what is committed now."""
        first = self._index.last_sequence
        ahead: dict[str, int] = {}
        waiting, found = 0, False
        # Both read in one snapshot: what is older than the horizon is all in it, or never will be.
        async with self._database.engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            horizon = await store.first_unsettled(connection)
            if horizon < first:
                # The cluster was restored and counts its transactions from a lower number.
                log.warning("the search index is built anew: the database is older than it")
                self._index.clear()
                self._ahead, first = {}, 0
            async for rows in store.changed_offerings(connection, first, CHUNK):
                fresh = [row for row in rows if self._ahead.get(row.id) != row.change_xid]
                ahead |= {row.id: row.change_xid for row in rows if row.change_xid >= horizon}
                await asyncio.to_thread(self._index.apply, [_change(row) for row in fresh])
                waiting, found = waiting + len(fresh), True
                if waiting >= COMMIT_EVERY:
                    # Its own transaction may go on in the next chunk, so that one is read again after a restart.
                    await asyncio.to_thread(self._index.commit, min(rows[-1].change_xid, horizon))
                    waiting = 0
        last = self._index.last_sequence
        # Where nothing changed nothing is written, although the horizon moves with every transaction of the cluster.
        if waiting or horizon < last or (found and horizon > last):
            await asyncio.to_thread(self._index.commit, horizon)
        self._ahead = ahead


def _change(row: sa.Row[*tuple[Any, ...]]) -> Listing | Removed:
    offering = pb.Offering.FromString(row.body)
    # What answers one buyer's request is that buyer's; nobody else should come across it.
    if not row.open or offering.mandate_request:
        return Removed(offering_id=row.id, sequence=row.change_xid)
    prices = {
        scope_pb2.BuyerCategory.Name(category): Price(_least(tier), tier.price.currency)
        for tier in offering.tiers
        for category in tier.categories
    }
    scope = offering.scope
    return Listing(
        offering_id=row.id,
        title=offering.title,
        # What the dataset says counts too: people search for what data is, not for how it is sold.
        description=f"{offering.description}\n{row.title}\n{row.description}",
        dataset_id=scope.datasets[0].dataset,
        cooperative_id=f"cooperatives/{row.cooperative}",
        cooperative_title=row.display_name or row.cooperative,
        modality=pb.Modality.Name(row.modality),
        languages=tuple(row.languages),
        license_tags=tuple(license_terms(scope)),
        buyer_categories=tuple(prices),
        purposes=tuple(scope.purposes),
        access_mode=scope_pb2.AccessMode.Name(scope.max_mode),
        prices=prices,
        min_price_amount_minor=min(map(_least, offering.tiers)),
        currency=scope.floor_price.currency,
        published_at=int(from_timestamp(offering.publish_time).timestamp()),
        sequence=row.change_xid,
    )


def _least(tier: pb.OfferingTier) -> int:
    """What a tier costs at least, in minor units. Where only use is billed it is not free: it counts as one unit, and so
    comes right after what is."""
    return tier.price.amount_minor or int(bool(tier.price_plan.metered))
