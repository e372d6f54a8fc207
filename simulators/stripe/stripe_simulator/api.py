"""The door to `/v1`: keys, idempotency, faults, then one unit of work per request. Leaves out what endpoints do."""

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from stripe import api_version

from . import accounts, forms
from .errors import Json, StripeError, invalid, not_modeled
from .expansion import render
from .faults import READ_FAULTS, REQUEST_FAULTS, Fault, Faults
from .routes import ROUTES
from .routes.table import Route
from .unit import Unit
from .validation import validate

BODY_LIMIT_BYTES = 1_048_576
KEY_LIFE_SECONDS = 24 * 3600

NewUnit = Callable[..., Unit]
Announce = Callable[[list[Json]], None]
Delivered = Callable[[float], Awaitable[None]]
DropConnection = Callable[[Request], None]


class Api:
    """Answers every request under `/v1`."""

    def __init__(
        self,
        new_unit: NewUnit,
        announce: Announce,
        delivered: Delivered,
        faults: Faults,
        drop_connection: DropConnection,
    ) -> None:
        self._new_unit = new_unit
        self._announce = announce
        self._delivered = delivered
        self._faults = faults
        self._drop_connection = drop_connection
        self._in_progress: set[tuple[str | None, str]] = set()

    async def answer(self, request: Request) -> Response:
        """One request from the door to the answer, its faults included."""
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        unit = self._new_unit(request, idempotency_key=key)
        headers = {"Request-Id": unit.request_id or "", "Stripe-Version": api_version}
        if key is not None:
            headers["Idempotency-Key"] = key
        try:
            _check_key(request)
            unit.account = _account(unit, request)
            text = await _body(request)
            if key is None:
                return await self._faulty(request, unit, text, headers)
            if len(key) > 255:
                raise invalid("Idempotency keys can be at most 255 characters long.")
            in_use = (unit.account, key)
            if in_use in self._in_progress:
                raise StripeError(
                    409,
                    "There is currently another in-progress request using this Stripe idempotency key (that probably"
                    " means you submitted twice, and the other request is still going through): " + key,
                    kind="idempotency_error",
                    code="idempotency_key_in_use",
                )
            self._in_progress.add(in_use)
            try:
                return await self._faulty(request, unit, text, headers)
            finally:
                self._in_progress.discard(in_use)
        except StripeError as problem:
            return _json(problem.status, {"error": problem.error}, headers)

    async def _faulty(self, request: Request, unit: Unit, text: str, headers: dict[str, str]) -> Response:
        kinds = REQUEST_FAULTS if request.method == "POST" else READ_FAULTS
        fault = self._faults.take(kinds, request.url.path)
        if fault is not None and fault.kind == "429":
            raise StripeError(
                429,
                "Request rate limit exceeded. You can learn more about rate limits here"
                " https://stripe.com/docs/rate-limits.",
                code="rate_limit",
            )
        if fault is not None and fault.kind == "timeout":
            # Nothing was done, which the caller cannot tell from an answer that was lost.
            await asyncio.sleep(fault.seconds)
            response = Response(status_code=504)
        else:
            response = self._respond(request, unit, text, headers, fault)
        if fault is not None and fault.kind == "deliver_before_response":
            with contextlib.suppress(TimeoutError):
                await self._delivered(fault.seconds)
        if fault is not None and fault.kind == "slow":
            # After the work, so that a webhook may overtake the answer, as it may at Stripe.
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind in ("lose_response_after_commit", "timeout"):
            self._drop_connection(request)
            await asyncio.sleep(0)  # lets the server notice, so that it does not write to a dead line
        return response

    def _respond(
        self, request: Request, unit: Unit, text: str, headers: dict[str, str], fault: Fault | None
    ) -> Response:
        # Nothing in here awaits: between looking up the idempotency key and storing the answer nobody gets in.
        path, key = request.url.path, unit.idempotency_key
        fingerprint = hashlib.sha256(f"{request.method} {path}\n{text}".encode()).hexdigest()
        if key is not None and (stored := self._stored(unit, key)) is not None:
            if stored["fingerprint"] != fingerprint:
                raise StripeError(
                    400,
                    "Keys for idempotent requests can only be used with the same parameters they were first used with."
                    f" Try using a key other than '{key}' if you meant to execute a different request.",
                    kind="idempotency_error",
                )
            replay = {"Idempotent-Replayed": "true", "Original-Request": stored["request"]}
            return _json(stored["status"], stored["body"], headers | replay)
        if fault is not None and fault.kind == "500":
            broken = StripeError(500, "An unknown error occurred", kind="api_error")
            if not fault.stored:
                raise broken
            headers["Stripe-Should-Retry"] = "false"
            status, body = 500, {"error": broken.error}
        else:
            status, body = self._worked(request, unit, text)
        if key is not None:
            unit.put(
                "idempotency",
                {
                    "id": _stored_under(unit, key), "fingerprint": fingerprint, "status": status, "body": body,
                    "created": unit.now, "request": unit.request_id,
                },
            )  # fmt: skip
        self._announce(unit.commit())
        return _json(status, body, headers)

    def _worked(self, request: Request, unit: Unit, text: str) -> tuple[int, Json]:
        route, ident = _route(request)
        if unit.account is not None and not route.connected:
            raise not_modeled(f"{request.method} {request.url.path} with the Stripe-Account header")
        values = validate(route.shape, forms.decode(text), route.modeled)
        try:
            answer = route.handler(unit, values, ident)
            return 200, render(unit, answer, values.get("expand", []))
        except StripeError as problem:
            # Refused with nothing done, or declined with a failed charge to show for it.
            if not problem.commits:
                raise
            return problem.status, {"error": problem.error}

    def _stored(self, unit: Unit, key: str) -> Json | None:
        stored = unit.find("idempotency", _stored_under(unit, key))
        return stored if stored is not None and unit.now - stored["created"] < KEY_LIFE_SECONDS else None


