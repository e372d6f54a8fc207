"""Row 3: an authenticated, validated, traced echo behind the kit's boundary, against the same handler bare."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import grpc
import uvloop
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from bench.load import Call, Load, drive, driver
from bench.rows import Line, Row, Turns, at_least, side
from bench.stage import REPETITIONS, Stage, process
from rochdale.identity.v1 import identity_pb2, identity_pb2_grpc
from rochdale_kit.boundary import SERVER_OPTIONS, Boundary
from rochdale_kit.identity import Principal, Sessions, claims_of, roles
from rochdale_kit.signing import KeySet, SigningKey
from rochdale_kit.telemetry import Telemetry

IN_FLIGHT = 64
TRACE_RATIO = 0.01
DESCRIPTOR = identity_pb2.DESCRIPTOR.services_by_name["IdentityService"]
REQUEST = identity_pb2.GetOrganizationRequest(name="organizations/valley-health")
REPLY = identity_pb2.Organization(name=REQUEST.name)


class Echo(identity_pb2_grpc.IdentityServiceServicer):
    """Answers GetOrganization with the name it was asked for, and nothing else."""

    async def GetOrganization(
        self, request: identity_pb2.GetOrganizationRequest, context: Any
    ) -> identity_pb2.Organization:
        return identity_pb2.Organization(name=request.name)


def echo_call(ready: dict[str, Any]) -> Call:
    """The call that an echo process, bare or not, is to be asked."""
    metadata = (("authorization", f"Bearer {ready['token']}"),) if ready["token"] else ()
    path = f"/{DESCRIPTOR.full_name}/GetOrganization"
    return Call(ready["address"], path, REQUEST.SerializeToString(), REPLY.ByteSize(), metadata)


async def run(stage: Stage) -> list[Line]:
    count = stage.size(30_000, 300)
    async with process("bench.echo", "bare") as bare, process("bench.echo", "boundary") as bounded:

        async def measure(call: Call) -> Load:
            return await drive(call, count, IN_FLIGHT)

        for one in (bare, bounded):
            # The first calls import, wrap and verify; they are nobody's speed.
            await drive(echo_call(one.ready), 200, IN_FLIGHT)
        taken = await Turns(REPETITIONS, stage.say).take(
            {
                "echo behind the boundary": lambda: measure(echo_call(bounded.ready)),
                "bare echo": lambda: measure(echo_call(bare.ready)),
            }
        )
        spans = (await bounded.ask({}))["spans"]
    return [
        Row(
            "3",
            "authenticated, validated, traced echo / bare handler",
            side("echo behind the boundary", "/s", [load.rate for load in taken["echo behind the boundary"]]),
            side("bare grpc.aio echo", "/s", [load.rate for load in taken["bare echo"]]),
            at_least(0.80),
            note=f"{IN_FLIGHT} in flight, driven by {driver()}, {spans} spans recorded at {TRACE_RATIO:.0%}",
        )
    ]


class _Counting(SpanExporter):
    """Counts what it is given: a collector would cost the same whoever is measured."""

    def __init__(self) -> None:
        self.spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        return SpanExportResult.SUCCESS


class _Keys:
    """One public key, as identity would hand it out."""

    def __init__(self, key: SigningKey) -> None:
        self.keys = KeySet.from_jwks(json.dumps({"keys": [key.public_jwk()]}))

    async def refresh(self) -> None:
        """There is no other key to fetch."""


async def _serve(kind: str) -> None:
    exporter, token, interceptors = _Counting(), "", []
    telemetry = Telemetry("echo", ratio=TRACE_RATIO, exporter=exporter)
    if kind == "boundary":
        key = SigningKey.generate()
        buyer = Principal(
            "acme", identity_pb2.ORGANIZATION_KIND_BUYER, "key", frozenset({identity_pb2.ROLE_BUYER}), True
        )
        token = key.sign_token("session+jwt", claims_of(buyer, "ses_1", int(time.time())))
        access = {method.name: roles(identity_pb2.ROLE_BUYER) for method in DESCRIPTOR.methods}
        interceptors = [Boundary({DESCRIPTOR: access}, Sessions(_Keys(key)), telemetry)]
    server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
    identity_pb2_grpc.add_IdentityServiceServicer_to_server(Echo(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}", "token": token}), flush=True)
    while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        await asyncio.sleep(1)
        print(json.dumps({"spans": exporter.spans}), flush=True)
    await server.stop(None)
    await asyncio.to_thread(telemetry.shutdown)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
