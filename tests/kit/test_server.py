"""A service's life: healthy when it can work, ended by any loop that ends, stopped by anybody, and what its command does."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa
from grpc_health.v1 import health_pb2, health_pb2_grpc
from house import House
from kit_world import until

from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.identity.v1 import identity_pb2 as pb
from rochdale_kit import server
from rochdale_kit.boundary import Boundary
from rochdale_kit.database import Database, parked_table
from rochdale_kit.identity import PUBLIC, Sessions
from rochdale_kit.server import Service
from rochdale_kit.telemetry import Telemetry
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["IdentityService"]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def service_with_grpc() -> Service:
    telemetry = Telemetry("kit")
    service = Service("kit", telemetry)
    access = {method.name: PUBLIC for method in DESCRIPTOR.methods}
    keys: object = None
    boundary = Boundary({DESCRIPTOR: access}, Sessions(keys), telemetry)  # type: ignore[arg-type] # nobody has a session
    service.serve_grpc("127.0.0.1:0", boundary, lambda _server: None)
    return service


async def forever() -> None:
    await asyncio.Event().wait()


async def test_health_means_it_can_do_its_work_and_live_means_it_answers() -> None:
    service, away = service_with_grpc(), asyncio.Event()

    async def check() -> None:
        if away.is_set():
            raise ConnectionError

    service.check("store", check)
    async with service.running(), grpc.aio.insecure_channel(service.grpc_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def state(name: str) -> int:
            return int((await stub.Check(health_pb2.HealthCheckRequest(service=name))).status)

        async def states(*wanted: int) -> bool:
            names = ("", DESCRIPTOR.full_name, "live")
            return [await state(name) for name in names] == list(wanted)

        await until(lambda: states(SERVING, SERVING, SERVING))
        away.set()
        await until(lambda: states(NOT_SERVING, NOT_SERVING, SERVING))
        assert service.trouble == "store: ConnectionError" and not service.healthy.is_set()
        away.clear()
        await until(lambda: states(SERVING, SERVING, SERVING))
        assert service.healthy.is_set()


async def test_a_check_that_hangs_is_no_health(monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_with_grpc()
    service.check("store", forever)
    await service.start()
    assert not service.healthy.is_set()
    async with asyncio.timeout(5):
        await service.stop()


async def test_a_loop_that_ends_ends_the_service_and_says_which_and_why() -> None:
    service = Service("kit", Telemetry("kit"))

    async def breaks() -> None:
        raise KeyError("why")

    service.loop("steady", forever)
    service.loop("brittle", breaks)
    await service.start()
    with pytest.raises(RuntimeError, match="kit: brittle ended") as ended:
        await service.wait()
    assert isinstance(ended.value.__cause__, KeyError)
    await service.stop()


async def test_nothing_keeps_a_service_from_stopping(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "STOP_SECONDS", 0.2)
    service, closed, release = service_with_grpc(), [], asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def fails() -> None:
        raise OSError("cannot close")

    async def closes() -> None:
        closed.append(True)

    service.loop("stubborn", stubborn)
    service.close(closes)
    service.close(fails)
    service.close(forever)
    await service.start()
    async with asyncio.timeout(5):
        await service.stop()
    assert closed and "kit: stubborn does not end" in caplog.text
    release.set()


async def test_a_taken_address_is_a_sentence() -> None:
    first, second = service_with_grpc(), service_with_grpc()
    await first.start()
    second._grpc_wanted = first.grpc_address
    with pytest.raises(SystemExit, match=r"kit cannot listen at 127\.0\.0\.1:\d+; is it taken"):
        await second.start()
    await first.stop()
    await second.stop()


async def process_of(package: str, settings: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", package, *arguments),
        env={"PATH": os.defpath} | {f"{package}_{name}".upper(): value for name, value in settings.items()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ran(package: str, settings: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    process = await process_of(package, settings, *arguments)
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def settings_of(house: House) -> dict[str, str]:
    (house.folder / "sealing.key").write_bytes(bytes(32))
    return {
        "database_url": await house.database_url("identity"),
        "nats_url": house.nats.url(),
        "sealing_key_file": str(house.folder / "sealing.key"),
    }


async def test_the_command_migrates_and_refuses_what_it_does_not_know(
    postgres: Postgres, nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = await settings_of(House(postgres, nats_server, tmp_path))
    assert await ran("identity", settings, "migrate") == (0, "", "")
    code, _, err = await ran("identity", settings, "replya")
    assert code == 1 and err.startswith("Usage: python -m <service> [migrate | parked | replay]")


async def test_an_operator_sees_what_the_catalog_parked_and_replays_it(
    postgres: Postgres, nats_server: NatsServer, tmp_path: Path
) -> None:
    house = House(postgres, nats_server, tmp_path)
    settings = {
        "database_url": await house.database_url("catalog"),
        "nats_url": nats_server.url(),
        "identity_address": "127.0.0.1:1",
    }
    event = governance_events.CooperativeCreated()
    event.cooperative.name, event.cooperative.display_name = "cooperatives/weavers", "Weavers"
    database = Database(settings["database_url"])
    async with database.begin() as connection:
        for event_id, body in (("evt_1", b"\xff"), ("evt_2", event.SerializeToString())):
            await connection.execute(
                parked_table.insert().values(
                    consumer="catalog-governance",
                    event_id=event_id,
                    message_type="rochdale.governance.v1.CooperativeCreated",
                    body=body,
                    reason="INTERNAL",
                    message="The service failed.",
                )
            )
    code, out, _ = await ran("catalog", settings, "parked")
    assert code == 1 and out.endswith("INTERNAL: The service failed.\n2 parked.\n")
    code, out, err = await ran("catalog", settings, "replay")
    assert code == 1 and out.endswith("1 handled, 1 still parked.\n"), err
    assert "EVENT_UNREADABLE" in out
    code, out, _ = await ran("catalog", settings, "parked")
    assert (code, out.count("evt_1"), out.count("evt_2")) == (1, 1, 0)
    async with database.read() as connection:
        names = (await connection.execute(sa.text("SELECT display_name FROM cooperative"))).scalars().all()
    await database.close()
    assert names == ["Weavers"]


async def test_a_start_that_fails_says_why_in_one_line_of_the_log_and_no_traceback(
    postgres: Postgres, nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = await settings_of(House(postgres, nats_server, tmp_path))
    settings["database_url"] = settings["database_url"].replace(":test@", ":planted-wrong@")
    code, out, err = await ran("identity", settings)
    assert code == 1 and out == "" and "planted-wrong" not in err
    [line] = err.splitlines()
    assert '"level": "CRITICAL", "service": "identity"' in line and "InvalidPassword" in line


async def test_a_service_that_waits_for_nats_stops_when_it_is_told_to(
    postgres: Postgres, nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = await settings_of(House(postgres, nats_server, tmp_path))
    process = await process_of("identity", settings | {"nats_url": "nats://127.0.0.1:1"})
    assert process.stderr is not None
    async with asyncio.timeout(20):
        await process.stderr.readline()  # it has said that NATS is away
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0


async def test_a_running_service_stops_in_order(postgres: Postgres, nats_server: NatsServer, tmp_path: Path) -> None:
    process = await process_of("identity", await settings_of(House(postgres, nats_server, tmp_path)))
    assert process.stderr is not None
    async with asyncio.timeout(20):
        seen = b""
        while b"serving" not in seen:
            seen = await process.stderr.readline()
            assert seen, "it ended"
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
    assert process.returncode == 0 and b"ERROR" not in err and b"Traceback" not in err