def _route(request: Request) -> tuple[Route, str]:
    for route in ROUTES:
        ident = route.match(request.method, request.url.path)
        if ident is not None:
            return route, ident
    raise invalid_url(request)


def invalid_url(request: Request) -> StripeError:
    """What Stripe answers where it has no endpoint."""
    return StripeError(
        404,
        f"Unrecognized request URL ({request.method}: {request.url.path}). Please see https://stripe.com/docs or we can"
        " help at https://support.stripe.com/.",
    )


def _check_key(request: Request) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":  # curl -u sk_test_…:
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[0]
        except ValueError:
            given = ""
    if not given:
        raise StripeError(
            401,
            "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer"
            " auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for"
            " details, or we can help at https://support.stripe.com/.",
        )
    if given.startswith(("sk_live_", "rk_live_")):
        # Somebody's real money was meant to move: nothing of this request may look as if it had.
        raise StripeError(401, "This is a simulator: it takes test keys only (sk_test_…), never a live key.")
    if not given.startswith(("sk_test_", "rk_test_")):
        raise StripeError(401, f"Invalid API Key provided: {given[:8]}{'*' * 8}")
    if request.headers.get("stripe-version", api_version) != api_version:
        raise not_modeled(f"API versions other than {api_version}, that of the installed stripe library")


def _account(unit: Unit, request: Request) -> str | None:
    """The connected account the request is made for, or None for the platform's own."""
    named = request.headers.get("stripe-account")
    return None if named is None else str(accounts.need(unit, named)["id"])


def _stored_under(unit: Unit, key: str) -> str:
    # A key is one account's: the platform and a connected account may use the same.
    return key if unit.account is None else f"{unit.account}:{key}"


async def _body(request: Request) -> str:
    """The parameters as they came: the query of a GET or DELETE, the form of a POST."""
    if request.method != "POST":
        return request.url.query
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > BODY_LIMIT_BYTES:
            raise StripeError(413, f"Request body is larger than {BODY_LIMIT_BYTES} bytes.")
    type_ = request.headers.get("content-type", "").partition(";")[0]
    if received and type_ != "application/x-www-form-urlencoded":
        raise invalid(
            "Invalid request (check that your POST content type is application/x-www-form-urlencoded). If you have any"
            " questions, we can help at https://support.stripe.com/."
        )
    try:
        return received.decode()
    except UnicodeDecodeError:
        raise invalid("Invalid request body: it is not UTF-8.") from None


def _json(status: int, body: Any, headers: dict[str, str]) -> Response:
    text = json.dumps(body, indent=2)
    return Response(text, status, headers=headers, media_type="application/json")
