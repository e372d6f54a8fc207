"""The one gRPC interceptor: who calls, may they, is the shape right, and how a refusal or a fault leaves the house."""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import protovalidate
from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy.exc import DBAPIError

from rochdale_kit.database import is_lost
from rochdale_kit.identity import Access, Sessions, _principal, authorize, bearer
from rochdale_kit.refusals import Kind, Refusal, refusal_of, unavailable
from rochdale_kit.telemetry import Telemetry, trace_id

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

log = logging.getLogger(__name__)

_TIME = "google.protobuf.Timestamp"

MAX_MESSAGE_BYTES = 256 * 1024
MAX_METADATA_BYTES = 8 * 1024
SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    # Above the first number gRPC refuses by chance, and all only above this one, which by default is twice as large.
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.so_reuseport", 0),
]

Unary = Callable[[Any, Any], Awaitable[Any]]


def check_access_table(service: ServiceDescriptor, table: Mapping[str, Access]) -> None:
    """Stops the start when an RPC has no entry, or an entry has no RPC: deny by default includes forgetting."""
    methods = {method.name for method in service.methods}
    if missing := sorted(methods - set(table)):
        raise SystemExit(f"{service.full_name} has no access rule for {', '.join(missing)}.")
    if unknown := sorted(set(table) - methods):
        raise SystemExit(f"The access table of {service.full_name} names {', '.join(unknown)}, which it does not have.")


@functools.cache
def _with_times(kind: Descriptor) -> tuple[FieldDescriptor, ...]:
    """The fields of a message that are times, or messages with times in them. No message of the contract nests itself."""
    return tuple(
        field
        for field in kind.fields
        if (inner := field.message_type) is not None and (inner.full_name == _TIME or _with_times(inner))
    )


def _require_times(message: Message, path: str = "") -> None:
    """The wire takes any number of seconds, and a calendar ends: later every service would stumble over such a time."""
    for field in _with_times(message.DESCRIPTOR):
        value = getattr(message, field.name)
        for one in value if field.is_repeated else [value] if message.HasField(field.name) else []:
            where = f"{path}{field.name}"
            if one.DESCRIPTOR.full_name != _TIME:
                _require_times(one, f"{where}.")
                continue
            try:
                one.ToDatetime()
            except (ValueError, OverflowError):
                raise Refusal(
                    "REQUEST_INVALID", f"{where}: is no time.", Kind.INVALID, field=where, rule="timestamp"
                ) from None


def validate(message: Message) -> None:
    """Refuses a message whose shape is not the contract's, with the first field that is wrong."""
    _require_times(message)
    # Behind this one call, because protovalidate 2 rests on a protobuf runtime that is still alpha.
    try:
        protovalidate.validate(message, fail_fast=True)
    except protovalidate.ValidationError as error:
        violation = error.violations[0].proto
        elements = violation.field.elements if violation.field else []
        field = ".".join(element.field_name for element in elements) or "request"
        what = violation.message or violation.rule_id
        raise Refusal(
            "REQUEST_INVALID", f"{field}: {what}.", Kind.INVALID, field=field, rule=violation.rule_id
        ) from None


class Boundary(grpc.aio.ServerInterceptor):
    """Wraps every RPC of a process. Health checks pass; anything else without an access rule is refused."""

    def __init__(
        self, services: Mapping[ServiceDescriptor, Mapping[str, Access]], sessions: Sessions, telemetry: Telemetry
    ) -> None:
        for service, table in services.items():
            check_access_table(service, table)
        self.services = [service.full_name for service in services]
        self._access = {
            f"/{service.full_name}/{name}": rule for service, table in services.items() for name, rule in table.items()
        }
        self._sessions = sessions
        self._telemetry = telemetry
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        method: str = details.method
        # Handlers never change while a server runs, so each is wrapped once.
        if (wrapped := self._wrapped.get(method)) is not None:
            return wrapped
        if method.startswith(("/grpc.health.v1.Health/", "/grpc.reflection.")):
            return await continuation(details)
        rule = self._access.get(method)
        if rule is None:
            return grpc.unary_unary_rpc_method_handler(_no_such_call)
        handler = await continuation(details)
        assert handler is not None, "the access table was checked against the contract"
        self._wrapped[method] = wrapped = grpc.unary_unary_rpc_method_handler(
            self._wrap(method, rule, handler.unary_unary),
            request_deserializer=_reader(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )
        return wrapped

    def _wrap(self, method: str, rule: Access, handle: Any) -> Unary:
        name = method.rsplit("/", 1)[1]

        async def call(request: Message | None, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
            authorization, parent = [], ""
            for key, value in context.invocation_metadata() or ():
                if key == "authorization":
                    authorization.append(str(value))
                elif key == "traceparent":
                    parent = str(value)
            with self._telemetry.span(name, SpanKind.SERVER, parent=parent) as span:
                try:
                    token = bearer(authorization)
                    principal = await self._sessions.principal(token) if token is not None else None
                    authorize(rule, principal, name)
                    if request is None:
                        raise Refusal("REQUEST_INVALID", "The bytes are not the request of this call.", Kind.INVALID)
                    validate(request)
                    mark = _principal.set(principal)
                    try:
                        reply: Message = await handle(request, context)
                        return reply
                    finally:
                        _principal.reset(mark)
                except Exception as error:
                    refusal = as_refusal(error, method)
                    if span is not None:
                        span.set_attribute("rochdale.refusal", refusal.reason)
                        if refusal.kind is Kind.INTERNAL:
                            span.set_status(StatusCode.ERROR, type(error).__name__)
            await context.abort_with_status(refusal.status())
            raise AssertionError("abort returns never")

        return call


def _reader(parse: Any) -> Callable[[bytes], Message | None]:
    """Parses a request; None for bytes that are none, so that the caller is told by us and no stack trace is logged."""

    def read(raw: bytes) -> Message | None:
        try:
            message: Message = parse(raw)
        except DecodeError:
            return None
        return message

    return read


def as_refusal(error: Exception, where: str) -> Refusal:
    """What a caller learns of an error: a refusal as it is, a lost database as "try again", our own faults nothing."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return refusal_of(error)
    # PostgreSQL keeps no NUL in a text, and protobuf allows one: the caller's to mend, and no fault of ours.
    if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "22021":
        return Refusal("REQUEST_INVALID", "A text holds a character that cannot be stored.", Kind.INVALID)
    # A restarted server, an exhausted pool: nothing was committed, and the same request may come again.
    if is_lost(error):
        log.warning("%s: %s", where, error)
        return unavailable("The database")
    # Where nothing is traced there is still a number by which the operator finds the caller's fault in the log.
    fault = trace_id() or secrets.token_hex(16)
    log.error("%s failed, %s", where, fault, exc_info=error)
    return Refusal("INTERNAL", "The service failed; the operator can find out why.", Kind.INTERNAL, trace_id=fault)


async def _no_such_call(_request: object, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
    # The same answer for an unknown service, an unknown method and one nobody may call: there is nothing to enumerate.
    await context.abort_with_status(Refusal("CALL_UNKNOWN", "There is no such call.", Kind.FORBIDDEN).status())
    raise AssertionError("abort returns never")
