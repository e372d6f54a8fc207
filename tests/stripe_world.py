"""A Stripe simulator with the unmodified library pointed at it, and a receiver that keeps what it is sent."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import stripe

from stripe_simulator import StripeSimulator

SECRET = "whsec_test_of_the_simulator"


class Receiver:
    """An HTTP server that verifies every webhook as the stripe library does and answers `statuses` in turn, then 200."""

    def __init__(self) -> None:
        self.events: list[stripe.Event] = []
        self.refused: list[str] = []
        self.statuses: list[int] = []
        self.attempts = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        self.attempts += 1
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            try:
                event = stripe.Webhook.construct_event(body, headers["stripe-signature"], SECRET)
                self.events.append(event)
            except stripe.SignatureVerificationError as problem:
                self.refused.append(str(problem))
                status = 400
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    def types(self) -> list[str]:
        return [event.type for event in self.events]


class World:
    """The simulator, its address, a client, a browser, and the webhook receiver."""

    def __init__(self, simulator: StripeSimulator, url: str, receiver: Receiver) -> None:
        self.simulator = simulator
        self.url = url
        self.receiver = receiver
        # Any, because its declared types cannot say which fields an answer expands.
        self.stripe: Any = stripe.StripeClient(
            "sk_test_rochdale",
            base_addresses={"api": url},
            http_client=stripe.HTTPXClient(verify_ssl_certs=False),
            max_network_retries=0,
        )
        self.intents: Any = self.stripe.v1.payment_intents
        self.sessions: Any = self.stripe.v1.checkout.sessions
        self.browser = httpx.AsyncClient(trust_env=False, verify=False)
        self.raw = httpx.AsyncClient(base_url=url, auth=("sk_test_raw", ""), trust_env=False, verify=False)

    async def pay(self, amount: int = 1000, token: str = "pm_card_visa", **more: Any) -> Any:
        params = {
            "amount": amount,
            "currency": "usd",
            "confirm": True,
            "payment_method": token,
            "allowed_payment_method_types": ["card", "us_bank_account"],
            **more,
        }
        return await self.intents.create_async(params)

    async def bank(self, path: str, **asked: Any) -> Any:
        """Has a buyer's bank do something: `disputes`, `disputes/du_…/decide`, `refunds/re_…/fail`."""
        answer = await self.raw.post(f"/_simulator/{path}", json=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def told(self) -> list[str]:
        await self.simulator.webhooks.drained()
        return self.receiver.types()


OpenWorld = Callable[..., Awaitable[World]]
