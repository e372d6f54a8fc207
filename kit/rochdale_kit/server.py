"""A running service: its gRPC server, HTTP doors, loops and health, started in order and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import grpc
import nats
import uvicorn
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from nats.aio.client import Client as NatsClient
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp

from rochdale_kit import config as settings
from rochdale_kit import parked
from rochdale_kit.boundary import SERVER_OPTIONS, Boundary
from rochdale_kit.config import ProcessConfig, ServiceConfig
from rochdale_kit.database import is_lost, migrate
from rochdale_kit.http_door import BoundedHttp
from rochdale_kit.inbox import Consumer
from rochdale_kit.outbox import MAX_PAYLOAD_BYTES
from rochdale_kit.refusals import Refusal, unavailable
from rochdale_kit.telemetry import Telemetry, configure_logging

log = logging.getLogger(__name__)

HEALTH_SECONDS = 1.0
# A service that is still starting is not in trouble; one that needs longer than this is.
STARTING_SECONDS = 10.0
STOP_SECONDS = 5.0

C = TypeVar("C", bound=ProcessConfig)


async def connect_nats(url: str, service: str) -> NatsClient:
    """A connection that waits for the server and reconnects for ever; health says when it is down."""

    async def report(error: Exception) -> None:
        # publish() of something not allowed raises nothing; only this callback hears of it.
        log.warning("nats, as %s sees it: %s", service, error)

    client = NatsClient()
    while True:
        try:
            await client.connect(
                url,
                name=service,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type] # a float works, the annotation lags behind
                connect_timeout=2,
                ping_interval=5,
                max_outstanding_pings=2,
                error_cb=report,
                allow_reconnect=True,
            )
            return client
        except (OSError, TimeoutError, nats.errors.Error) as error:
            log.warning("nats cannot be reached by %s yet: %s", service, error)
            await asyncio.sleep(0.3)
            client = NatsClient()


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers: the service decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise SystemExit(f"'{address}' is not an address; use host:port, such as 127.0.0.1:50051.")
    return host.strip("[]"), int(port)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Service:
    """What main.py builds. Addresses are known after start(); wait() returns only by raising why the service ended."""

    def __init__(self, name: str, telemetry: Telemetry) -> None:
        self.name = name
        self.telemetry = telemetry
        self.grpc_address = ""
        self.http_address = ""
        self._grpc: grpc.aio.Server | None = None
        self._grpc_wanted = ""
        self._http: _Uvicorn | None = None
        self._http_wanted = ""
        self._health = health.aio.HealthServicer()
        self._full_names = [""]
        self._loops: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = []
        self._checks: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.consumers: list[Consumer] = []
        self.healthy = asyncio.Event()
        self.trouble = "starting"

    def serve_grpc(
        self,
        address: str,
        boundary: Boundary,
        register: Callable[[grpc.aio.Server], None],
        reflect: bool = False,
    ) -> None:
        """Answers gRPC at an address: the services the boundary guards, which `register` adds."""
        server = grpc.aio.server(interceptors=[boundary], options=SERVER_OPTIONS, maximum_concurrent_rpcs=1000)
        register(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._full_names.extend(boundary.services)
        if reflect:
            from grpc_reflection.v1alpha import reflection

            reflection.enable_server_reflection([*boundary.services, reflection.SERVICE_NAME], server)
        self._grpc, self._grpc_wanted = server, address

    def serve_http(self, address: str, app: ASGIApp) -> None:
        """Answers HTTP at an address."""
        self._http = _Uvicorn(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=3,
                http=BoundedHttp,
                ws="none",
            )
        )
        self._http_wanted = address

    def loop(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A loop that must not end: when it does, the service ends."""
        self._loops.append((name, run))

    def hear(self, consumer: Consumer) -> None:
        """A consumer's loop; what it parks can be replayed with `python -m <service> replay`."""
        self.consumers.append(consumer)
        self.loop(f"hear {consumer.publisher}", consumer.run)

    def check(self, name: str, check: Callable[[], Awaitable[None]]) -> None:
        """Something that must work for the service to do its work; raises when it does not."""
        self._checks.append((name, check))

    def check_nats(self, client: NatsClient) -> None:
        """The connection to NATS must be up, and take messages of the size that events may have."""

        async def connected() -> None:
            if not client.is_connected:
                raise unavailable("NATS")
            if client.max_payload < MAX_PAYLOAD_BYTES:
                raise unavailable(f"NATS with a max_payload of {MAX_PAYLOAD_BYTES} bytes or more")

        self.check("nats", connected)

    def close(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Called at the end, last added first."""
        self._closers.append(closer)

    async def start(self) -> None:
        """Opens the doors and starts the loops. Health is NOT_SERVING until every check has passed once."""
        for name in self._full_names:
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        # A restart brings back no database that is away, so a supervisor that restarts asks for this name instead:
        # it is answered as long as the process answers at all.
        await self._health.set("live", health_pb2.HealthCheckResponse.SERVING)
        if self._grpc is not None:
            host, _ = _split(self._grpc_wanted)
            try:
                port = self._grpc.add_insecure_port(self._grpc_wanted)
            except RuntimeError:
                raise SystemExit(f"{self.name} cannot listen at {self._grpc_wanted}; is it taken?") from None
            await self._grpc.start()
            self.grpc_address = _join(host, port)
        if self._http is not None:
            host, wanted = _split(self._http_wanted)
            try:
                door = socket.create_server((host, wanted), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            except OSError as error:
                raise SystemExit(f"{self.name} cannot listen at {self._http_wanted}: {error.strerror}.") from None
            # Inherited by every connection. asyncio sets it by itself only on sockets that name their protocol, which this
            # one does not; without it each answer waits 40 ms for the client to acknowledge its headers.
            door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            door.setblocking(False)
            self.http_address = _join(host, door.getsockname()[1])
            self._spawn("http", self._http.serve(sockets=[door]))
        for name, run in self._loops:
            self._spawn(name, run())
        self._spawn("health", self._watch())

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=f"{self.name}: {name}"))

    async def _watch(self) -> None:
        """Health means "I can do my work": every check is made again each second."""
        started, was_healthy, warned = time.monotonic(), False, False
        while True:
            trouble = ""
            for name, check in self._checks:
                try:
                    async with asyncio.timeout(3):
                        await check()
                except Exception as error:  # whatever a check raises means the same: not now
                    trouble = f"{name}: {error if isinstance(error, Refusal) else type(error).__name__}"
                    break
            grave = bool(trouble) and (was_healthy or time.monotonic() - started > STARTING_SECONDS)
            if trouble != self.trouble or (grave and not warned):
                log.log(logging.WARNING if grave else logging.INFO, "%s health: %s", self.name, trouble or "serving")
                warned = grave
            if trouble != self.trouble:
                state = (
                    health_pb2.HealthCheckResponse.NOT_SERVING if trouble else health_pb2.HealthCheckResponse.SERVING
                )
                for full_name in self._full_names:
                    await self._health.set(full_name, state)
                self.trouble = trouble
            if trouble:
                self.healthy.clear()
            else:
                was_healthy = True
                self.healthy.set()
            # Sought more eagerly while not healthy, because a start or a recovery is waiting for it.
            await asyncio.sleep(0.1 if trouble else HEALTH_SECONDS)

    async def wait(self) -> None:
        """Until a loop ends, which none may: raises why."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        error = None if task.cancelled() else task.exception()
        raise RuntimeError(f"{task.get_name()} ended") from error

    async def stop(self) -> None:
        """Lets calls under way finish for three seconds, then closes everything, waiting for nothing longer than five."""
        for name in self._full_names:
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        if self._grpc is not None:
            await self._grpc.stop(3)
        if self._http is not None:
            self._http.should_exit = True
            http = next((task for task in self._tasks if task.get_name().endswith(": http")), None)
            if http is not None:
                await asyncio.wait([http], timeout=4)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in left:
                log.error("%s does not end", task.get_name())
        for closer in reversed(self._closers):
            # One that fails or hangs keeps no other from closing.
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await closer()
            except Exception:
                log.exception("%s could not close everything", self.name)
        await asyncio.to_thread(self.telemetry.shutdown)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        """Started, healthy, and stopped at the end of the block."""
        await self.start()
        try:
            await self.healthy.wait()
            yield self
        finally:
            await self.stop()


def run(config_type: type[C], build: Callable[[C], Awaitable[Service]], migrations: Path | None) -> None:
    """What `python -m <service>` does: serve until SIGTERM or Ctrl-C.

    `migrate` brings the database to the newest schema; `parked` lists the events that could not be handled and `replay`
    handles them again. Each then ends, with status 1 when events are still parked.
    """
    arguments = sys.argv[1:]
    if len(arguments) > 1 or not set(arguments) <= {"migrate", "parked", "replay"}:
        raise SystemExit("Usage: python -m <service> [migrate | parked | replay]; settings come from the environment.")
    config = settings.load(config_type)
    configure_logging(str(config.model_config.get("env_prefix", "")).lower().strip("_") or None, config.log_level)
    try:
        if not arguments:
            uvloop.run(_serve(config, build))
        elif not isinstance(config, ServiceConfig) or migrations is None:
            sys.stdout.write("This service has no database.\n")
        elif arguments == ["migrate"]:
            asyncio.run(migrate(config.database_url, migrations, config.application_role))
        elif arguments == ["parked"]:
            left = asyncio.run(parked.show(config.database_url))
            raise SystemExit(min(left, 1))
        else:
            left = asyncio.run(_replay(config, build))
            raise SystemExit(min(left, 1))
    except Exception as error:
        # Through the log, because what Python itself prints at the end is neither one line nor free of secrets.
        if is_lost(error):
            # What is away is no fault of ours: where in our code we noticed helps nobody.
            cause = error.orig if isinstance(error, DBAPIError) else error
            log.critical("the process ends: %s", cause)
        else:
            log.critical("the process ends", exc_info=True)
        raise SystemExit(1) from None


async def _replay(config: C, build: Callable[[C], Awaitable[Service]]) -> int:
    """Built and not started: its handlers are wanted, its doors are those of the running service."""
    assert isinstance(config, ServiceConfig), "only a service with a database has parked events"
    service = await build(config)
    try:
        return await parked.replay(config.database_url, service.consumers)
    finally:
        await service.stop()


async def _serve(config: C, build: Callable[[C], Awaitable[Service]]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    stop = asyncio.create_task(stopping.wait())
    # Asked to stop while it is built, which may wait for NATS for ever, it stops.
    building = asyncio.ensure_future(build(config))
    await asyncio.wait([building, stop], return_when=asyncio.FIRST_COMPLETED)
    if not building.done():
        building.cancel()
        await asyncio.wait([building])
        return
    service = building.result()
    await service.start()
    # What is there now stays. Left to the collector, all of it is looked through again while calls wait: 20 ms each time.
    gc.freeze()
    log.info("%s listens at %s %s", service.name, service.grpc_address, service.http_address)
    ended = asyncio.create_task(service.wait())
    await asyncio.wait([ended, stop], return_when=asyncio.FIRST_COMPLETED)
    # Known before stop(), which ends every loop and would look the same.
    failed = ended.done()
    (stop if failed else ended).cancel()
    await service.stop()
    if failed:
        ended.result()
