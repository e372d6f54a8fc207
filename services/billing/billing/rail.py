"""Stripe, as the rest of billing sees it: an attempt is made, looked at, canceled or refunded. Decides nothing.

The only file that knows the stripe library.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import stripe
from opentelemetry.trace import SpanKind

from billing.domain.orders import Order
from billing.domain.payments import Payment, Seen, Standing, Taken
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import from_stripe_amount, to_stripe_amount
from rochdale_kit.telemetry import Telemetry

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
TOLERANCE_SECONDS = 300
# Stripe's word for an id it does not know. It forgets none, so the key is of another account or mode.
MISSING = "resource_missing"
# Its word for a connected account that was closed, or that let go of us.
ACCOUNT_GONE = "account_invalid"
# To be expanded of an intent: what its charge brought.
MONEY = "latest_charge.balance_transaction"
_CHECKOUT = "checkout"
_INTENT = "payment_intent"
_SAVED = "saved"
_METHODS = {pb.PAYMENT_METHOD_CHECKOUT: _CHECKOUT, pb.PAYMENT_METHOD_SAVED: _SAVED}
# The bank wants its customer to say yes, who was not there.
_ASKS = "authentication_required"
# How many attempts of a customer are looked through for one whose answer was lost.
_MOST = 100


class RailUnavailable(Exception):
    """No answer, or none that says what was done. The same thing is asked again later, under the same key."""


class RailRefused(Exception):
    """Stripe will not do this, however often it is asked; `code` is its word for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def signed(body: bytes, signature: str | None, secrets: list[str]) -> bool:
    """Whether one of the secrets signed these bytes within the last five minutes."""
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE_SECONDS)
        # Beyond its own error: the header is anybody's text, and the library decodes the body as well.
        except (stripe.SignatureVerificationError, ValueError, TypeError) as error:
            log.info("webhook not signed by us: %s", type(error).__name__)
        else:
            return True
    return False


@dataclass(frozen=True)
class Returned:
    """A refund of all that a payment took, as Stripe's books have it."""

    refund_id: str
    transaction_id: str
    amount: Money


