"""Durable token issue against an empty gRPC echo: 64 in flight and one in flight, taking turns in the same run.

The broker, the echo and the client are each a process of their own, over a PostgreSQL that flushes every commit and with
1 % of traces sent. The client is Python for both sides, because every issue needs a request id of its own and h2load
posts one body; it takes a core from whichever side it drives.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import json
import os
import secrets
import statistics
import sys
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import uvloop
from google.protobuf import empty_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from access_broker import main as broker_main
from access_broker import store
from access_broker.sealing import Sealer
from bench.load import summary
from bench.rows import Line, Reading, Row, Side, Turns, at_least, at_most, side
from bench.stage import REPETITIONS, ROOT, Process, Stage, free_address, process
from identity import main as identity_main
from identity.config import Config as IdentityConfig
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.identity.v1 import identity_pb2, identity_pb2_grpc
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import money_pb2, scope_pb2
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.database import Database, migrate
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.signing import canonical_hash
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

ECHO, ISSUE = "/bench.Echo/Say", "/rochdale.access_broker.v1.AccessBrokerService/IssueToken"
BUYER, COOPERATIVE = "buyer", "valley"


async def run(stage: Stage) -> list[Line]:
    requests, alone = stage.size(6_000, 300), stage.size(1_500, 100)
    async with _market(stage.home("issue")) as (sides, license, token), process("bench.issue", "client") as client:

        async def drive(name: str, count: int, in_flight: int) -> dict[str, float]:
            return await _drive(client, sides[name], name, license, token, count, in_flight)

        for name in sides:
            await drive(name, stage.size(500, 100), 64)  # warm

        taken = await Turns(REPETITIONS, stage.say).take(
            {
                "issue, 64 in flight": lambda: drive("issue", requests, 64),
                "echo, 64 in flight": lambda: drive("echo", requests, 64),
                "issue, one in flight": lambda: drive("issue", alone, 1),
                "echo, one in flight": lambda: drive("echo", alone, 1),
            }
        )

    def figures(turn: str, figure: str, unit: str) -> Side:
        return side(turn, unit, [Reading(one[figure], int(one["failed"])) for one in taken[turn]])

    def cpu(turn: str) -> float:
        return float(statistics.median(one["cpu_us"] for one in taken[turn]))

    # Steadier than the rates on a shared machine, and the client's own work is not in it; PostgreSQL's is.
    work = f"{cpu('issue, 64 in flight'):.0f} µs of CPU an issue, {cpu('echo, 64 in flight'):.0f} an echo"
    return [
        Row("1", "durable issue / empty echo, 1 % tracing",
            figures("issue, 64 in flight", "per_second", "/s"), figures("echo, 64 in flight", "per_second", "/s"),
            at_least(0.30), note=f"a Python client for both; {work}"),
        Row("2", "issue p99 / empty echo p99",
            figures("issue, one in flight", "p99_ms", "ms"), figures("echo, one in flight", "p99_ms", "ms"),
            at_most(2.5), note="a Python client for both"),
    ]  # fmt: skip


class _Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes the traces and throws them away."""

    async def Export(self, request: Any, context: Any) -> Any:
        return trace_service_pb2.ExportTraceServiceResponse()


