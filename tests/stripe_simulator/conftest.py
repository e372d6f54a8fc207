"""A simulator per test, the unmodified stripe library pointed at it, and a receiver that keeps what it is sent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import httpx
import pytest
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
                event = stripe.Webhook.construct_event(body, headers["stripe-signature"], SECRET)  # type: ignore[no-untyped-call]
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
        self.stripe = client(url)
        self.intents = self.stripe.v1.payment_intents
        self.sessions = self.stripe.v1.checkout.sessions
        self.browser = httpx.AsyncClient(trust_env=False)
        self.raw = httpx.AsyncClient(base_url=url, auth=("sk_test_raw", ""), trust_env=False)

    async def pay(self, amount: int = 1000, token: str = "pm_card_visa", **more: object) -> stripe.PaymentIntent:
        params = {
            "amount": amount,
            "currency": "usd",
            "confirm": True,
            "payment_method": token,
            "allowed_payment_method_types": ["card", "us_bank_account"],
            **more,
        }
        return await self.intents.create_async(params)  # type: ignore[arg-type]

    async def told(self) -> list[str]:
        await self.simulator.webhooks.drained()
        return self.receiver.types()


def client(url: str, key: str = "sk_test_rochdale", retries: int = 0) -> stripe.StripeClient:
    return stripe.StripeClient(
        key, base_addresses={"api": url}, http_client=stripe.HTTPXClient(), max_network_retries=retries
    )


Open = Callable[..., Awaitable[World]]


@pytest.fixture
async def open_world() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def opened(**settings: object) -> World:
            receiver = Receiver()
            server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            given = {"retry_seconds": 0.02, "processing_seconds": 0.05, **settings}
            simulator = StripeSimulator(
                webhook_url=f"http://127.0.0.1:{port}/hook",
                webhook_secret=SECRET,
                **given,  # type: ignore[arg-type]
            )
            url = await simulator.start()
            stack.push_async_callback(simulator.stop)
            world = World(simulator, url, receiver)
            stack.push_async_callback(world.browser.aclose)
            stack.push_async_callback(world.raw.aclose)
            stack.push_async_callback(world.stripe._requestor._client.close_async)  # type: ignore[union-attr]
            return world

        yield opened


@pytest.fixture
async def world(open_world: Open) -> World:
    return await open_world()
