"""How a replica's index follows PostgreSQL: every change once, whatever order transactions commit in. Real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa
from catalog_world import dataset_request, eventually, offered, tier
from house import House
from sqlalchemy.ext.asyncio import AsyncConnection

from catalog import indexer as module
from catalog import store
from catalog.indexer import Indexer
from catalog.search import Listing, Removed, SearchIndex, SearchQuery
from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import Database
from rochdale_kit.refusals import Refusal
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


class Watched(SearchIndex):
    """A real index that counts what it is given."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path)
        self.applied: list[str] = []
        self.commits: list[int] = []

    def apply(self, changes: Iterable[Listing | Removed]) -> None:
        several = list(changes)
        self.applied += [change.offering_id for change in several]
        super().apply(several)

    def commit(self, sequence: int) -> None:
        self.commits.append(sequence)
        super().commit(sequence)

    def held(self) -> set[str]:
        return {hit.offering_id for hit in self.search(SearchQuery(page_size=100)).hits}


@pytest_asyncio.fixture
async def database(
    postgres: Postgres, nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    """An empty catalog's database, with one dataset."""
    house = House(postgres, nats_server, tmp_path_factory.mktemp("house"))
    database = Database(await house.database_url("catalog"))
    async with database.begin() as connection:
        request = dataset_request("valley")
        await store.insert_dataset(connection, "cooperatives/valley/datasets/randhie", "valley", request, now())
    yield database
    await database.close()


async def save(connection: AsyncConnection, id: str, state: int = pb.OFFERING_STATE_OPEN) -> None:
    scope = offered("valley")
    offering = pb.Offering(
        name=f"cooperatives/valley/offerings/{id}",
        title="Visits",
        scope=scope,
        tiers=[tier("r", 0, *scope.categories)],
        state=state,  # type: ignore[arg-type] # the enum's int
    )
    if state == pb.OFFERING_STATE_CLOSED:
        await store.close_offering(connection, id, offering)
    else:
        assert await store.insert_offering(connection, id, "valley", offering)


async def saved(database: Database, *states: int) -> str:
    id = new_id("off")
    async with database.begin() as connection:
        for state in states or (pb.OFFERING_STATE_OPEN,):
            await save(connection, id, state)
    return id


async def test_a_late_commit_is_found_although_younger_ones_were_shown(database: Database) -> None:
    index = Watched()
    indexer = Indexer(database, index)
    async with database.engine.connect() as slow:
        begun = await slow.begin()
        late = new_id("off")
        await save(slow, late)
        quick = await saved(database)
        # The older transaction is still under way and hides nothing but its own.
        await indexer.feed()
        assert index.held() == {quick}
        await indexer.feed()
        assert index.applied == [quick] and len(index.commits) == 1
        await begun.commit()
    await indexer.feed()
    assert index.held() == {quick, late} and sorted(index.applied) == sorted([quick, late])
    # And nothing is read again once all are settled.
    await indexer.feed()
    rounds = len(index.commits)
    await indexer.feed()
    assert len(index.applied) == 2 and len(index.commits) == rounds
    index.close()


async def test_a_transaction_that_is_rolled_back_leaves_nothing(database: Database) -> None:
    index = Watched()
    indexer = Indexer(database, index)
    async with database.engine.connect() as connection:
        begun = await connection.begin()
        await save(connection, new_id("off"))
        await indexer.feed()
        await begun.rollback()
    kept = await saved(database)
    await indexer.feed()
    assert index.held() == {kept}
    index.close()


async def test_many_writers_at_once_lose_nothing(database: Database) -> None:
    index = Watched()
    indexer = Indexer(database, index)

    async def write(number: int) -> set[str]:
        ids = set()
        for turn in range(6):
            id = new_id("off")
            async with database.begin() as connection:
                await save(connection, id)
                await asyncio.sleep((number * 7 + turn * 3) % 11 / 1000)
            if (number + turn) % 3 == 0:
                async with database.begin() as connection:
                    await save(connection, id, pb.OFFERING_STATE_CLOSED)
            else:
                ids.add(id)
        return ids

    writing = [asyncio.create_task(write(number)) for number in range(8)]
    while not all(task.done() for task in writing):
        await indexer.feed()
    await indexer.feed()
    assert index.held() == set().union(*[task.result() for task in writing])
    index.close()


async def test_a_quiet_database_costs_the_index_nothing(database: Database, postgres: Postgres) -> None:
    index = Watched()
    indexer = Indexer(database, index)
    await indexer.feed()
    await saved(database)
    await indexer.feed()
    commits = len(index.commits)
    for _ in range(5):
        # Others in the cluster write, and so the horizon moves.
        async with database.begin() as connection:
            await connection.execute(sa.text("CREATE TABLE IF NOT EXISTS elsewhere (x int)"))
            await connection.execute(sa.text("INSERT INTO elsewhere VALUES (1)"))
        await indexer.feed()
    assert len(index.commits) == commits and len(index.applied) == 1
    index.close()


async def test_a_restart_goes_on_where_the_index_stopped(database: Database, tmp_path: Path) -> None:
    first = Watched(tmp_path / "index")
    stays, goes = await saved(database), await saved(database)
    await Indexer(database, first).feed()
    first.close()

    comes = await saved(database)
    async with database.begin() as connection:
        await save(connection, goes, pb.OFFERING_STATE_CLOSED)
    second = Watched(tmp_path / "index")
    assert second.held() == {stays, goes}
    await Indexer(database, second).feed()
    assert second.held() == {stays, comes} and set(second.applied) == {goes, comes}
    second.close()


async def test_an_index_ahead_of_its_database_is_built_anew(database: Database, tmp_path: Path) -> None:
    index = Watched(tmp_path / "index")
    index.commit(1 << 60)
    held = await saved(database)
    indexer = Indexer(database, index)
    await indexer.feed()
    assert index.held() == {held} and index.last_sequence < 1 << 60
    await indexer.feed()
    assert index.applied == [held]
    index.close()


@pytest.mark.parametrize("together", [True, False])
async def test_a_first_feed_is_committed_in_pieces_and_goes_on_after_a_break(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    monkeypatch.setattr(module, "CHUNK", 10)
    monkeypatch.setattr(module, "COMMIT_EVERY", 20)
    ids = {new_id("off") for _ in range(95)}
    if together:  # one transaction, which pieces cut through
        async with database.begin() as connection:
            for id in ids:
                await save(connection, id)
    else:
        for id in ids:
            async with database.begin() as connection:
                await save(connection, id)

    broken = Watched(tmp_path / "index")
    commit = broken.commit

    def breaks(sequence: int) -> None:
        if len(broken.commits) == 3:
            raise OSError("no space left")
        commit(sequence)

    monkeypatch.setattr(broken, "commit", breaks)
    with pytest.raises(OSError, match="no space"):
        await Indexer(database, broken).feed()
    broken.close()

    index = Watched(tmp_path / "index")
    assert index.listings == 60
    indexer = Indexer(database, index)
    await indexer.feed()
    assert index.held() == ids and index.listings == 95
    assert len(index.applied) <= (95 if together else 36) and index.commits == sorted(index.commits)
    index.close()


async def test_health_says_so_until_the_shop_window_is_filled(database: Database) -> None:
    index = Watched()
    indexer = Indexer(database, index)
    with pytest.raises(Refusal):
        await indexer.check()
    held = await saved(database)
    running = asyncio.create_task(indexer.run())

    async def shown() -> bool:
        return index.held() == {held}

    await eventually(shown)
    await indexer.check()
    later = await saved(database)
    indexer.wake()

    async def both() -> bool:
        return index.held() == {held, later}

    await eventually(both)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await indexer.close()
