"""How a refusal and a fault leave the house over HTTP."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable

from opentelemetry.trace import SpanKind
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from rochdale_kit.boundary import as_refusal
from rochdale_kit.refusals import Kind, Refusal, not_found
from rochdale_kit.telemetry import Telemetry

Handler = Callable[[Request], Awaitable[Response]]


def refusal_headers(refusal: Refusal) -> dict[str, str]:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    if refusal.kind is Kind.UNAUTHENTICATED:
        headers["www-authenticate"] = 'Bearer error="invalid_token"'
    if refusal.kind is Kind.UNAVAILABLE:
        headers["retry-after"] = "1"
    return headers


def refusal_body(refusal: Refusal) -> bytes:
    # As ASCII: facts may repeat what a caller sent, lone surrogates included, which UTF-8 cannot hold.
    return json.dumps(refusal.http_body()).encode()


def refuse(refusal: Refusal, **headers: str) -> Response:
    return Response(refusal_body(refusal), refusal.kind.http_status, {**refusal_headers(refusal), **headers})


def guarded(telemetry: Telemetry, name: str, handler: Handler) -> Handler:
    """The handler inside a span, with every error turned into an answer."""

    @functools.wraps(handler)
    async def call(request: Request) -> Response:
        parent = request.headers.get("traceparent", "")
        with telemetry.span(name, SpanKind.SERVER, parent=parent) as span:
            try:
                return await handler(request)
            except Exception as error:
                refusal = as_refusal(error, name)
                if span is not None:
                    span.set_attribute("rochdale.refusal", refusal.reason)
        return refuse(refusal)

    return call


async def no_such_page(_request: Request, error: Exception) -> Response:
    """For what no door answers; the address is not repeated."""
    if isinstance(error, HTTPException) and error.status_code != 404:
        response = refuse(Refusal("METHOD_UNKNOWN", "This address does not answer that method."))
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return response
    return refuse(not_found("The address"))
