"""A purchase is one trace: what its payment caused, days later and by Stripe's door, continues it."""

from typing import Any

import nats
import pytest
from billing_desk import CHECKOUT, INTENT, TRANSFER, Desk, until
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import billing.main
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale_kit.telemetry import Telemetry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize("method", [INTENT, CHECKOUT, TRANSFER])
async def test_order_paid_continues_the_trace_of_the_purchase(
    closed_desk: Desk, monkeypatch: pytest.MonkeyPatch, method: int
) -> None:
    desk, exporter = closed_desk, InMemorySpanExporter()
    monkeypatch.setattr(
        billing.main, "Telemetry", lambda name, endpoint, ratio: Telemetry(name, ratio=ratio, exporter=exporter)
    )
    service = await desk.start()
    desk.hear_webhooks()
    order = await desk.agree(traceparent=PARENT)
    payment = await desk.pay(order, method)
    if method == TRANSFER:
        await desk.confirm_transfer(order)
    else:
        await (desk.confirm_card(payment) if method == INTENT else desk.post(payment))
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    message = await _heard(desk)
    assert events_pb2.OrderPaid.FromString(message.data).order == await desk.order(order)
    assert message.headers["ce-type"] == "rochdale.billing.v1.OrderPaid"
    assert message.headers["traceparent"].split("-")[1] == TRACE
    assert service.telemetry._provider is not None
    service.telemetry._provider.force_flush()
    spans = {span.name: span for span in exporter.get_finished_spans() if f"{span.context.trace_id:032x}" == TRACE}
    assert {"handle LicenseAgreed", "payment settled", "publish OrderPaid"} <= set(spans)
    settled = spans["payment settled"]
    assert settled.parent is not None and settled.parent.span_id == spans["handle LicenseAgreed"].context.span_id
    assert len(settled.links) == 1, "what we were doing when we heard of it"


async def test_free_orders_are_told_within_the_trace_as_well(desk: Desk) -> None:
    await desk.agree(0, traceparent=PARENT)
    (row,) = await desk.rows("SELECT traceparent FROM outbox")
    assert row.traceparent.split("-")[1] == TRACE


async def _heard(desk: Desk) -> Any:
    """The last thing billing said on NATS."""
    client = await nats.connect(desk.parties.house.nats.url())
    await until(lambda: desk.rows("SELECT 1 FROM outbox WHERE publish_time IS NULL"), lambda rows: not rows)
    message = await client.jetstream().get_last_msg("billing", "rochdale.billing.v1.order_paid")
    await client.close()
    return message