@contextlib.asynccontextmanager
async def _market(folder: Path) -> AsyncIterator[tuple[dict[str, tuple[str, list[int]]], str, str]]:
    """Everything running: address and processes of either side, the license to ask for, the buyer's session."""
    postgres, nats = Postgres(folder / "postgres"), NatsServer(folder / "nats")
    await postgres.start()
    await nats.start()
    urls = {}
    for package, migrations in (("identity", identity_main.MIGRATIONS), ("access_broker", broker_main.MIGRATIONS)):
        await postgres.ensure_database(package, package, "bench")
        urls[package] = postgres.dsn(package, package, "bench")
        await migrate(urls[package], migrations)
    sealing_key = folder / "sealing.key"
    sealing_key.write_bytes(os.urandom(32))
    operator = _secret()
    config = IdentityConfig(
        database_url=urls["identity"],
        nats_url=nats.url(),
        sealing_key_file=str(sealing_key),
        operator_key_hash=hashlib.sha256(operator.encode()).hexdigest(),
    )
    collector = grpc.aio.server()
    register: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(_Collector(), collector)
    collector_port = collector.add_insecure_port("127.0.0.1:0")
    await collector.start()
    identity = await identity_main.build(config)
    try:
        async with identity.running(), contextlib.AsyncExitStack() as stack:
            token = await _buyer(identity.grpc_address, operator)
            license = await _open_grant(urls["access_broker"], sealing_key.read_bytes())
            addresses = [free_address() for _ in range(2)]
            environment = os.environ | {
                "ACCESS_BROKER_DATABASE_URL": urls["access_broker"],
                "ACCESS_BROKER_NATS_URL": nats.url(),
                "ACCESS_BROKER_GRPC_ADDRESS": addresses[1],
                "ACCESS_BROKER_IDENTITY_ADDRESS": identity.grpc_address,
                "ACCESS_BROKER_SEALING_KEY_FILE": str(sealing_key),
                # Nothing is activated here, and what cannot be proved for want of an answer goes on.
                "ACCESS_BROKER_GOVERNANCE_ADDRESS": "127.0.0.1:1",
                "ACCESS_BROKER_CATALOG_ADDRESS": "127.0.0.1:1",
                "ACCESS_BROKER_LICENSING_ADDRESS": "127.0.0.1:1",
                "ACCESS_BROKER_OTLP_ENDPOINT": f"127.0.0.1:{collector_port}",
                "ACCESS_BROKER_TRACE_RATIO": "0.01",
                "ACCESS_BROKER_LOG_LEVEL": "WARNING",
            }
            echo = await stack.enter_async_context(
                _process(dict(os.environ), "-m", "bench.issue", "echo", addresses[0])
            )
            broker = await stack.enter_async_context(_process(environment, "-m", "access_broker"))
            for address in addresses:
                async with grpc.aio.insecure_channel(address) as channel:
                    async with asyncio.timeout(30):
                        await channel.channel_ready()
            # Identity's keys come a moment after the door opens.
            await asyncio.sleep(1)
            assert postgres.pid is not None
            sides = {"echo": (addresses[0], [echo]), "issue": (addresses[1], [broker, postgres.pid])}
            yield sides, license, token
    finally:
        await collector.stop(None)
        await nats.stop()
        await postgres.stop()


@contextlib.asynccontextmanager
async def _process(environment: dict[str, str], *arguments: str) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=environment, cwd=ROOT)
    try:
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


async def _drive(
    client: Process, side: tuple[str, list[int]], name: str, license: str, token: str, count: int, in_flight: int
) -> dict[str, float]:
    address, pids = side
    before = _cpu_seconds(pids)
    asked = {"address": address, "side": name, "license": license, "token": token, "count": count}
    figures: dict[str, float] = await client.ask(asked | {"in_flight": in_flight})
    figures["cpu_us"] = (_cpu_seconds(pids) - before) / count * 1e6
    return figures


