"""Refusals: how a rule says no, and how a no crosses gRPC and HTTP. Which reasons exist is in docs/reference/refusals.md."""

from __future__ import annotations

import enum
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "rochdale.market"
# A status travels as gRPC metadata, of which a client takes 8 KiB; a sentence may name something a caller made huge.
MAX_MESSAGE_BYTES = 1000
MAX_FACT_BYTES = 500
MAX_FACTS_BYTES = 2000


class Kind(enum.Enum):
    """What sort of no it is; decides the gRPC code and the HTTP status."""

    INVALID = (grpc.StatusCode.INVALID_ARGUMENT, 400)
    UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, 401)
    FORBIDDEN = (grpc.StatusCode.PERMISSION_DENIED, 403)
    NOT_FOUND = (grpc.StatusCode.NOT_FOUND, 404)
    EXISTS = (grpc.StatusCode.ALREADY_EXISTS, 409)
    STATE = (grpc.StatusCode.FAILED_PRECONDITION, 409)
    TOO_LARGE = (grpc.StatusCode.RESOURCE_EXHAUSTED, 413)
    UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, 503)
    INTERNAL = (grpc.StatusCode.INTERNAL, 500)

    @property
    def code(self) -> grpc.StatusCode:
        return self.value[0]

    @property
    def http_status(self) -> int:
        return self.value[1]


class Refusal(Exception):
    """An answer of no.

    reason: UPPER_SNAKE, for programs, from the published table.
    message: one sentence for people, naming the fact.
    facts: every value the sentence mentions, as text.
    """

    def __init__(self, reason: str, message: str, kind: Kind = Kind.INVALID, /, **facts: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.kind = kind
        self.facts = {name: str(value) for name, value in facts.items()}

    def __repr__(self) -> str:
        return f"Refusal({self.reason}: {self.message})"

    def status(self) -> Any:
        """As a gRPC status with exactly one ErrorInfo."""
        facts, room = {}, MAX_FACTS_BYTES
        for name, value in self.facts.items():
            facts[name] = _cut(value, min(MAX_FACT_BYTES, room))
            room -= min(room, len(facts[name].encode()))
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=facts)
        detail = AnyMessage()
        detail.Pack(info)
        message = _cut(self.message, MAX_MESSAGE_BYTES)
        return rpc_status.to_status(status_pb2.Status(code=self.kind.code.value[0], message=message, details=[detail]))

    def http_body(self) -> dict[str, object]:
        """As the JSON body of an HTTP answer; the status is kind.http_status."""
        return {"errorCode": self.reason, "message": self.message, "facts": self.facts}


def _cut(text: str, max_bytes: int) -> str:
    raw = text.encode()
    return text if len(raw) <= max_bytes else raw[:max_bytes].decode(errors="ignore") + "…"


def not_found(name: str) -> Refusal:
    """The one answer for what does not exist and for what belongs to somebody else: nobody can tell them apart."""
    return Refusal("NOT_FOUND", f"{name} does not exist.", Kind.NOT_FOUND, name=name)


def unavailable(what: str) -> Refusal:
    return Refusal("SERVICE_UNAVAILABLE", f"{what} cannot be reached; try again.", Kind.UNAVAILABLE, what=what)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """The refusal another service answered with; a broken connection or an overload is SERVICE_UNAVAILABLE."""
    status = rpc_status.from_call(error)
    kind = next((kind for kind in Kind if kind.code == error.code()), Kind.INTERNAL)
    if status is not None:
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                refusal = Refusal(info.reason, status.message, kind)
                refusal.facts = dict(info.metadata)
                return refusal
    # Said by gRPC itself, before any code of a service runs: a message over the limit, or a thousand calls at once.
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (error.details() or ""):
        return Refusal("REQUEST_TOO_LARGE", "The request is larger than the service takes.", Kind.TOO_LARGE)
    if error.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ):
        return unavailable("The service")
    return Refusal("INTERNAL", "The service failed.", Kind.INTERNAL)
