"""Billing with everything around it real: PostgreSQL, NATS, identity and the Stripe simulator over HTTP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import grpc
import httpx
import nats
import sqlalchemy as sa
from google.protobuf.message import Message
from house import House, Person, request_id
from stripe_world import Receiver, World
from ulid import ULID

from billing.config import Config
from billing.domain.ledger import PLATFORM
from billing.main import build
from billing.store import ledger
from billing.store.invariants import flaws
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import billing_pb2_grpc
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.database import Database
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.server import Service
from rochdale_kit.signing import canonical_hash
from stripe_simulator import StripeSimulator

SECRET = "whsec_test_of_billing"
INTENT = pb.PAYMENT_METHOD_PAYMENT_INTENT
CHECKOUT = pb.PAYMENT_METHOD_CHECKOUT
TRANSFER = pb.PAYMENT_METHOD_BANK_TRANSFER
T = TypeVar("T")


async def until(ask: Callable[[], Awaitable[T]], good: Callable[[T], bool], seconds: float = 20) -> T:
    """Asks until the answer is good; fails with the last one."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        answer = await ask()
        if good(answer):
            return answer
        assert asyncio.get_running_loop().time() < deadline, f"still {answer}"
        await asyncio.sleep(0.02)


class Parties:
    """Who takes part; one identity and one nats-server for a module of tests."""

    def __init__(self, house: House, buyer: Person, rival: Person, steward: Person, operator: Person) -> None:
        self.house, self.buyer, self.rival, self.steward, self.operator = house, buyer, rival, steward, operator


