"""Events going out: never without their change, never lost, in order, and readable by anyone with the contracts."""

import asyncio
import importlib
import shutil
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf import symbol_database
from kit_world import World, kill, looping, revoked, until

from rochdale_kit.database import Database, inbox_table, outbox_table
from rochdale_kit.outbox import MAX_EVENT_BYTES, announce, prune
from rochdale_kit.refusals import Refusal
from rochdale_kit.telemetry import Telemetry


async def all_sent(world: World) -> bool:
    return await world.unsent() == 0


def labels(messages: list[Any]) -> list[str]:
    return [type(revoked("")).FromString(message.data).api_key.label for message in messages]


async def test_an_event_of_a_transaction_that_rolled_back_is_never_sent(world: World) -> None:
    async with looping(world.publisher().run()):
        with pytest.raises(ZeroDivisionError):
            async with world.database.begin() as connection:
                await announce(connection, revoked("never"))
                1 / 0  # noqa: B018
        await world.tell("kept")
        await until(lambda: all_sent(world))
    assert labels(await world.stream()) == ["kept"]


async def test_a_rollback_wakes_nobody_later(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        async with world.database.begin() as connection:
            await announce(connection, revoked("never"))
            1 / 0  # noqa: B018
    async with world.database.begin() as connection:
        await connection.execute(sa.text("SELECT 1"))
    assert not world.database.announced.is_set()
    await world.tell("kept")
    assert world.database.announced.is_set()


async def test_an_event_that_commits_while_a_batch_is_sent_is_not_slept_over(world: World) -> None:
    async with looping(world.publisher().run()):
        for number in range(60):
            await world.tell(str(number))
            await asyncio.sleep(0)
        started = asyncio.get_running_loop().time()
        await until(lambda: all_sent(world))
        # No poll was needed; the clock only tells a wake-up from the poll a second later.
        assert asyncio.get_running_loop().time() - started < 0.9
    assert labels(await world.stream()) == [str(number) for number in range(60)]


async def test_the_row_of_a_process_that_died_is_sent_by_the_next(world: World) -> None:
    await world.tell("orphan")
    world.database.announced.clear()
    async with looping(world.publisher().run()):
        await until(lambda: all_sent(world))


async def test_two_publishers_on_one_outbox_send_each_row_once_and_in_order(world: World) -> None:
    other = Database(world.url)
    async with looping(world.publisher().run(), world.publisher(other).run()):
        for start in range(0, 300, 10):
            database = world.database if start % 20 else other
            async with database.begin() as connection:
                for number in range(start, start + 10):
                    await announce(connection, revoked(f"{number:03}"))
        await until(lambda: all_sent(world))
    await other.close()
    assert labels(await world.stream()) == [f"{number:03}" for number in range(300)]


async def test_nats_dies_between_the_sending_and_the_mark_and_the_event_has_its_effect_once(world: World) -> None:
    publisher = world.publisher()
    async with looping(world.consumer().run()):
        await world.tell("one", "two")
        await publisher._publish_batch()
        await world.hears("one", "two")
        # As if the process had been killed before it committed its mark, and the server had forgotten its duplicates.
        async with world.database.begin() as connection:
            await connection.execute(outbox_table.update().values(publish_time=None))
        await world.nats.jetstream().purge_stream("identity")
        await kill(world.server)
        await world.server.start()
        async with looping(publisher.run()):
            await world.tell("three")
            await world.hears("one", "two", "three")
            await until(lambda: all_sent(world))


async def test_what_was_taken_before_nats_went_away_is_marked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.tell("one", "two", "three")
    publisher = world.publisher()
    async with looping(publisher.run()):
        await until(lambda: all_sent(world))
    await world.tell("four", "five", "six")
    send, left = type(world.nats).request, [2]

    async def request(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise ConnectionResetError("gone")
        return await send(*arguments, **named)

    monkeypatch.setattr(type(world.nats), "request", request)
    with pytest.raises(ConnectionResetError):
        await publisher._publish_batch()
    monkeypatch.undo()
    assert await world.unsent() == 1


async def test_nats_is_away_at_first_and_then_without_its_store(world: World) -> None:
    async with looping(world.publisher().run(), world.consumer().run()):
        await world.tell("one")
        await world.hears("one")
        await kill(world.server)
        shutil.rmtree(world.server.home / "store")
        await world.tell("two")
        await world.server.start()
        await world.hears("one", "two")


async def test_an_event_no_message_can_carry_is_refused_where_it_is_written(world: World) -> None:
    async with looping(world.publisher().run()):
        with pytest.raises(Refusal, match=f"at most {MAX_EVENT_BYTES}") as caught:
            async with world.database.begin() as connection:
                await announce(connection, revoked("x" * MAX_EVENT_BYTES))
        assert caught.value.reason == "REQUEST_INVALID"
        await world.tell("x" * (MAX_EVENT_BYTES - 100), "after")
        await until(lambda: all_sent(world))


async def test_an_outbox_that_is_not_there_ends_the_process_rather_than_waiting_for_ever(world: World) -> None:
    async with world.database.engine.begin() as connection:
        await connection.execute(sa.text("ALTER TABLE outbox RENAME TO lost"))
    with pytest.raises(sa.exc.ProgrammingError):
        async with asyncio.timeout(10):
            await world.publisher().run()


async def test_every_event_is_a_cloud_event_that_anyone_with_the_contracts_reads(world: World) -> None:
    importlib.import_module("rochdale.identity.v1.events_pb2")
    with Telemetry("kit").span("nothing", parent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-00"):
        await world.tell("read me")
    async with looping(world.publisher().run()):
        await until(lambda: all_sent(world))
    [message] = await world.stream()
    headers = message.headers
    assert message.subject == "rochdale.identity.v1.key_revoked"
    assert headers["ce-specversion"] == "1.0" and headers["ce-source"] == "rochdale/identity"
    assert headers["ce-type"] == "rochdale.identity.v1.KeyRevoked" and headers["content-type"] == "application/protobuf"
    assert headers["ce-id"] == headers["Nats-Msg-Id"] and headers["ce-id"].startswith("evt_")
    assert headers["ce-time"].endswith("Z") and headers["traceparent"].startswith("00-" + "ab" * 16)
    read: Any = symbol_database.Default().GetSymbol(headers["ce-type"])
    assert read.FromString(message.data).api_key.label == "read me"


async def test_what_is_old_is_forgotten_and_what_is_not_sent_is_kept(world: World) -> None:
    await world.tell("sent long ago", "sent today", "never sent")
    old = sa.text("now() - interval '40 days'")
    async with world.database.begin() as connection:
        for position, moment in ((1, old), (2, sa.func.now())):
            await connection.execute(
                outbox_table.update().where(outbox_table.c.position == position).values(publish_time=moment)
            )
        for event, moment in (("old", old), ("new", sa.func.now())):
            await connection.execute(inbox_table.insert().values(consumer="c", event_id=event, handle_time=moment))
    await prune(world.database)
    assert [row.position for row in await world.query("SELECT position FROM outbox ORDER BY 1")] == [2, 3]
    assert [row.event_id for row in await world.query("SELECT event_id FROM inbox")] == ["new"]
