"""One exception for everything the market refuses, made from gRPC statuses and HTTP answers; no transport of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc
    import httpx

# The shapes of names in the contracts, each with an example or, when it is all there is, in words.
_PATTERN = re.compile(r"regex pattern `\^(.+)\$`")
_SHAPES = (
    ("[a-z][a-z0-9-]{1,38}[a-z0-9]", "valley-health", "be 3 to 40 lower-case letters, digits or hyphens"),
    ("[a-z][a-z0-9-]{0,60}[a-z0-9]", "randhie", "be 2 to 62 lower-case letters, digits or hyphens"),
    ("[0-9A-Z]{26}", "01J…", ""),
)

# How gRPC names the peer it could not reach.
_ADDRESS = re.compile(r"ipv[46]:([^ ]+:[0-9]+)")


class MarketError(Exception):
    """A refusal, or a failure said like one: `reason` for programs, `message` for people, `facts` with every value.

    Reasons given by the market are in its published table. Those made here start with the thing they are about:
    MARKET_…, KEY_…, FILE_…, SESSION_….
    """

    def __init__(self, reason: str, message: str, facts: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.facts: dict[str, str] = dict(facts or {})

    def __str__(self) -> str:
        return f"{self.message} [{self.reason}]"

    def __reduce__(self) -> tuple[type[MarketError], tuple[str, str, dict[str, str]]]:
        return (type(self), (self.reason, self.message, self.facts))


def from_grpc(error: grpc.RpcError, market: str) -> MarketError:
    """The refusal inside a failed call; a failure of the connection becomes MARKET_UNREACHABLE, naming `market`."""
    import grpc
    from google.rpc import error_details_pb2, status_pb2

    code, detail = error.code(), error.details() or ""
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key != "grpc-status-details-bin":
            continue
        status = status_pb2.Status.FromString(value)
        for packed in status.details:
            info = error_details_pb2.ErrorInfo()
            if packed.Unpack(info):
                return MarketError(info.reason, worded(status.message, info.metadata), dict(info.metadata))
    address = _ADDRESS.search(detail)
    where = address[1] if address else f"the address in {market}"
    facts = {"market": market, "detail": detail} | ({"address": address[1]} if address else {})
    if code == grpc.StatusCode.UNAVAILABLE:
        return MarketError(
            "MARKET_UNREACHABLE", f"Nothing answers at {where}. Is the market up? Start one with `rochdale up`.", facts
        )
    # Said by gRPC itself, before any code of a service runs: a message over the limit, or too many calls at once.
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in detail:
        return MarketError("REQUEST_TOO_LARGE", "The request is larger than the market takes.", facts)
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return MarketError("SERVICE_UNAVAILABLE", "The market has too much to do; try again.", facts)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return MarketError("MARKET_TOO_SLOW", "The market did not answer in time.", facts)
    return MarketError(f"GRPC_{code.name}", detail or f"The market answered {code.name}.", facts)


def worded(message: str, facts: Mapping[str, str]) -> str:
    """The sentence of a name that has the wrong shape without its regular expression, where we know what that says."""
    pattern = _PATTERN.search(message)
    if pattern is None or facts.get("rule") != "string.pattern":
        return message
    shape, field = pattern[1], facts.get("field", "name").rpartition(".")[2].replace("_", " ")
    for expression, example, words in _SHAPES:
        if shape == expression and words:
            return f"The {field} must {words}, and start with a letter."
        shape = shape.replace(expression, example)
    return message if re.search(r"[][(){}|\\+*?]", shape) else f"The {field} must look like {shape}."


def from_http(response: httpx.Response) -> MarketError:
    """The refusal in an HTTP answer whose body has been read."""
    try:
        body: Any = json.loads(response.content)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("errorCode"), str):
        facts = body.get("facts")
        return MarketError(
            body["errorCode"],
            str(body.get("message") or f"The gateway answered {response.status_code}."),
            {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {},
        )
    # The path only: a query string may hold a signature.
    where = f"{response.request.url.host}{response.request.url.path}"
    return MarketError(
        f"HTTP_{response.status_code}",
        f"{where} answered {response.status_code} without saying why.",
        {"status": str(response.status_code), "url": where},
    )