class Desk:
    """One billing on a database of its own, beside one simulator. `start` may be called again for a second instance."""

    def __init__(self, parties: Parties, stack: AsyncExitStack) -> None:
        self.parties = parties
        self.buyer, self.operator = parties.buyer, parties.operator
        self._stack = stack
        self._url = ""
        self.stripe: World
        self.simulator: StripeSimulator
        self.service: Service
        self.stub: Any
        self.database: Database

    async def open_stripe(self, port: int = 0, **settings: Any) -> None:
        given: dict[str, Any] = {"retry_seconds": 0.05, "processing_seconds": 3600} | settings
        self.simulator = StripeSimulator(**given)
        url = await self.simulator.start(port=port)
        self._stack.push_async_callback(self.simulator.stop)
        self.stripe = World(self.simulator, url, Receiver())
        for closer in (self.stripe.browser.aclose, self.stripe.raw.aclose):
            self._stack.push_async_callback(closer)
        self._stack.push_async_callback(self.stripe.stripe._requestor._client.close_async)

    async def start(self, **settings: Any) -> Service:
        house = self.parties.house
        if not self._url:
            house.tag = secrets.token_hex(4)
            self._url = await house.database_url("billing")
            self.database = Database(self._url, pool_size=2)
            self._stack.push_async_callback(self.database.close)
        given: dict[str, Any] = {
            "database_url": self._url,
            "nats_url": house.nats.url(),
            "identity_address": house.services["identity"].grpc_address,
            "public_url": "https://pay.example",
            "stripe_api_key": "sk_test_billing",
            "stripe_api_base": self.stripe.url,
            "stripe_webhook_secret": SECRET,
            "round_seconds": 0.1,
            "sweep_seconds": 1.0,
        } | settings
        self.service = await build(Config(**given))
        await self.service.start()
        self._stack.push_async_callback(self.service.stop)
        await self.service.healthy.wait()
        channel = grpc.aio.insecure_channel(self.service.grpc_address)
        self._stack.push_async_callback(channel.close)
        self.stub = billing_pb2_grpc.BillingServiceStub(channel)
        return self.service

    def hear_webhooks(self) -> None:
        """Has the simulator tell billing of everything that happens from now on."""
        self.simulator.add_webhook(f"http://{self.service.http_address}/webhooks/stripe", SECRET)

    async def tell(self, *events: Message, traceparent: str | None = None) -> None:
        """Says what licensing says, as it says it."""
        client = await nats.connect(self.parties.house.nats.url())
        await ensure_stream(client, "licensing")
        for event in events:
            message_type, id = event.DESCRIPTOR.full_name, f"evt_{ULID()}"
            headers = {"ce-id": id, "ce-type": message_type, "Nats-Msg-Id": id}
            if traceparent:
                headers["traceparent"] = traceparent
            await client.jetstream().publish(
                subject_of(message_type), event.SerializeToString(), stream="licensing", headers=headers
            )
        await client.close()

    def license(self, amount_minor: int = 125_000, currency: str = "EUR") -> licensing.License:
        name = f"licenses/lic_{ULID()}"
        terms = licensing.LicenseTerms(
            license=name,
            licensor=f"cooperatives/{self.parties.steward.organization}",
            licensee=f"licensees/{self.buyer.organization}",
            price=Money(amount_minor=amount_minor, currency=currency),
        )
        return licensing.License(
            name=name, terms=terms, terms_hash=canonical_hash(terms), state=licensing.LICENSE_STATE_AGREED
        )

    async def agree(self, amount_minor: int = 125_000, currency: str = "EUR", **how: Any) -> pb.Order:
        """An agreed license, and the order it became."""
        license = self.license(amount_minor, currency)
        await self.tell(licensing_events.LicenseAgreed(license=license), **how)
        return await self.order_of(license.name)

    async def order_of(self, license: str) -> pb.Order:
        async def ask() -> list[pb.Order]:
            request = pb.ListOrdersRequest(license=license)
            return list((await self.stub.ListOrders(request, metadata=self.operator.metadata)).orders)

        return (await until(ask, bool))[0]

    async def terminate(self, order: pb.Order) -> None:
        ended = licensing.License(name=order.license, state=licensing.LICENSE_STATE_TERMINATED)
        await self.tell(licensing_events.LicenseTerminated(license=ended))

    async def pay(self, order: pb.Order, method: int = INTENT, **more: Any) -> pb.Payment:
        request: dict[str, Any] = {"request_id": request_id(), "order": order.name, "method": method} | more
        reply: pb.Payment = await self.stub.StartPayment(
            pb.StartPaymentRequest(**request), metadata=self.buyer.metadata
        )
        return reply

    async def confirm_transfer(self, order: pb.Order, **more: Any) -> pb.Order:
        given: dict[str, Any] = {"request_id": request_id(), "order": order.name, "amount": order.amount}
        given |= {"bank_reference": str(ULID())}
        reply: pb.Order = await self.stub.ConfirmBankTransfer(
            pb.ConfirmBankTransferRequest(**(given | more)), metadata=self.operator.metadata
        )
        return reply

    async def confirm_card(self, payment: pb.Payment, token: str = "pm_card_visa") -> Any:
        """What the buyer's own code does with the intent."""
        return await self.stripe.intents.confirm_async(payment.payment_intent, {"payment_method": token})

    async def post(self, payment: pb.Payment, **form: str) -> httpx.Response:
        """What the buyer's browser does on the checkout page."""
        return await self.stripe.browser.post(payment.checkout_url, data=form or {"card_number": "4242424242424242"})

    async def order(self, order: pb.Order) -> pb.Order:
        reply: pb.Order = await self.stub.GetOrder(pb.GetOrderRequest(name=order.name), metadata=self.buyer.metadata)
        return reply

    async def payment(self, payment: pb.Payment, person: Person | None = None) -> pb.Payment:
        reply: pb.Payment = await self.stub.GetPayment(
            pb.GetPaymentRequest(name=payment.name), metadata=(person or self.buyer).metadata
        )
        return reply

    async def becomes(self, order: pb.Order, state: int) -> pb.Order:
        return await until(lambda: self.order(order), lambda now: now.state == state)

    async def ends(self, payment: pb.Payment, state: int) -> pb.Payment:
        return await until(lambda: self.payment(payment), lambda now: now.state == state)

    async def told(self, order: pb.Order) -> list[str]:
        """Which events were announced about an order, in order."""
        async with self.database.read() as connection:
            rows = await connection.execute(sa.text("SELECT message_type, body FROM outbox ORDER BY position"))
            return [row.message_type.rsplit(".", 1)[1] for row in rows if order.name.encode() in bytes(row.body)]

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.database.read() as connection:
            return list(await connection.execute(sa.text(statement), values))

    async def balance(self, code: str, book: str = PLATFORM, currency: str = "EUR") -> int:
        async with self.database.read() as connection:
            return await ledger.balance(connection, book, code, currency)

    async def flaws(self) -> list[str]:
        """What an audit of the whole ledger finds wrong."""
        async with self.database.read() as connection:
            return await flaws(connection)

    @property
    def charges(self) -> dict[str, int]:
        return dict(self.simulator.describe()["charges"])
