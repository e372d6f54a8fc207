"""How a license stands follows from what speaks against it, is told once for each change, and ends once."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import sqlalchemy as sa
from house import House
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from billing import standing
from billing.domain.standing import Cause, Standing, after
from rochdale.billing.v1 import events_pb2 as pb
from rochdale_kit.database import Database
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def database(
    postgres: Postgres, nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    house = House(postgres, nats_server, tmp_path_factory.mktemp("house"))
    house.tag = secrets.token_hex(4)
    made = Database(await house.database_url("billing"), pool_size=8)
    yield made
    await made.close()


@pytest.fixture
def license() -> str:
    return f"licenses/lic_{ULID()}"


async def told(database: Database, license: str) -> list[pb.StandingChanged]:
    async with database.read() as connection:
        rows = await connection.execute(
            sa.text("SELECT body FROM outbox WHERE message_type LIKE '%StandingChanged' ORDER BY position")
        )
        events = [pb.StandingChanged.FromString(row.body) for row in rows]
    return [event for event in events if event.license == license]


@given(st.lists(st.sets(st.sampled_from(Cause)), max_size=12))
def test_only_a_change_counts_and_an_end_is_for_good(history: list[set[Cause]]) -> None:
    now = Standing()
    for causes in history:
        then = after(now, causes)
        assert then.sequence == now.sequence + ((then.state, then.reason) != (now.state, now.reason))
        if now.state == pb.STANDING_ENDED:
            assert then is now
        elif any(cause.final for cause in causes):
            assert then.state == pb.STANDING_ENDED
        else:
            assert then.state == (pb.STANDING_HELD if causes else pb.STANDING_GOOD)
        assert then.reason in causes if then.state == pb.STANDING_HELD else True
        now = then


async def test_a_license_is_held_until_the_last_cause_is_gone(database: Database, license: str) -> None:
    for act, cause in (
        (standing.add, Cause.CAP_REACHED),
        (standing.add, Cause.CAP_REACHED),
        (standing.add, Cause.DISPUTED),
        (standing.remove, Cause.CAP_REACHED),
        (standing.remove, Cause.DISPUTED),
        (standing.remove, Cause.DISPUTED),
    ):
        async with database.begin() as connection:
            await act(connection, license, cause)
    assert [(event.standing, event.reason, event.sequence) for event in await told(database, license)] == [
        (pb.STANDING_HELD, "CAP_REACHED", 1),
        (pb.STANDING_HELD, "DISPUTED", 2),
        (pb.STANDING_GOOD, "", 3),
    ]


async def test_what_ended_stays_ended(database: Database, license: str) -> None:
    async with database.begin() as connection:
        await standing.add(connection, license, Cause.PAST_DUE)
        await standing.add(connection, license, Cause.NOT_PAID)
        await standing.remove(connection, license, Cause.PAST_DUE)
        ended = await standing.add(connection, license, Cause.REFUNDED)
        with pytest.raises(ValueError, match="ended"):
            await standing.remove(connection, license, Cause.NOT_PAID)
    assert (ended.state, ended.reason) == (pb.STANDING_ENDED, "NOT_PAID")
    assert [event.reason for event in await told(database, license)] == ["PAST_DUE", "NOT_PAID"]


async def test_eight_at_once_tell_each_change_once(database: Database, license: str) -> None:
    async def one(number: int) -> None:
        cause = list(Cause)[3 + number % 3]
        async with database.begin() as connection:
            await standing.add(connection, license, cause)
        async with database.begin() as connection:
            await standing.remove(connection, license, cause)

    await asyncio.gather(*(one(number) for number in range(8)))
    events = await told(database, license)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].standing == pb.STANDING_GOOD
