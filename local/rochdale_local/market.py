"""The whole market on one machine: servers, simulator, services and gateways, started in order and stopped together."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy.exc import DBAPIError

from rochdale.client.keys import key_hash
from rochdale.governance.v1 import governance_pb2, governance_pb2_grpc
from rochdale.identity.v1 import identity_pb2, identity_pb2_grpc
from rochdale_kit import clock
from rochdale_kit.database import migrate
from rochdale_kit.identity import Credentials
from rochdale_kit.server import Service
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres
from rochdale_local.processes import CannotStart, Child, HomeLock, write_private
from rochdale_local.rooms import Options, Room, Rooms
from rochdale_local.supervisor import Supervisor
from stripe_simulator.simulator import StripeSimulator

log = logging.getLogger(__name__)

READY_SECONDS = 60.0
GATEWAY_SECONDS = 0.5


class Runner(Protocol):
    """How services are run: all in this process, or each in its own."""

    async def start(self, room: Room) -> None: ...
    async def stop(self) -> None: ...
    async def wait(self) -> None: ...


class OneProcess:
    """All services in this process, on its one event loop. When a loop of one ends, the market ends."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self._ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self, room: Room) -> None:
        config = importlib.import_module(f"{room.package}.config").Config
        build: Callable[[Any], Awaitable[Service]] = importlib.import_module(f"{room.package}.main").build
        try:
            service = await build(config(**room.settings))
        except SystemExit as error:
            # What ends a process of its own must not end this one between two steps of stopping.
            raise CannotStart(f"{room.name}: {error}") from None
        try:
            await service.start()
            watcher = asyncio.create_task(service.wait(), name=room.name)
            try:
                await _until_healthy(service, watcher)
            except BaseException:
                watcher.cancel()
                raise
        except BaseException as error:
            await service.stop()
            if isinstance(error, SystemExit):
                raise CannotStart(str(error)) from None
            raise
        self.services[room.name] = service
        watcher.add_done_callback(self._ended.put_nowait)
        self._watchers.append(watcher)

    async def wait(self) -> None:
        await (await self._ended.get())

    async def stop(self) -> None:
        for watcher in self._watchers:
            watcher.remove_done_callback(self._ended.put_nowait)
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for service in reversed(self.services.values()):
            await service.stop()
        self.services.clear()


class OwnProcesses:
    """Each service as `python -m <package>`, restarted when it falls."""

    def __init__(self, home: Path, supervisor: Supervisor) -> None:
        self._home = home
        self._supervisor = supervisor
        self.children: dict[str, Child] = {}

    async def start(self, room: Room) -> None:
        child = Child(
            room.name,
            [sys.executable, "-m", room.package],
            self._home,
            env=room.environ(),
            ready=lambda: is_serving(room),
            ready_seconds=READY_SECONDS,
        )
        self.children[room.name] = child
        await self._supervisor.start(child)

    async def wait(self) -> None:
        await self._supervisor.wait()

    async def stop(self) -> None:
        """The supervisor stops its children."""


async def prepare_database(room: Room, plan: Rooms, postgres: Postgres) -> None:
    """The room's own database, made and migrated by its owner."""
    owner, role = room.database, room.application_role
    await postgres.ensure_database(
        room.database, owner, plan.password(owner), role, plan.password(role) if role else ""
    )
    migrations: Path | None = importlib.import_module(f"{room.package}.main").MIGRATIONS
    if migrations is not None:
        await migrate(postgres.dsn(room.database, owner, plan.password(owner)), migrations, role)


async def _until_healthy(service: Service, ended: asyncio.Task[None]) -> None:
    healthy = asyncio.create_task(service.healthy.wait())
    await asyncio.wait([healthy, ended], timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    healthy.cancel()
    if ended.done():
        ended.result()
    if not service.healthy.is_set():
        raise CannotStart(f"{service.name} did not become healthy: {service.trouble}.")


async def is_serving(room: Room) -> bool:
    """Whether a service says that it can do its work."""
    if room.grpc_address:
        async with grpc.aio.insecure_channel(room.grpc_address) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=False
                )
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    async with httpx.AsyncClient(timeout=2) as client:
        try:
            return (await client.get(f"http://{room.http_address}/health")).status_code == 200
        except httpx.HTTPError:
            return False


