"""The web application: which address leads where, the headers on every answer, and what a visitor sees when it fails."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rochdale_kit.refusals import Kind, Refusal, unavailable
from rochdale_kit.telemetry import Telemetry
from storefront import (
    account_pages,
    dispute_pages,
    dividend_pages,
    license_pages,
    member_pages,
    operator_pages,
    order_pages,
    treasury_pages,
)
from storefront.desk import Desk
from storefront.market import Market
from storefront.pages import Pages

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
HEADERS = {
    # Nothing but our own stylesheet and pictures: a title that smuggles in a script finds no door to run through.
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Nothing to other sites. To ourselves, because without it browsers do not say where a form of ours came from.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

Endpoint = Callable[[Request], Awaitable[Response]]


class _Headers:
    """Adds HEADERS to every answer, also to those of an error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, with_headers)


# Every address of the pages of money, by whom they are for.
MONEY = (
    account_pages,
    order_pages,
    license_pages,
    dispute_pages,
    treasury_pages,
    dividend_pages,
    member_pages,
    operator_pages,
)


def build_app(pages: Pages, market: Market, telemetry: Telemetry, desk: Desk | None = None) -> ASGIApp:
    """The application, ready for a server. desk: for who signs in; without one there are no pages of money."""

    def page(path: str, name: str, show: Endpoint) -> Route:
        """A page inside its span; a refusal of the market becomes a page that says so."""

        async def endpoint(request: Request) -> Response:
            with telemetry.span(f"GET {name}", SpanKind.SERVER, parent=request.headers.get("traceparent", "")):
                try:
                    return await show(request)
                except Refusal as refusal:
                    return pages.refused(refusal)

        return Route(path, endpoint, name=name)

    async def health(_: Request) -> Response:
        """Whether this storefront can do its work, which is to show what the catalog has."""
        try:
            await market.check()
        except Refusal as refusal:
            refusal = refusal if refusal.kind is Kind.UNAVAILABLE else unavailable("The catalog")
            return JSONResponse(refusal.http_body(), refusal.kind.http_status, {"cache-control": "no-store"})
        return PlainTextResponse("OK\n", headers={"cache-control": "no-store"})

    async def live(_: Request) -> Response:
        """Answered as long as the process answers at all: a restart would not bring the catalog back."""
        return PlainTextResponse("OK\n", headers={"cache-control": "no-store"})

    async def wrong_address(_: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code != 404:
            return pages.error(
                error.status_code,
                "This does not work",
                "This address takes no such request; start from the page that leads to it.",
            )
        return pages.missing()

    async def fault(_: Request, error: Exception) -> Response:
        # Starlette raises the error again after this answer, and uvicorn logs it: nothing is lost, nothing is shown.
        return pages.error(500, "Something went wrong here", "It is our fault, not yours, and the operator can see it.")

    return _Headers(
        Starlette(
            routes=[
                page("/", "offerings", pages.offerings),
                page("/cooperatives/{cooperative}", "cooperative", pages.cooperative),
                page("/cooperatives/{cooperative}/proposals", "proposals", pages.proposals),
                page("/cooperatives/{cooperative}/proposals/{proposal}", "proposal", pages.proposal),
                page("/cooperatives/{cooperative}/offerings/{offering}", "offering", pages.offering),
                *(route for part in MONEY if desk is not None for route in part.routes(desk)),
                Route("/health", health),
                Route("/live", live),
                Route("/style.css", _file("style.css", "text/css")),
                Route("/icon.svg", _file("icon.svg", "image/svg+xml")),
                Route("/favicon.ico", _file("icon.svg", "image/svg+xml")),
            ],
            exception_handlers={HTTPException: wrong_address, Exception: fault},
        )
    )


def _file(name: str, media_type: str) -> Endpoint:
    """A file of the package, read once."""
    content = (STATIC / name).read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'

    async def serve(request: Request) -> Response:
        headers = {"etag": etag, "cache-control": "public, max-age=300"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return serve
