"""One purchase is one OpenTelemetry trace across gRPC and NATS, as a collector receives it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from walk import MarketPeople, NotYet, Purchase, eventually

from rochdale.type.v1 import scope_pb2 as scope


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span it is sent, by trace id."""

    def __init__(self) -> None:
        self.spans: dict[str, dict[str, tuple[str, str, str]]] = {}

    async def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for spans in resource.scope_spans:
                for span in spans.spans:
                    trace = self.spans.setdefault(span.trace_id.hex(), {})
                    trace[span.span_id.hex()] = (service, span.name, span.parent_span_id.hex())
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    server, collector = grpc.aio.server(), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield collector, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def market(
    collector: tuple[Collector, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MarketPeople]:
    people = MarketPeople(tmp_path_factory.mktemp("market"), otlp_endpoint=collector[1])
    await people.start()
    yield people
    await people.stop()


# Service and span, each under the one it came from. The buyer's own span is the root.
EXPECTED = {
    ("licensing", "RequestLicense"): ("buyer", "purchase"),
    ("licensing", "publish LicenseAgreed"): ("licensing", "RequestLicense"),
    ("billing", "handle LicenseAgreed"): ("licensing", "publish LicenseAgreed"),
    ("billing", "StartPayment"): ("buyer", "purchase"),
    ("billing", "payment settled"): ("billing", "handle LicenseAgreed"),
    ("billing", "publish OrderPaid"): ("billing", "payment settled"),
    ("licensing", "handle OrderPaid"): ("billing", "publish OrderPaid"),
    ("licensing", "publish LicenseActivated"): ("licensing", "handle OrderPaid"),
    ("access_broker", "handle LicenseActivated"): ("licensing", "publish LicenseActivated"),
    ("access_broker", "publish GrantOpened"): ("access_broker", "handle LicenseActivated"),
    ("data_gateway", "handle GrantOpened"): ("access_broker", "publish GrantOpened"),
    ("access_broker", "IssueToken"): ("buyer", "purchase"),
}


async def test_a_purchase_is_one_trace(market: MarketPeople, collector: tuple[Collector, str]) -> None:
    steward = await market.found("tracers")
    version = await market.add_dataset(steward, "lines", b"a,b\n" + b"1,2\n" * 40)
    offering = await market.offer(steward, version, {scope.BUYER_CATEGORY_COMPANY: 5000})
    buyer = await market.licensee("traced", scope.BUYER_CATEGORY_COMPANY)
    trace, root = secrets.token_hex(16), secrets.token_hex(8)
    purchase = Purchase(buyer, offering.name, traceparent=f"00-{trace}-{root}-01")
    await market.buy(purchase)

    async def complete() -> set[tuple[tuple[str, str], tuple[str, str]]]:
        spans = collector[0].spans.get(trace, {})
        edges = set()
        for service, name, parent in spans.values():
            if parent == root:
                above = ("buyer", "purchase")
            elif parent in spans:
                above = spans[parent][:2]
            else:
                raise NotYet(f"the parent of {name}")
            edges.add(((service, name), above))
        if not set(EXPECTED.items()) <= edges:
            raise NotYet(f"missing: {sorted(set(EXPECTED.items()) - edges)}; there: {sorted(edges)}")
        return edges

    edges = await eventually(complete, 20)
    await asyncio.sleep(0)
    services = {service for (service, _), _ in edges}
    assert {"licensing", "billing", "access_broker", "data_gateway"} <= services
