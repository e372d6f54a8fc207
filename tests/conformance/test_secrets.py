"""A purchase at the lowest log level, with a collector and an ear on every event: no secret and no member in any of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import nats
import pytest
import pytest_asyncio
from hostile_world import EMAIL, MEMBER, Stage, set_stage
from house import refused, request_id
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from walk import COMPANY, MarketPeople, Purchase

from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.licensing.v1 import licensing_pb2 as licensing


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent, as it came."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def Export(self, request: Any, context: Any) -> Any:
        self.heard.append(request.SerializeToString())
        return trace_service_pb2.ExportTraceServiceResponse()


@dataclass
class Ears:
    """A market in processes of its own, and all that was said in it."""

    market: MarketPeople
    collector: Collector
    events: list[bytes] = field(default_factory=list)

    def said(self) -> Iterator[tuple[str, bytes]]:
        for path in sorted((self.market.market.home / "logs").glob("*.log")):
            yield f"the log {path.name}", path.read_bytes()
        yield "the log of nats", b"".join(p.read_bytes() for p in (self.market.market.nats.home).rglob("*.log"))
        yield "the log of postgres", b"".join(p.read_bytes() for p in self.market.market.postgres.home.rglob("*.log"))
        yield "a trace", b"\n".join(self.collector.heard)
        yield from (("an event", event) for event in self.events)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ears(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ears]:
    server, collector = grpc.aio.server(), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    market = MarketPeople(
        tmp_path_factory.mktemp("talkative"),
        own_processes=True,
        otlp_endpoint=f"127.0.0.1:{port}",
        log_level="DEBUG",
    )
    await market.start()
    ears = Ears(market, collector)

    async def hear(message: Any) -> None:
        ears.events.append(message.subject.encode() + repr(message.headers).encode() + message.data)

    client = await nats.connect(market.market.nats.url())
    await client.subscribe(">", cb=hear)
    yield ears
    await client.close()
    await market.stop()
    await server.stop(None)


def files_with_secrets(home: Path) -> Iterator[tuple[str, str]]:
    for path in [*home.rglob("passwords/*"), *home.rglob("*.secret"), *home.rglob("gateway.key")]:
        yield str(path.relative_to(home)), path.read_text().strip()


async def test_no_secret_is_said(ears: Ears) -> None:
    market = ears.market
    stage: Stage = await set_stage(market)
    payer = await market.licensee("open-purse", COMPANY)
    purchase = Purchase(payer, stage.offering.name)
    await market.agree(purchase)
    await market.order(purchase)
    payment = await market.stub("billing").StartPayment(
        billing.StartPaymentRequest(
            request_id=request_id(), order=purchase.order, method=billing.PAYMENT_METHOD_PAYMENT_INTENT
        ),
        metadata=payer.metadata,
    )
    assert payment.client_secret
    people = [stage.steward, stage.buyer, stage.operator, payer, *stage.strangers.values()]
    # Refused with a secret in hand: where it would be logged, if anywhere.
    gateway = stage.token.gateway_url
    async with httpx.AsyncClient() as client:
        for token in (stage.token.token + "x", payer.secret, stage.buyer.metadata[0][1].split()[1]):
            for scheme in ("Bearer", "Basic"):
                answer = await client.get(
                    f"{gateway}/v1/{stage.purchase.license}/files", headers={"Authorization": f"{scheme} {token}"}
                )
                assert answer.status_code == 401
    async with refused("SESSION_INVALID"):
        await market.stub("licensing").ListLicenses(
            licensing.ListLicensesRequest(), metadata=(("authorization", f"Bearer {stage.token.token}"),)
        )
    # Traces leave every half second.
    await asyncio.sleep(1)

    planted = {f"the key of {person.organization}": person.secret for person in people if person.secret}
    planted |= {
        f"the session of {person.organization}": person.metadata[0][1].rsplit(".", 1)[1]
        for person in people
        if person.metadata
    }
    planted |= {
        "the access token": stage.token.token.rsplit(".", 1)[1],
        "the client secret": payment.client_secret,
        "the webhook's secret": market.market.plan.webhook_secret,
        "the key at Stripe": "sk_test_simulator",
        "a member": MEMBER,
        "a member's address": EMAIL,
        "an invitation": stage.code,
        "a member's key": stage.member.secret,
    }
    planted |= dict(files_with_secrets(market.market.home))
    assert len(planted) > 20
    said = list(ears.said())
    assert len(ears.events) > 10 and ears.collector.heard and sum(len(text) for _, text in said[:6]) > 0
    # A gateway knows whose rows are whose by the cooperative's own reference, and hears it in these two events alone.
    consents = (b"governance.v1.ConsentRecorded", b"governance.v1.ConsentWithdrawn")
    found = [
        (name, where)
        for where, text in said
        for name, secret in planted.items()
        if secret.encode() in text
        and not (name == "a member" and where == "an event" and any(kind in text for kind in consents))
    ]
    assert not found


@pytest.mark.parametrize("who", [{}, {"user": "rochdale"}, {"user": "rochdale", "pass": "wrong"}, {"auth_token": "x"}])
async def test_events_are_for_those_with_the_password(ears: Ears, who: dict[str, str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ears.market.market.nats.port)
    assert (await reader.readline()).startswith(b"INFO")
    writer.write(f"CONNECT {json.dumps(who)}\r\nSUB > 1\r\nPING\r\n".encode())
    assert (await reader.readline()).startswith(b"-ERR 'Authorization Violation'")
    writer.close()
    await writer.wait_closed()
