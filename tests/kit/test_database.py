"""Transactions, the answer a request got the first time, and which errors of PostgreSQL may pass by themselves."""

import asyncio
import logging
import secrets
from pathlib import Path

import pytest
import sqlalchemy as sa
from kit_world import World, heard_table, kill, world_on

from rochdale.identity.v1 import identity_pb2 as pb
from rochdale_kit.boundary import as_refusal
from rochdale_kit.database import Database, first_answer, is_lost, migrate, remember
from rochdale_kit.refusals import Refusal
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


def request(label: str = "desk") -> pb.CreateApiKeyRequest:
    return pb.CreateApiKeyRequest(request_id="one", label=label)


async def answer(database: Database, asked: pb.CreateApiKeyRequest, wait: asyncio.Event | None = None) -> pb.ApiKey:
    async with database.begin() as connection:
        if (first := await first_answer(connection, "acme", asked, pb.ApiKey)) is not None:
            return first
        if wait is not None:
            await wait.wait()
        return await remember(connection, "acme", asked, pb.ApiKey(name=secrets.token_hex(4)))


async def test_a_second_arrival_waits_for_the_first_and_gets_its_answer(world: World) -> None:
    release = asyncio.Event()
    first = asyncio.create_task(answer(world.database, request(), release))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(answer(world.database, request()))
    await asyncio.sleep(0.1)
    assert not second.done()
    release.set()
    assert await first == await second
    with pytest.raises(Refusal, match="was used for another request"):
        await answer(world.database, request("another"))


async def test_a_first_arrival_whose_client_went_away_leaves_the_second_to_do_it(world: World) -> None:
    first = asyncio.create_task(answer(world.database, request(), asyncio.Event()))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(answer(world.database, request()))
    await asyncio.sleep(0.1)
    # What a client's deadline does to the handler.
    first.cancel()
    assert (await second).name
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_an_answer_that_was_not_kept_is_a_fault_and_never_an_empty_answer(world: World) -> None:
    async with world.database.begin() as connection:
        assert await first_answer(connection, "acme", request(), pb.ApiKey) is None
    with pytest.raises(AssertionError, match="its answer not kept"):
        await answer(world.database, request())
    # An answer that is empty by itself is one.
    async with world.database.begin() as connection:
        other = pb.VerifyOrganizationRequest(request_id="two")
        await first_answer(connection, "acme", other, pb.ApiKey)
        await remember(connection, "acme", other, pb.ApiKey())
    async with world.database.begin() as connection:
        assert await first_answer(connection, "acme", other, pb.ApiKey) == pb.ApiKey()


async def test_a_connection_for_reading_does_not_write_and_is_one_for_writing_afterwards(world: World) -> None:
    for _ in range(3):
        with pytest.raises(sa.exc.DBAPIError, match="read-only") as caught:
            async with world.database.read() as connection:
                await connection.execute(heard_table.insert().values(label="x"))
        assert not is_lost(caught.value)
        async with world.database.begin() as connection:
            await connection.execute(heard_table.insert().values(label="x"))
    assert len(await world.heard()) == 3


async def raised(database: Database, *statements: str) -> Exception:
    with pytest.raises(Exception) as caught:
        async with database.begin() as connection:
            for statement in statements:
                await connection.execute(sa.text(statement))
    return caught.value


async def test_what_would_fail_for_ever_is_a_fault_and_not_taken_for_a_lost_database(world: World) -> None:
    for statement in (
        "SELECT * FROM nowhere",
        "SELEC",
        "INSERT INTO inbox VALUES (NULL, 'x')",
        "SELECT 1/0",
        "SELECT 'a'::int",
    ):
        error = await raised(world.database, statement)
        assert not is_lost(error), statement
        assert as_refusal(error, "test").reason == "INTERNAL"
    with pytest.raises(sa.exc.DBAPIError) as caught:
        async with world.database.begin() as connection:
            # A value the driver cannot encode comes as its InterfaceError, like a closed connection.
            await connection.execute(heard_table.insert().values(position=1 << 40, label="x"))
    assert not is_lost(caught.value)
    assert not is_lost(FileNotFoundError(2, "no such file", "/etc/x")) and is_lost(ConnectionResetError(104, "reset"))


async def test_a_deadlock_passes(world: World) -> None:
    async with world.database.begin() as connection:
        await connection.execute(heard_table.insert(), [{"label": "a"}, {"label": "b"}])
    met = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> None:
        async with world.database.begin() as connection:
            for label in (first, second):
                await connection.execute(sa.select(heard_table).where(heard_table.c.label == label).with_for_update())
                if label == first:
                    await met.wait()

    results = await asyncio.gather(lock("a", "b"), lock("b", "a"), return_exceptions=True)
    [error] = [result for result in results if result is not None]
    assert isinstance(error, Exception) and is_lost(error)
    assert as_refusal(error, "test").reason == "SERVICE_UNAVAILABLE"


async def test_a_postgresql_that_is_killed_stopped_or_full_is_unavailable(
    nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    postgres = Postgres(tmp_path_factory.mktemp("killed"), durable=False)
    await postgres.start()
    try:
        async with world_on(postgres, nats_server) as world:
            # Ended by an administrator, in the middle of a transaction.
            error = await raised(world.database, "SELECT pg_terminate_backend(pg_backend_pid())")
            assert is_lost(error) and as_refusal(error, "x").reason == "SERVICE_UNAVAILABLE"
            await world.database.check()
            name = sa.engine.make_url(world.url).database
            admin = await postgres._connect()
            await admin.execute(f'ALTER ROLE "{name}" CONNECTION LIMIT 0')
            await world.database.engine.dispose()
            error = await raised(world.database, "SELECT 1")
            assert is_lost(error), error
            await admin.execute(f'ALTER ROLE "{name}" CONNECTION LIMIT -1')
            await admin.close()
            asleep = asyncio.create_task(raised(world.database, "SELECT pg_sleep(30)"))
            await asyncio.sleep(0.2)
            await kill(postgres)
            error = await asleep
            assert is_lost(error), error
            error = await raised(world.database, "SELECT 1")
            assert is_lost(error), error
            # While it recovers it listens and lets nobody in.
            starting = asyncio.create_task(postgres.start())
            while not starting.done():
                try:
                    await world.database.check()
                except Exception as error:
                    assert is_lost(error), error
                await asyncio.sleep(0.005)
            await starting
            await world.database.check()
    finally:
        await postgres.stop()


async def test_the_values_of_a_statement_that_failed_are_in_no_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(sa.exc.DBAPIError) as caught:
        async with world.database.begin() as connection:
            await connection.execute(sa.text("SELECT CAST(:secret AS text)::int"), {"secret": "planted"})
    assert "[SQL parameters hidden" in str(caught.value)


async def test_two_replicas_may_migrate_at_once(postgres: Postgres) -> None:
    name = f"kit_{secrets.token_hex(4)}"
    await postgres.ensure_database(name, name, "test")
    url = postgres.dsn(name, name, "test")
    migrations = Path(__file__).parents[2] / "services/identity/identity/migrations"
    await asyncio.gather(*(migrate(url, migrations) for _ in range(3)))
    await migrate(url, migrations)
