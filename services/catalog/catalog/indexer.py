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
POLL_SECONDS = 1.0


class Indexer:
    """One loop. What was committed is found within about a tenth of a second, or a second for other replicas' changes."""

    def __init__(self, database: Database, index: SearchIndex) -> None:
        self._database = database
        self._index = index
        self._woken = asyncio.Event()
        self._fed = False

    def wake(self) -> None:
        """Something was committed here."""
        self._woken.set()

    async def run(self) -> None:
        while True:
            try:
                await self._feed()
                self._fed = True
            except LOST as error:
                log.warning("the search index waits: %s", error)
                await asyncio.sleep(0.5)
                continue
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
                # A transaction that committed this instant may still look under way to the next snapshot.
                self._woken.clear()
                await asyncio.sleep(0.02)
            except TimeoutError:
                continue

    async def check(self) -> None:
        """Raises until the index has been fed once: an empty shop window is not a working catalog."""
        if not self._fed:
            raise unavailable("The search index")

    async def close(self) -> None:
        await asyncio.to_thread(self._index.close)

    async def _feed(self) -> None:
        first = self._index.last_sequence
        # Reading both in one snapshot: what is below the horizon is all there or never will be.
        async with self._database.engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            end = await store.changes_up_to(connection)
            if end < first:
                # The cluster was restored and counts its transactions from a lower number.
                self._index.clear()
                first = 0
            changed = False
            async for rows in store.changed_offerings(connection, first, end, CHUNK):
                changed = True
                await asyncio.to_thread(self._index.apply, [_change(row, end) for row in rows])
        if changed or end < self._index.last_sequence:
            await asyncio.to_thread(self._index.commit, end)


def _change(row: sa.Row[Any], sequence: int) -> Listing | Removed:
    if not row.open:
        return Removed(offering_id=row.id, sequence=sequence)
    offering = pb.Offering.FromString(row.body)
    prices = {
        scope_pb2.BuyerCategory.Name(category): Price(tier.price.amount_minor, tier.price.currency)
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
        min_price_amount_minor=scope.floor_price.amount_minor,
        currency=scope.floor_price.currency,
        published_at=int(from_timestamp(offering.publish_time).timestamp()),
        sequence=sequence,
    )