def _cpu_seconds(pids: list[int]) -> float:
    """Of these processes and all below them."""
    family = [one for pid in pids for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    return float(sum(sum(one.cpu_times()[:2]) for one in family))


def _secret() -> str:
    body = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return f"rochdale_{body}_{zlib.crc32(body.encode()):08x}"


async def _buyer(address: str, operator: str) -> str:
    """The session of a new, verified buyer."""
    secret = _secret()
    async with grpc.aio.insecure_channel(address) as channel:
        identity: Any = identity_pb2_grpc.IdentityServiceStub(channel)
        await identity.RegisterOrganization(
            identity_pb2.RegisterOrganizationRequest(
                request_id=secrets.token_urlsafe(12),
                organization_id=BUYER,
                kind=identity_pb2.ORGANIZATION_KIND_BUYER,
                display_name="Buyer",
                contact_email="desk@buyer.example",
                key_hash=hashlib.sha256(secret.encode()).digest(),
            )
        )
        session = await identity.IssueSession(identity_pb2.IssueSessionRequest(secret=operator))
        await identity.VerifyOrganization(
            identity_pb2.VerifyOrganizationRequest(request_id=secrets.token_urlsafe(12), name=f"organizations/{BUYER}"),
            metadata=(("authorization", f"Bearer {session.token}"),),
        )
        return str((await identity.IssueSession(identity_pb2.IssueSessionRequest(secret=secret))).token)


async def _open_grant(url: str, sealing_key: bytes) -> str:
    """One open grant with fourteen columns, put there as its handler would."""
    cooperative = f"cooperatives/{COOPERATIVE}"
    part = scope_pb2.DatasetScope(dataset=f"{cooperative}/datasets/claims", first_version=1)
    part.columns.extend(f"column_{number}" for number in range(14))
    price = money_pb2.Money(amount_minor=1_000, currency="EUR")
    scope = scope_pb2.SharingScope(
        datasets=[part],
        categories=[scope_pb2.BUYER_CATEGORY_COMPANY],
        purposes=["ResearchAndDevelopment"],
        actions=[scope_pb2.USE_ACTION_ANALYZE, scope_pb2.USE_ACTION_PRETRAIN],
        max_mode=scope_pb2.ACCESS_MODE_DOWNLOAD,
        floor_price=price,
        territories=["WORLD"],
        max_duration_seconds=86_400,
        duties=[scope_pb2.DUTY_NO_REIDENTIFICATION],
    )
    at, name = now(), f"licenses/{new_id('lic')}"
    terms = licensing_pb2.LicenseTerms(
        license=name,
        licensor=cooperative,
        licensee=f"licensees/{BUYER}",
        category=scope_pb2.BUYER_CATEGORY_COMPANY,
        offering=f"{cooperative}/offerings/{new_id('off')}",
        sharing_rule=f"{cooperative}/sharingRules/{new_id('rule')}",
        rule_revision=1,
        scope=scope,
        duration_seconds=86_400,
        price=price,
        agree_time=to_timestamp(at),
        emergency_suspension=True,
    )
    end = to_timestamp(at + dt.timedelta(days=1))
    license = licensing_pb2.License(name=name, terms=terms, terms_hash=canonical_hash(terms), end_time=end)
    grant = pb.Grant(
        name=f"grants/{new_id('gra')}",
        license=name,
        terms_hash=license.terms_hash,
        holder=f"organizations/{BUYER}",
        gateway=f"gateways/{COOPERATIVE}",
        scope=scope,
        state=pb.GRANT_STATE_OPEN,
        open_time=to_timestamp(at),
        end_time=end,
    )
    database = Database(url)
    # Sealing needs no key to sign with; one is made when the broker starts.
    seal = Sealer(LiveKeyring(database, sealing_key, dt.timedelta(0)), sealing_key).seal(grant)
    async with database.begin() as connection:
        await store.register_gateway(connection, COOPERATIVE, "http://127.0.0.1:8443", "127.0.0.1:1", at)
        await store.insert_grant(
            connection, grant, license=license, sharing_rule=None, offering=None, seal=seal, suspension_count=0, now=at
        )
    await database.close()
    return name


# ---- The processes that only this file starts


async def _echo(address: str) -> None:
    async def say(request: Any, context: Any) -> Any:
        return request

    handler = grpc.unary_unary_rpc_method_handler(
        say, request_deserializer=empty_pb2.Empty.FromString, response_serializer=empty_pb2.Empty.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Say": handler}),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


async def _client(asked: dict[str, Any]) -> dict[str, float]:
    """Sends what was made before the clock started; bytes in and out, so that the client costs as little as it can."""
    count, issuing = asked["count"], asked["side"] == "issue"
    metadata = (("authorization", f"Bearer {asked['token']}"),) if issuing else None
    bodies = iter(
        [
            pb.IssueTokenRequest(request_id=secrets.token_urlsafe(12), license=asked["license"]).SerializeToString()
            if issuing
            else b""
            for _ in range(count)
        ]
    )
    seconds: list[float] = []
    failed: list[bytes] = []
    async with grpc.aio.insecure_channel(asked["address"]) as channel:
        call: Any = channel.unary_unary(ISSUE if issuing else ECHO)
        await channel.channel_ready()

        async def worker() -> None:
            for body in bodies:
                begun = time.perf_counter()
                try:
                    reply = await call(body, metadata=metadata, timeout=30)
                except grpc.aio.AioRpcError:
                    failed.append(body)
                    continue
                seconds.append(time.perf_counter() - begun)
                if bool(reply) != issuing:
                    failed.append(body)

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(asked["in_flight"])))
        elapsed = time.perf_counter() - started
    load = summary(seconds, elapsed, len(failed))
    return {"per_second": load.per_second, "p99_ms": load.p99_ms, "failed": load.failed}


async def _answer_questions() -> None:
    print("{}", flush=True)
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await _client(json.loads(line))), flush=True)


if __name__ == "__main__":
    uvloop.run(_echo(sys.argv[2]) if sys.argv[1] == "echo" else _answer_questions())