class Market:
    """One market in one home folder."""

    def __init__(
        self,
        home: Path,
        options: Options | None = None,
        *,
        own_processes: bool = False,
        durable: bool = True,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.home = home.resolve()
        self._lock = HomeLock(self.home)
        self._options = options or Options()
        self._progress = on_progress
        self.postgres = Postgres(self.home / "postgres", durable=durable)
        self.nats = NatsServer(self.home / "nats", durable=durable)
        self.supervisor = Supervisor()
        self.runner: OneProcess | OwnProcesses = (
            OwnProcesses(self.home, self.supervisor) if own_processes else OneProcess()
        )
        self.plan: Rooms
        self.rooms: list[Room] = []
        self.gateways: dict[str, Room] = {}
        self.simulator: StripeSimulator | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def market_file(self) -> Path:
        return self.home / "market.json"

    async def start(self) -> None:
        """Until everything is healthy; raises CannotStart with a sentence, leaving nothing running."""
        try:
            self._lock.acquire()
            self.plan = plan = Rooms(self.home, self._options)
            self._progress("PostgreSQL")
            await self.supervisor.start(self.postgres)
            self._progress("NATS")
            await self.supervisor.start(self.nats)
            if plan.stripe_url:
                self._progress("Stripe simulator")
                await self._start_simulator(plan)
            self.rooms = plan.rooms(self.postgres, self.nats)
            # One after another: Alembic keeps the migration under way in a global, and two at once would mix.
            for room in self.rooms:
                await self._prepare(room)
            for room in self.rooms:
                self._progress(room.name)
                await self.runner.start(room)
            self._credentials = Credentials(plan.address("identity"), plan.operator_secret())
            await self._start_gateways()
            write_private(self.market_file, json.dumps(plan.document(), indent=2) + "\n")
            self._tasks.append(asyncio.create_task(self._follow_cooperatives(), name="follow cooperatives"))
        except BaseException as error:
            await self.stop()
            # A full disk, a folder that is not ours, a server that fell meanwhile, a key that the market does not know:
            # the surroundings, not our code.
            if isinstance(error, OSError | grpc.aio.AioRpcError | asyncpg.PostgresError | DBAPIError):
                raise CannotStart(f"The market in {self.home} cannot start: {_sentence(error)}") from error
            raise

    async def wait(self) -> None:
        """Returns only by raising: something that must not end has ended."""
        waits = [asyncio.create_task(self.supervisor.wait()), asyncio.create_task(self.runner.wait()), *self._tasks]
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            if task not in self._tasks:
                task.cancel()
        for task in done:
            task.result()
        raise RuntimeError("a part of the market ended")

    async def stop(self) -> None:
        """Stops everything, the last started first. Safe to call at any time, and twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        try:
            await self.runner.stop()
            if self.simulator is not None:
                await self.simulator.stop()
                self.simulator = None
        finally:
            # Whatever goes wrong above, the processes end and the file that says where they are is gone.
            await self.supervisor.stop()
            if self._lock.held:
                self.market_file.unlink(missing_ok=True)
            self._lock.release()

    async def _start_simulator(self, plan: Rooms) -> None:
        host, _, port = plan.stripe_address.rpartition(":")
        self.simulator = StripeSimulator(
            webhook_url=plan.webhook_url,
            webhook_secret=plan.webhook_secret,
            connect_webhook_url=plan.connect_webhook_url,
            connect_webhook_secret=plan.connect_webhook_secret,
            on_moved=_move_clock if self._options.rehearsal else lambda seconds: None,
            state_path=self.home / "stripe.json",
        )
        await self.simulator.start(host, int(port))

    async def _prepare(self, room: Room) -> None:
        if room.database:
            await prepare_database(room, self.plan, self.postgres)

    async def _follow_cooperatives(self) -> None:
        """A cooperative that joins gets its gateway. In a deployment its operators start one in their own building."""
        told = ""
        while True:
            await asyncio.sleep(GATEWAY_SECONDS)
            trouble = ""
            try:
                await self._start_gateways()
            except Exception as error:
                # A server or service may be restarting: the next round finds what this one missed. Whatever it is,
                # the market that is up must not go down because one more gateway cannot start.
                trouble = f"{type(error).__name__}: {_sentence(error)}"
            if trouble and trouble != told:
                log.warning("gateways of new cooperatives cannot be started now: %s", trouble)
            told = trouble

    async def _start_gateways(self) -> None:
        async with grpc.aio.insecure_channel(self.plan.address("governance")) as channel:
            stub = governance_pb2_grpc.GovernanceServiceStub(channel)
            token = ""
            while True:
                page = await stub.ListCooperatives(
                    governance_pb2.ListCooperativesRequest(page_size=1000, page_token=token), timeout=5
                )
                for cooperative in page.cooperatives:
                    name = cooperative.name.rsplit("/", 1)[1]
                    if name not in self.gateways:
                        await self._start_gateway(name)
                token = page.next_page_token
                if not token:
                    return

    async def _start_gateway(self, cooperative: str) -> None:
        self._progress(f"gateway of {cooperative}")
        room = self.plan.gateway(cooperative, self.postgres, self.nats)
        secret = self.plan.gateway_secret(cooperative)
        async with grpc.aio.insecure_channel(self.plan.address("identity")) as channel:
            await identity_pb2_grpc.IdentityServiceStub(channel).CreateApiKey(
                identity_pb2.CreateApiKeyRequest(
                    # One key a gateway: after a restart the same request gets the first answer.
                    request_id=f"gateway-{cooperative}",
                    parent=f"organizations/{cooperative}",
                    key_hash=key_hash(secret),
                    label="gateway",
                    roles=[identity_pb2.ROLE_GATEWAY],
                ),
                metadata=await self._credentials.metadata(),
                timeout=5,
            )
        await self._prepare(room)
        await self.runner.start(room)
        self.gateways[cooperative] = room


def _move_clock(seconds: int) -> None:
    clock.move(dt.timedelta(seconds=seconds))


def _sentence(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.details() or str(error.code())
    # SQLAlchemy's own text repeats the whole statement.
    return f"{str(error.orig if isinstance(error, DBAPIError) else error).rstrip('.')}."
