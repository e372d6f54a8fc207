"""A buyer with subscriptions at a desk of billing, and days that pass when a test says so."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from contextlib import AsyncExitStack
from typing import Any

import nats
from billing_desk import INTENT, Desk, until
from google.protobuf.message import Message
from house import Person, request_id
from ulid import ULID

from billing.attempts import Attempts
from billing.domain.subscriptions import Dunning
from billing.rail import Rail
from billing.renewing import Renewing
from billing.settlement import Settlement
from billing.tax import NoTaxes
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale.data_gateway.v1 import events_pb2 as gateway_events
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.type.v1 import pricing_pb2 as pricing
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.database import Database
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.signing import canonical_hash
from rochdale_kit.telemetry import Telemetry

PERIOD, USAGE = pb.ORDER_KIND_PERIOD, pb.ORDER_KIND_USAGE
MONTH = pricing.BILLING_INTERVAL_MONTH
GIGABYTE = pricing.METER_GIGABYTE
VISA, ASKS_EACH_TIME, DECLINED_LATER = "4242424242424242", "4000002760003184", "4000000000000341"
YEAR_SECONDS = 365 * 86_400


def per_gigabyte(unit_price: str = "2.5", included: str = "", cap: str = "") -> pricing.MeteredPrice:
    return pricing.MeteredPrice(meter=GIGABYTE, unit_price=unit_price, included=included, cap=cap)


class Club:
    """Renews as the service does, at any time a test names: the rules are given `at`, never a moved clock."""

    def __init__(self, desk: Desk, stack: AsyncExitStack) -> None:
        self.desk = desk
        self.buyer, self.steward, self.rival = desk.buyer, desk.parties.steward, desk.parties.rival
        self._stack = stack
        self.renewing = self.replica()

    def replica(self, stripe: str = "") -> Renewing:
        """Another one that renews, on connections of its own; `stripe` is another address than the simulator's."""
        telemetry = Telemetry("billing", "", 0.0)
        database = Database(self.desk.database.engine.url.render_as_string(hide_password=False), pool_size=2)
        rail = Rail("sk_test_billing", stripe or self.desk.stripe.url, telemetry)
        self._stack.push_async_callback(database.close)
        self._stack.push_async_callback(rail.close)
        attempts = Attempts(database, rail, Settlement(database, telemetry, 500, 3600))
        return Renewing(database, attempts, NoTaxes(), Dunning(), dt.timedelta(hours=1), True, 1.0)

    async def subscribe(
        self, price_minor: int = 10_000, *metered: pricing.MeteredPrice, duration_seconds: int = YEAR_SECONDS
    ) -> pb.Subscription:
        """A license whose first month was paid by bank transfer."""
        license = self.desk.license(price_minor)
        license.terms.duration_seconds = duration_seconds
        license.terms.price_plan.CopyFrom(pricing.PricePlan(interval=MONTH, metered=metered))
        license.terms_hash = canonical_hash(license.terms)
        await self.desk.tell(licensing_events.LicenseAgreed(license=license))
        order = await self.desk.order_of(license.name)
        if order.state == pb.ORDER_STATE_OPEN:
            await self.desk.confirm_transfer(order)
        return await self.of(license.name)

    async def of(self, license: str | pb.Subscription, person: Person | None = None) -> pb.Subscription:
        name = license if isinstance(license, str) else license.license
        reply: pb.Subscription = await self.desk.stub.GetSubscription(
            pb.GetSubscriptionRequest(license=name), metadata=(person or self.buyer).metadata
        )
        return reply

    async def save_card(self, number: str = VISA) -> pb.SavedPaymentMethod:
        """What a buyer does once: opens the page, gives a card, shows who they are where the bank asks."""
        before = await self.method()
        page = await self.set_up()
        answer = await self.desk.stripe.browser.post(page.setup_url, data={"card_number": number})
        if "/authenticate/" in answer.headers["location"]:
            await self.desk.stripe.browser.post(answer.headers["location"], data={"answer": "complete"})
        return await until(self.method, lambda saved: saved.type != "" and saved.label != before.label)

    async def set_up(self, id: str = "", **more: str) -> pb.SavedPaymentMethod:
        request = pb.SetUpPaymentMethodRequest(request_id=id or request_id(), **more)
        reply: pb.SavedPaymentMethod = await self.desk.stub.SetUpPaymentMethod(request, metadata=self.buyer.metadata)
        return reply

    async def method(self) -> pb.SavedPaymentMethod:
        reply: pb.SavedPaymentMethod = await self.desk.stub.GetPaymentMethod(
            pb.GetPaymentMethodRequest(), metadata=self.buyer.metadata
        )
        return reply

    async def remove_card(self) -> pb.SavedPaymentMethod:
        reply: pb.SavedPaymentMethod = await self.desk.stub.RemovePaymentMethod(
            pb.RemovePaymentMethodRequest(), metadata=self.buyer.metadata
        )
        return reply

    async def cancel(self, license: str) -> pb.Subscription:
        request = pb.CancelSubscriptionRequest(request_id=request_id(), license=license)
        reply: pb.Subscription = await self.desk.stub.CancelSubscription(request, metadata=self.buyer.metadata)
        return reply

    async def budget(self, license: str, cap: str, meter: int = GIGABYTE) -> pb.Subscription:
        request = pb.SetBudgetRequest(request_id=request_id(), license=license, meter=meter, cap=cap)  # type: ignore[arg-type]
        reply: pb.Subscription = await self.desk.stub.SetBudget(request, metadata=self.buyer.metadata)
        return reply

    async def orders(self, license: str, kind: int = 0) -> list[pb.Order]:
        """Oldest first."""
        reply = await self.desk.stub.ListOrders(pb.ListOrdersRequest(license=license), metadata=self.buyer.metadata)
        return [order for order in reversed(reply.orders) if kind in (0, order.kind)]

    async def payments(self, order: pb.Order) -> list[pb.Payment]:
        rows = await self.desk.rows(
            "SELECT id FROM payment WHERE order_id = :order ORDER BY id", order=order.name.removeprefix("orders/")
        )
        return [await self.desk.payment(pb.Payment(name=f"{order.name}/payments/{row.id}")) for row in rows]

    async def wait_paid(self, order: pb.Order) -> pb.Order:
        return await self.desk.becomes(order, pb.ORDER_STATE_PAID)

    async def pay(self, order: pb.Order) -> pb.Order:
        """The buyer pays by hand."""
        await self.desk.confirm_card(await self.desk.pay(order, INTENT))
        return await self.wait_paid(order)

    async def told(self, license: str, kind: type[Message] | None = None) -> list[Any]:
        """What was announced about a license, in order: of one kind, or the names of all."""
        rows = await self.desk.rows("SELECT message_type, body FROM outbox ORDER BY position")
        about = [row for row in rows if license.encode() in bytes(row.body)]
        if kind is None:
            return [row.message_type.rsplit(".", 1)[1] for row in about]
        name = kind.DESCRIPTOR.full_name
        return [kind.FromString(bytes(row.body)) for row in about if row.message_type == name]

    async def standings(self, license: str) -> list[tuple[str, str]]:
        """How the license stood, as it was told."""
        events = await self.told(license, events_pb2.StandingChanged)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        return [(events_pb2.Standing.Name(event.standing).removeprefix("STANDING_"), event.reason) for event in events]

    async def reminders(self, license: str, count: int) -> list[events_pb2.PaymentReminded]:
        """Once there are as many; the service's own loop may be the one that says it."""
        return await until(lambda: self.told(license, events_pb2.PaymentReminded), lambda events: len(events) >= count)

    def used(self, license: str, sent_bytes: int, at: dt.datetime) -> gateway_events.UsageRecorded:
        return gateway_events.UsageRecorded(
            grant=f"grants/gra_{ULID()}",
            license=license,
            token_id=secrets.token_hex(8),
            version="cooperatives/valley-health/datasets/randhie/versions/1",
            sent_bytes=sent_bytes,
            record_time=to_timestamp(at),
        )

    async def use(self, license: str, gigabytes: float, at: dt.datetime, id: str = "") -> str:
        """A gateway tells of bytes sent, and billing has heard it. Returns the event's id."""
        id = id or f"evt_{ULID()}"
        await self.say(self.used(license, round(gigabytes * 10**9), at), id)
        heard = "SELECT 1 FROM inbox WHERE event_id = :id"
        await until(lambda: self.desk.rows(heard, id=id), bool)
        return id

    async def say(self, event: Message, id: str, once: bool = True) -> None:
        client = await nats.connect(self.desk.parties.house.nats.url())
        await ensure_stream(client, "data_gateway")
        message_type = event.DESCRIPTOR.full_name
        headers = {"ce-id": id, "ce-type": message_type}
        if once:
            headers["Nats-Msg-Id"] = id
        await client.jetstream().publish(
            subject_of(message_type), event.SerializeToString(), stream="data_gateway", headers=headers
        )
        await client.close()

    async def step(self, at: dt.datetime, replicas: int = 1) -> None:
        """What is due by then is done."""
        others = [self.replica() for _ in range(replicas - 1)]
        await asyncio.gather(*(one.step(at) for one in (self.renewing, *others)))


def start_of(subscription: pb.Subscription) -> dt.datetime:
    return from_timestamp(subscription.period_start_time)


def end_of(subscription: pb.Subscription) -> dt.datetime:
    return from_timestamp(subscription.period_end_time)


def days(count: float) -> dt.timedelta:
    return dt.timedelta(days=count)
