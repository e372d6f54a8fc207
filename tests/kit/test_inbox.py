"""Events coming in: handled once, tried again while that may help, then parked where an operator finds and replays them."""

import asyncio
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.message import Message
from kit_world import World, heard_table, kill, looping, revoked, until, world_on
from sqlalchemy.ext.asyncio import AsyncConnection

from rochdale.identity.v1 import events_pb2
from rochdale_kit import inbox, parked
from rochdale_kit.inbox import Consumer, on, parked_events
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal, unavailable
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


async def is_parked(world: World, count: int = 1) -> bool:
    return len(await parked_events(world.database)) == count


async def publish(world: World, data: bytes, **headers: str) -> None:
    """What somebody with access to NATS, and not our publisher, might send."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    await world.nats.jetstream().publish("rochdale.identity.v1.key_revoked", data, headers=named or None)


async def test_the_same_event_twice_has_its_effect_once(world: World) -> None:
    async with looping(world.consumer().run(), world.publisher().run()):
        await world.tell("once")
        await world.hears("once")
        [message] = await world.stream()
        await publish(world, message.data, ce_id=message.headers["ce-id"], ce_type=message.headers["ce-type"])
        await world.tell("next")
        await world.hears("once", "next")
    assert world.calls == ["once", "next"]


async def test_two_replicas_and_a_slow_handler_share_one_effect(world: World) -> None:
    release = asyncio.Event()

    async def slow(connection: AsyncConnection, event: Message) -> None:
        await connection.execute(heard_table.insert().values(label="slow"))
        await release.wait()

    # As if the first handler had outlived ack_wait: the event arrives at a second replica while it still runs.
    subscription = on(events_pb2.KeyRevoked, slow)
    consumer = world.consumer(handle=slow)
    first = asyncio.create_task(consumer._once("evt_1", subscription, revoked("slow")))
    second = asyncio.create_task(consumer._once("evt_1", subscription, revoked("slow")))
    await asyncio.sleep(0.1)
    assert not first.done() and not second.done()
    release.set()
    await asyncio.gather(first, second)
    assert await world.heard() == ["slow"]


async def test_a_second_replica_takes_over_when_the_first_one_fails(world: World) -> None:
    consumer = world.consumer()
    subscription = on(events_pb2.KeyRevoked, world.handle)
    world.failures.append(ValueError("first"))
    with pytest.raises(ValueError, match="first"):
        await consumer._once("evt_1", subscription, revoked("taken over"))
    await consumer._once("evt_1", subscription, revoked("taken over"))
    assert await world.heard() == ["taken over"]


@pytest.mark.parametrize(
    "error",
    [
        Refusal("RULE_NOT_YET_KNOWN", "The rule has not been heard of yet.", Kind.UNAVAILABLE),
        unavailable("Governance"),
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata()),
        KeyError("a fault of ours, mended by a deployment"),
    ],
    ids=["not yet known", "away", "away, not translated", "fault"],
)
async def test_what_may_pass_is_tried_again_and_nothing_of_the_attempt_stays(world: World, error: Exception) -> None:
    world.failures += [error, error]
    async with looping(world.consumer().run(), world.publisher().run()):
        await world.tell("patience")
        await world.hears("patience")
    assert world.calls == ["patience"] * 3 and not await parked_events(world.database)


async def test_the_delay_grows_and_what_is_merely_away_is_asked_for_often(world: World) -> None:
    delays: list[float] = []

    class Letter:
        subject = "rochdale.identity.v1.key_revoked"

        async def nak(self, delay: float) -> None:
            delays.append(delay)

    letter: Any = Letter()
    for deliveries in (1, 2, 3, 100):
        await world.consumer()._later(letter, deliveries, Refusal("X_NOT_YET_KNOWN", "Not yet.", Kind.UNAVAILABLE))
    await world.consumer()._later(letter, 100, unavailable("The database"))
    assert delays == [0.2, 0.4, 0.8, 30.0, 2.0]


async def test_a_fault_that_stays_is_parked_then_replayed(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inbox, "MAX_DELIVERIES", 2)
    world.failures += [KeyError("our fault")] * 3
    consumer = world.consumer()
    async with looping(consumer.run(), world.publisher().run()):
        await world.tell("difficult")
        await until(lambda: is_parked(world))
        world.failures, later = [], world.failures
        await world.tell("easy")
        await world.hears("easy")
        world.failures = later
        [event] = await parked_events(world.database)
        assert event.reason == "INTERNAL" and "our fault" not in event.message and "in the log" in event.message
        assert await parked.show(world.url) == 1
        # The cause is still there: it says so and stays parked.
        assert await parked.replay(world.url, [consumer]) == 1
        assert await parked.replay(world.url, [consumer]) == 0
        # And once more, as after a crash before the mark: nothing happens twice.
        async with world.database.begin() as connection:
            await connection.execute(sa.text("UPDATE parked_event SET replay_time = NULL"))
        assert await consumer.replay_parked() == 1
        await world.hears("easy", "difficult")
        assert await parked.show(world.url) == 0
    told = capsys.readouterr().out
    assert "parked  " in told and "1 parked." in told and "0 handled, 1 still parked." in told
    assert "handled  " in told and "1 handled, 0 still parked." in told and told.endswith("0 parked.\n")


async def test_a_refusal_for_good_is_parked_at_once_and_the_next_event_goes_on(world: World) -> None:
    world.failures.append(Refusal("DATASET_UNKNOWN", "datasets/x is nobody's.", Kind.STATE))
    async with looping(world.consumer().run(), world.publisher().run()):
        await world.tell("refused", "next")
        await world.hears("next")
        await until(lambda: is_parked(world))
    assert world.calls == ["refused", "next"]
    [event] = await parked_events(world.database)
    assert (event.consumer, event.reason) == ("kit-identity", "DATASET_UNKNOWN")


async def test_unreadable_events_are_all_kept_and_none_passes_for_another(world: World) -> None:
    async with looping(world.consumer().run(), world.publisher().run()):
        await world.tell("first")
        await world.hears("first")
        named = "rochdale.identity.v1.KeyRevoked"
        await publish(world, b"no headers")
        await publish(world, revoked("without an id").SerializeToString(), ce_type=named)
        await publish(world, revoked("without an id, too").SerializeToString(), ce_type=named)
        await publish(world, b"\xff\xff", ce_id="evt_broken", ce_type=named)
        await world.tell("last")
        await world.hears("first", "last")
        await until(lambda: is_parked(world, 4))
    events = await parked_events(world.database)
    assert {event.reason for event in events} == {"EVENT_UNREADABLE"}
    assert [event.event_id for event in events] == ["identity/2", "identity/3", "identity/4", "evt_broken"]


async def test_a_newer_version_listens_for_more_under_the_same_name(world: World) -> None:
    """And the older version beside it leaves to the newer one what it does not know."""

    async def verified(connection: AsyncConnection, event: events_pb2.OrganizationVerified) -> None:
        await connection.execute(heard_table.insert().values(label="verified"))

    both = [on(events_pb2.KeyRevoked, world.handle), on(events_pb2.OrganizationVerified, verified)]
    newer = Consumer("kit", "identity", both, world.database, world.nats, world.telemetry)
    async with looping(world.consumer().run(), world.publisher().run()):
        await world.tell("old")
        await world.hears("old")
        async with looping(newer.run()):
            await until(lambda: hears_both(world))
            async with world.database.begin() as connection:
                for _ in range(2):
                    await announce(connection, events_pb2.OrganizationVerified())
            await world.hears("old", *["verified"] * 2)
    assert not await parked_events(world.database)


async def hears_both(world: World) -> bool:
    info = await world.nats.jetstream().consumer_info("identity", "kit-identity")
    return len(info.config.filter_subjects or []) == 2


async def test_nats_is_killed_under_a_running_consumer(world: World) -> None:
    async with looping(world.consumer().run(), world.publisher().run()):
        await world.tell("before")
        await world.hears("before")
        await kill(world.server)
        await world.tell("meanwhile")
        await world.server.start()
        await world.tell("after")
        await world.hears("before", "meanwhile", "after")


async def test_postgresql_is_killed_under_a_running_consumer_and_publisher(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    postgres = Postgres(tmp_path_factory.mktemp("killed"), durable=False)
    server = NatsServer(tmp_path_factory.mktemp("nats"), durable=False)
    await postgres.start()
    await server.start()
    try:
        async with world_on(postgres, server) as world, looping(world.consumer().run(), world.publisher().run()):
            await world.tell("before")
            await world.hears("before")
            await kill(postgres)
            await publish(
                world, revoked("x").SerializeToString(), ce_id="evt_x", ce_type="rochdale.identity.v1.KeyRevoked"
            )
            await asyncio.sleep(0.3)
            await postgres.start()
            await world.hears("before", "x")
            await world.tell("after")
            await world.hears("before", "x", "after")
            assert not await parked_events(world.database)
    finally:
        await server.stop()
        await postgres.stop()


async def test_what_an_operator_is_shown_commands_no_terminal(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.failures.append(Refusal("BAD", "\x1b[2J then\nanother line, password=hunter22", Kind.STATE))
    async with looping(world.consumer().run(), world.publisher().run()):
        await world.tell("hostile")
        await until(lambda: is_parked(world))
    assert await parked.replay(world.url, []) == 1
    assert await parked.show(world.url) == 1
    told = capsys.readouterr().out
    assert "CONSUMER_UNKNOWN" in told and "\x1b" not in told and "hunter22" not in told
    assert len(told.splitlines()) == 4
