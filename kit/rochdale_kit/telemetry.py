"""Traces and logs: one trace per purchase across gRPC and NATS, one JSON line per log record, and no secret in either."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

_context: ContextVar[SpanContext | None] = ContextVar("trace_context", default=None)
_TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")


def parse_traceparent(value: str | None) -> SpanContext | None:
    """A W3C traceparent as a span context; None for an absent or malformed one, which then starts a trace of its own."""
    match = _TRACEPARENT.match(value or "")
    if not match:
        return None
    context = SpanContext(
        int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=TraceFlags(int(match[3], 16) & 1)
    )
    return context if context.is_valid else None


def traceparent() -> str | None:
    """The current context in W3C form, for the next hop."""
    context = _context.get()
    if context is None:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def trace_id() -> str:
    """The current trace's id in hexadecimal; empty outside of one."""
    context = _context.get()
    return f"{context.trace_id:032x}" if context else ""


class Telemetry:
    """One service's tracer. Several may live in one process, each under its service's name."""

    def __init__(
        self, service: str, otlp_endpoint: str = "", ratio: float = 1.0, exporter: SpanExporter | None = None
    ) -> None:
        self.service = service
        self._ratio = ratio
        if exporter is None and otlp_endpoint:
            # Imported here: the exporter costs a quarter of a lean service's start, and most laptops have no collector.
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            # A collector that is away keeps nobody from stopping longer than that.
            exporter = OTLPSpanExporter(endpoint=otlp_endpoint, insecure=True, timeout=2)
        self._provider: TracerProvider | None = None
        self._tracer: trace.Tracer | None = None
        if exporter is not None:
            # Sampling is decided in span(), before a span object exists, so the provider records all it is given.
            self._provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
            self._tracer = self._provider.get_tracer("rochdale")

    @contextlib.contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: str | None = None,
        link: str | None = None,
        attributes: dict[str, str | int] | None = None,
    ) -> Iterator[trace.Span | None]:
        """A span around a block. parent is a traceparent from the previous hop; without one the current context counts.

        Yields the span when it is recorded, None when it is not: a trace that is not sampled costs two lookups.
        """
        context = parse_traceparent(parent) if parent is not None else _context.get()
        if context is None:
            sampled = self._tracer is not None and random.random() < self._ratio  # noqa: S311 - sampling, not secrecy
            if not sampled:
                yield None
                return
            parent_context = None
        elif self._tracer is None or not context.trace_flags.sampled:
            # Passed on unchanged, so that services behind us still know their trace.
            token = _context.set(context)
            try:
                yield None
            finally:
                _context.reset(token)
            return
        else:
            parent_context = trace.set_span_in_context(NonRecordingSpan(context))
        linked = parse_traceparent(link)
        assert self._tracer is not None
        span = self._tracer.start_span(
            name,
            # An empty context, not None: None would let an instrumented embedding program adopt our spans.
            context=parent_context or trace.set_span_in_context(trace.INVALID_SPAN),
            kind=kind,
            attributes=attributes,
            links=[Link(linked)] if linked else None,
        )
        token = _context.set(span.get_span_context())
        try:
            yield span
        except BaseException as error:
            # Only the type: messages may carry a caller's values.
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            _context.reset(token)
            span.end()

    def shutdown(self) -> None:
        """Sends what is left and stops. Blocks for a few seconds at most."""
        if self._provider is not None:
            self._provider.shutdown()


# The parentheses hold what stays to be seen, enough to tell one key from another. Nothing unbounded may fail after it has
# matched: who gets a long text into a message would else make its writing take seconds.
_SECRET = re.compile(
    r"(rochdale_[A-Za-z0-9_-]{6})[A-Za-z0-9_-]{20,}"
    r"|(eyJ[A-Za-z0-9_-]{4})[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]+){0,2}"
    r"|((?:sk|rk|pk|whsec)_(?:test_|live_)?[A-Za-z0-9_+/=-]{4})[A-Za-z0-9_+/=-]{4,}"
    r"|((?:pi|seti|cs)_[A-Za-z0-9_]{1,100}_secret_)[A-Za-z0-9]+"
    r"|(//[^/:@\s]{1,100}:)\S{1,300}(?=@)"
    r"|(//)[^/:@\s]{1,300}(?=@)"
    r"|((?i:bearer)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|((?i:authorization)[\"']?\s*[:=,]\s*[\"']?(?:(?i:basic)\s+)?)(?!(?i:bearer)\b)[^\s\"',;)}]{4,}"
    r"|((?i:password|passwd|api[_-]?key|secret)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;)}]{3,}"
    # PostgreSQL quotes the row it refuses, values and all.
    r"|(DETAIL:  )[^\n]+"
)


def redact(text: str) -> str:
    """Text with keys, tokens and passwords in addresses cut short."""
    return _SECRET.sub(lambda match: next(group for group in match.groups() if group) + "…", text)


class _JsonLines(logging.Formatter):
    def __init__(self, service: str | None) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "service": self._service or record.name.split(".")[0],
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if current := trace_id():
            line["trace_id"] = current
        if record.exc_info:
            line["exception"] = redact("".join(traceback.format_exception(*record.exc_info)))
        # One JSON document a line and in ASCII: neither a newline nor U+2028 that a caller smuggled into a field can fake
        # a second record, and no terminal obeys what it holds.
        return json.dumps(line)


def configure_logging(service: str | None, level: str = "INFO") -> None:
    """JSON lines on standard error for the whole process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # httpx prints whole addresses at INFO, query strings included; nats-py its own reconnect chatter.
    for noisy in ("httpx", "httpcore", "nats", "stripe", "uvicorn.access", "alembic"):
        logging.getLogger(noisy).setLevel("WARNING")
