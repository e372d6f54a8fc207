"""Billing's HTTP door: Stripe's webhooks, and the two plain pages a checkout ends on. Shows no order to anybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from billing.hints import Hints
from billing.hints import read as read_hint
from billing.rail import signed
from billing.webhooks import MAX_BODY_BYTES, Inbox, read
from rochdale_kit.boundary import as_refusal
from rochdale_kit.refusals import Kind, Refusal

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


Endpoint = Callable[[Request], Awaitable[Response]]


def door(
    inbox: Inbox, secrets: list[str] | None, live: bool, hints: Hints | None = None, connect_secrets: Sequence[str] = ()
) -> Starlette:
    """The HTTP application. Without secrets there is no door for webhooks: nobody could tell a forged one.

    hints: of connected accounts, which Stripe signs with a secret of their own.
    """

    def webhook(of: Sequence[str], hear: Callable[[bytes], Awaitable[None]]) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                body = await _body(request)
                if not signed(body, request.headers.get("stripe-signature"), list(of)):
                    raise Refusal("WEBHOOK_SIGNATURE_INVALID", "The signature is not ours, or it is old.", Kind.INVALID)
                await hear(body)
            except Exception as error:
                # A refusal is for good; a database that is away is a 503, and Stripe comes again.
                refusal = as_refusal(error, "webhook")
                return JSONResponse(refusal.http_body(), refusal.kind.http_status)
            return JSONResponse({"received": True})

        return answer

    async def of_platform(body: bytes) -> None:
        await inbox.receive(*read(body, live))

    async def paid(_: Request) -> Response:
        return _page("Thank you", "Your payment is on its way to us. The license starts as soon as it is confirmed.")

    async def canceled(_: Request) -> Response:
        return _page("Nothing was paid", "You left before paying. The order stays open until it is due.")

    async def onboarded(_: Request) -> Response:
        return _page("Thank you", "Stripe has your answers. If it asks for more, the treasury says so.")

    routes = [Route("/paid", paid), Route("/canceled", canceled), Route("/onboarded", onboarded)]
    if secrets is not None:
        routes.append(Route("/webhooks/stripe", webhook(secrets, of_platform), methods=["POST"]))
    if hints is not None and connect_secrets:
        heard = hints

        async def of_account(body: bytes) -> None:
            await heard.receive(*read_hint(body, live))

        routes.append(Route("/webhooks/stripe-connect", webhook(connect_secrets, of_account), methods=["POST"]))
    return Starlette(routes=routes)


async def _body(request: Request) -> bytes:
    """The raw bytes, as they were signed. Refuses with WEBHOOK_TOO_LARGE before reading more."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MAX_BODY_BYTES:
            raise Refusal(
                "WEBHOOK_TOO_LARGE",
                f"The body is larger than {MAX_BODY_BYTES} bytes.",
                Kind.TOO_LARGE,
                limit_bytes=MAX_BODY_BYTES,
            )
    return bytes(received)


def _page(title: str, text: str) -> Response:
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><main><h1>{title}</h1><p>{text} You may close this page.</p></main>",
        headers=_HEADERS,
    )