class Rail:
    """One Stripe account. An empty api_base is Stripe itself."""

    def __init__(self, api_key: str, api_base: str, telemetry: Telemetry) -> None:
        self.live = "_live_" in api_key
        self._telemetry = telemetry
        self._http = stripe.HTTPXClient(timeout=TIMEOUT_SECONDS)
        # Any, because its declared types cannot say which fields an answer expands.
        self.api: Any = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_base} if api_base else None,
            http_client=self._http,
            # The library repeats a lost request once, under the same key; what is still lost then is asked for later.
            max_network_retries=1,
        ).v1

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call] # the library's own omission

    async def start(self, order: Order, payment: Payment) -> Seen:
        """Makes the attempt known to Stripe, once however often it is called. Raises RailUnavailable, RailRefused.

        Every parameter comes from the order and the payment as they were written down: under one key Stripe answers
        only the very same request.
        """
        amount, currency = to_stripe_amount(order.amount), order.amount.currency.lower()
        description = f"{order.license}, {order.name}"
        checkout = payment.method == pb.PAYMENT_METHOD_CHECKOUT
        metadata = {
            "order": order.id,
            "payment": payment.id,
            "terms_hash": order.terms_hash,
            "method": _METHODS.get(payment.method, _INTENT),
        }
        # Captured at once: otherwise Stripe's books may have the money an hour after it says that it succeeded.
        capture = {}
        # An order older than quotes may have been asked about already, with neither.
        if order.quote_hash:
            metadata["quote_hash"] = order.quote_hash
            capture["capture_method"] = "automatic"
        options = {"idempotency_key": payment.idempotency_key}
        async with self.call("start"):
            if checkout:
                price = {"currency": currency, "unit_amount": amount, "product_data": {"name": f"Data {order.license}"}}
                session = await self.api.checkout.sessions.create_async(
                    {
                        "mode": "payment",
                        "line_items": [{"price_data": price, "quantity": 1}],
                        "success_url": payment.success_url,
                        "cancel_url": payment.cancel_url,
                        "client_reference_id": order.id,
                        "metadata": metadata,
                        "payment_intent_data": {"metadata": metadata, "description": description, **capture},
                    },
                    options,
                )
                return self._of_session(session.to_dict())
            if payment.method == pb.PAYMENT_METHOD_SAVED:
                return await self._charge_saved(payment, amount, currency, description, metadata)
            intent = await self.api.payment_intents.create_async(
                {
                    "amount": amount,
                    "currency": currency,
                    # The buyer's own code confirms it; methods that send a browser elsewhere are for checkout.
                    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                    "description": description,
                    "metadata": metadata,
                    **capture,
                },
                options,
            )
            return self._of_intent(intent.to_dict())

    async def _charge_saved(
        self, payment: Payment, amount: int, currency: str, description: str, metadata: dict[str, str]
    ) -> Seen:
        """Charges what the buyer saved, without the buyer. A bank that says no, or asks for them, is an answer too."""
        try:
            intent = await self.api.payment_intents.create_async(
                {
                    "amount": amount,
                    "currency": currency,
                    "customer": payment.customer_id,
                    "payment_method": payment.method_id,
                    "off_session": True,
                    "confirm": True,
                    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                    "description": description,
                    "metadata": metadata,
                    "capture_method": "automatic",
                    "expand": [MONEY],
                },
                {"idempotency_key": payment.idempotency_key},
            )
        except stripe.CardError as error:
            declined = getattr(error.error, "payment_intent", None)
            if declined is None:
                raise
            # The intent is the truth; the error only names it.
            return self._of_intent(await self._intent(str(declined.id)))
        return self._of_intent(intent.to_dict())

    async def find_saved(self, payment: Payment) -> Seen | None:
        """A charge made under a key that Stripe has forgotten by now; None when it never was. Raises RailUnavailable."""
        async with self.call("find"):
            page = await self.api.payment_intents.list_async({"customer": payment.customer_id, "limit": _MOST})
            made = [intent.to_dict() async for intent in page.auto_paging_iter()]
            found = next((one for one in made if (one.get("metadata") or {}).get("payment") == payment.id), None)
            return self._of_intent(await self._intent(found["id"])) if found is not None else None

    async def look(self, payment: Payment) -> Seen:
        """How a started attempt stands. Raises RailUnavailable, RailRefused when Stripe does not have it."""
        async with self.call("look"):
            if payment.method == pb.PAYMENT_METHOD_CHECKOUT:
                return self._of_session(await self._session(payment.session_id))
            return self._of_intent(await self._intent(payment.intent_id))

    async def cancel(self, payment: Payment) -> Seen:
        """Ends a started attempt; when it is too late for that, says how it stands. Raises RailUnavailable."""
        # Without a key of ours: canceling twice is harmless, and a failure kept under a key would last a day.
        try:
            async with self.call("cancel"):
                if payment.method == pb.PAYMENT_METHOD_CHECKOUT:
                    await self.api.checkout.sessions.expire_async(payment.session_id)
                else:
                    await self.api.payment_intents.cancel_async(payment.intent_id, {"cancellation_reason": "abandoned"})
        except RailRefused as refused:
            log.info("%s cannot be canceled: %s", payment.name, refused.code)
        return await self.look(payment)

    async def refund(self, payment: Payment) -> Returned:
        """Gives back all that a payment took. Raises RailUnavailable, RailRefused."""
        try:
            async with self.call("refund"):
                made = await self.api.refunds.create_async(
                    {"payment_intent": payment.intent_id, "metadata": {"payment": payment.id}},
                    {"idempotency_key": f"refund:{payment.id}"},
                )
        except RailRefused as refused:
            # Stripe never gives back more than it took, so this is what an answer lost for a day looks like.
            if refused.code != "charge_already_refunded":
                raise
            async with self.call("find refund"):
                made = (await self.api.refunds.list_async({"payment_intent": payment.intent_id, "limit": 1})).data[0]
        async with self.call("look at refund"):
            found = await self.api.refunds.retrieve_async(made.id, {"expand": ["balance_transaction"]})
        return _returned(found.to_dict())

    async def fetch(self, kind: str, object_id: str) -> tuple[str, Seen] | None:
        """The payment an object names and how it stands, read from Stripe and not from what somebody sent.

        kind: "payment_intent", "checkout.session" or "charge". None for an object that names no payment of ours.
        Raises RailUnavailable, RailRefused when Stripe does not have it.
        """
        async with self.call("fetch"):
            if kind == "checkout.session":
                session = await self._session(object_id)
                found, seen = session, self._of_session(session)
            else:
                if kind == "charge":
                    charge = (await self.api.charges.retrieve_async(object_id)).to_dict()
                    if not charge.get("payment_intent"):
                        return None
                    object_id = str(charge["payment_intent"])
                intent = await self._intent(object_id)
                found, seen = intent, self._of_intent(intent)
        payment_id = (found.get("metadata") or {}).get("payment")
        return (payment_id, seen) if payment_id else None

    async def _intent(self, intent_id: str) -> dict[str, Any]:
        found = await self.api.payment_intents.retrieve_async(intent_id, {"expand": [MONEY]})
        intent: dict[str, Any] = found.to_dict()
        return intent

    async def _session(self, session_id: str) -> dict[str, Any]:
        found = await self.api.checkout.sessions.retrieve_async(session_id, {"expand": [f"payment_intent.{MONEY}"]})
        session: dict[str, Any] = found.to_dict()
        return session

    def _of_intent(self, intent: dict[str, Any]) -> Seen:
        metadata = intent.get("metadata") or {}
        checkout = metadata.get("method") == _CHECKOUT
        error = intent.get("last_payment_error") or {}
        standing = Standing.OPEN
        taken = _taken(intent)
        # A saved method that its bank asks about can still be confirmed, by the buyer.
        refused = intent["status"] == "requires_payment_method" and error.get("code") == _ASKS
        asks = metadata.get("method") == _SAVED and (refused or intent["status"] == "requires_action")
        if intent["status"] == "succeeded":
            # For a moment Stripe may say so before its own books have it. What it kept of the money is known from these.
            standing = Standing.SUCCEEDED if taken is not None else Standing.PROCESSING
        elif intent["status"] == "processing":
            standing = Standing.PROCESSING
        elif checkout:
            # Declined or not, what comes next is up to the session's page.
            standing = Standing.OPEN
        elif intent["status"] == "canceled":
            standing = Standing.CANCELED
        elif asks:
            standing = Standing.OPEN
        elif intent["status"] == "requires_payment_method" and error:
            standing = Standing.DECLINED
        return Seen(
            standing,
            amount=intent.get("amount_received") or 0,
            currency=intent["currency"],
            terms_hash=metadata.get("terms_hash", ""),
            quote_hash=metadata.get("quote_hash", ""),
            taken=taken if standing is Standing.SUCCEEDED else None,
            failure_code=error.get("code") or "",
            intent_id=intent["id"],
            client_secret="" if checkout else intent.get("client_secret") or "",
            action_required=asks,
        )

    def _of_session(self, session: dict[str, Any]) -> Seen:
        seen = Seen(
            Standing.CANCELED if session["status"] == "expired" else Standing.OPEN,
            session_id=session["id"],
            checkout_url=session.get("url") or "",
        )
        if not isinstance(session.get("payment_intent"), dict):
            return seen
        intent = self._of_intent(session["payment_intent"])
        if intent.standing in (Standing.SUCCEEDED, Standing.PROCESSING):
            return replace(intent, session_id=seen.session_id, checkout_url=seen.checkout_url)
        if session["status"] == "complete":
            # The bank said no after the page was done, and the page cannot be paid again.
            seen = replace(seen, standing=Standing.DECLINED, failure_code=intent.failure_code or "payment_failed")
        return replace(seen, intent_id=intent.intent_id)

    @contextlib.asynccontextmanager
    async def call(self, what: str) -> AsyncIterator[None]:
        """Sorts what can go wrong into the two kinds that matter: we do not know, and no."""
        with self._telemetry.span(f"stripe {what}", SpanKind.CLIENT):
            try:
                yield
            except (stripe.AuthenticationError, stripe.PermissionError) as error:
                if getattr(error.error, "code", None) == ACCOUNT_GONE:
                    raise RailRefused(ACCOUNT_GONE, str(error)) from None
                # Our key is wrong. Nothing was done, and it is done once the key is right.
                log.error("Stripe does not accept the key: %s", error)
                raise RailUnavailable(str(error)) from None
            except stripe.StripeError as error:
                status = error.http_status
                # 409: the same request is under way. 429: nothing was done. No status: the line was lost. And a key that was
                # used for another request, as by a version of ours that asked otherwise, says nothing of what that one did.
                used = isinstance(error, stripe.IdempotencyError)
                if status is None or status >= 500 or status in (409, 429) or used:
                    log.warning("Stripe does not answer: %s", error)
                    raise RailUnavailable(str(error)) from None
                raise RailRefused(error.code or "rail_refused", str(error)) from None


def _taken(intent: dict[str, Any]) -> Taken | None:
    """What the expanded charge of an intent brought; None while Stripe's books do not have it."""
    charge = intent.get("latest_charge")
    moved = charge.get("balance_transaction") if isinstance(charge, dict) else None
    if not isinstance(charge, dict) or not isinstance(moved, dict):
        return None
    return Taken(
        charge_id=charge["id"],
        transaction_id=moved["id"],
        amount=from_stripe_amount(moved["amount"], moved["currency"]),
        processing_minor=from_stripe_amount(moved["fee"], moved["currency"]).amount_minor,
        available_time=dt.datetime.fromtimestamp(moved["available_on"], dt.UTC),
    )


def _returned(refund: dict[str, Any]) -> Returned:
    moved = refund.get("balance_transaction")
    if isinstance(moved, dict):
        # Negative, and in the currency in which the money was kept.
        return Returned(refund["id"], moved["id"], from_stripe_amount(-moved["amount"], moved["currency"]))
    return Returned(refund["id"], "", from_stripe_amount(refund["amount"], refund["currency"]))
