"""Logs that hold no secret and no second record; traces that cross tasks and hops."""

import asyncio
import io
import json
import logging
import secrets
import sys
import time

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from rochdale_kit.telemetry import Telemetry, _JsonLines, parse_traceparent, redact, trace_id, traceparent

KEY = f"rochdale_{secrets.token_urlsafe(32)}_0123abcd"
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
PLANTED = {
    "api key": (KEY, KEY[16:]),
    "session": (f"Bearer {JWT}", JWT[20:]),
    "bare token": (JWT, JWT[20:]),
    "stripe": ("sk_test_51HabcPLANTEDxyz", "PLANTED"),
    "stripe simulator": ("sk_test_simulator_PLANTED", "PLANTED"),
    "webhook": ("whsec_MfKQ+PLANTED/Lk=", "PLANTED"),
    "client secret": ("pi_3Mx_secret_PLANTED", "PLANTED"),
    "database": ("postgresql+asyncpg://u:p/PLANT@ED@h:5432/d", "PLANT"),
    "nats": ("nats://PLANTED@h:4222", "PLANTED"),
    "header": ("authorization: Bearer PLANTED-opaque", "PLANTED"),
    "header pair": ("('authorization', 'Bearer PLANTED-opaque')", "PLANTED"),
    "basic": ("{'Authorization': 'Basic UExBTlRFRA=='}", "UExBTlRFRA"),
    "assignment": ("password='PLANTED'", "PLANTED"),
    "refused row": ("refused\nDETAIL:  Failing row contains (PLANTED).", "PLANTED"),
}


def written(level: int, message: str, *arguments: object, error: bool = False) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonLines("kit"))
    handler.handle(
        logging.LogRecord("rochdale_kit.x", level, __file__, 1, message, arguments, sys.exc_info() if error else None)
    )
    return stream.getvalue()


@pytest.mark.parametrize("text, planted", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.ERROR], ids=logging.getLevelName)
def test_a_planted_secret_is_in_no_line(level: int, text: str, planted: str) -> None:
    assert planted not in written(level, "it said %s, twice: %s", text, text)
    try:
        raise ValueError(text)
    except ValueError:
        assert planted not in written(level, "failed", error=True)


def test_prose_stays_what_it_is() -> None:
    for text in (
        "Send exactly one 'authorization: Bearer …'.",
        "http://127.0.0.1:8080/offers?q=trips",
        "the secret is out; organizations/acme has no password",
        "lic_01J0000000000000000000000 is AGREED",
    ):
        assert redact(text) == text


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\u2028", "\x85", "\x0b"], ids=repr)
def test_a_smuggled_line_break_makes_no_second_record(mark: str) -> None:
    line = written(logging.INFO, "name %s", f'x{mark}{{"level": "ERROR", "message": "forged"}} \x1b[2J\x9b1A')
    assert len(line.splitlines()) == 1 and line.isascii() and "\x1b" not in line
    record = json.loads(line)
    assert record["level"] == "INFO" and mark in record["message"]
    assert record["time"].endswith("Z") and record["service"] == "kit"


async def test_one_trace_across_tasks_and_hops() -> None:
    exporter = InMemorySpanExporter()
    telemetry = Telemetry("kit", exporter=exporter)
    hops: list[str | None] = []

    async def elsewhere() -> None:
        with telemetry.span("inner"):
            hops.append(traceparent())

    with telemetry.span("outer", SpanKind.SERVER):
        outer = trace_id()
        await asyncio.gather(asyncio.create_task(elsewhere()), asyncio.create_task(elsewhere()))
        assert trace_id() == outer
    assert trace_id() == ""
    with telemetry.span("next hop", SpanKind.CONSUMER, parent=hops[0] or ""):
        assert trace_id() == outer
    # Shut down off the loop's thread as a service does it.
    await asyncio.to_thread(telemetry.shutdown)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert {f"{span.context.trace_id:032x}" for span in spans.values() if span.context} == {outer}


@pytest.mark.parametrize(
    "value",
    ["", None, "00-zz", "01-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "0" * 32 + "-" + "b" * 16 + "-01"],
)
def test_a_malformed_parent_starts_a_trace_of_its_own(value: str | None) -> None:
    assert parse_traceparent(value) is None


async def test_a_collector_that_is_away_keeps_nobody_from_stopping() -> None:
    # Nothing listens at port 1.
    telemetry = Telemetry("kit", "127.0.0.1:1")
    with telemetry.span("lost"):
        pass
    async with asyncio.timeout(10):
        await asyncio.to_thread(telemetry.shutdown)


@pytest.mark.parametrize("text", ["//a:", "//", "pi_", "cs_test_", "eyJaaaa", "bearer ", "secret=", "authorization:"])
def test_a_long_hostile_text_does_not_keep_the_log(text: str) -> None:
    started = time.process_time()
    redact(text * (100_000 // len(text)))
    assert time.process_time() - started < 1.5
