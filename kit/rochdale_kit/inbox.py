"""Events coming in: each handled once, in one transaction with its effect; what cannot be handled is parked, not lost."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from google.protobuf.message import DecodeError, Message
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext
from opentelemetry.trace import SpanKind
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rochdale_kit.boundary import as_refusal
from rochdale_kit.clock import now
from rochdale_kit.database import Database, inbox_table, parked_table
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.telemetry import Telemetry

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Message)
Handler = Callable[[AsyncConnection, E], Awaitable[None]]

MAX_DELAY_SECONDS = 30.0
# About half an hour of growing delays: long enough for a restart or a deployment, short enough to be seen the same day.
MAX_DELIVERIES = 70


@dataclass(frozen=True)
class Subscription:
    """One message type and what happens when it is heard. The handler re-reads what it acts on; it may raise Refusal."""

    message: type[Message]
    handle: Callable[[AsyncConnection, Message], Awaitable[None]]


@dataclass(frozen=True)
class ParkedEvent:
    """An event that could not be handled. reason and message say why the last time."""

    consumer: str
    event_id: str
    message_type: str
    body: bytes
    traceparent: str | None
    reason: str
    message: str
    park_time: dt.datetime


def on(message: type[E], handle: Handler[E]) -> Subscription:
    """Pairs a message type with its handler, keeping their types together."""

    async def handle_any(connection: AsyncConnection, event: Message) -> None:
        assert isinstance(event, message)
        await handle(connection, event)

    return Subscription(message, handle_any)


_heard_id: ContextVar[str] = ContextVar("heard_id")


def heard_id() -> str:
    """The id of the event that is being handled, for a handler that keeps what it was told under it. LookupError outside
    of one."""
    return _heard_id.get()


class Consumer:
    """Hears one publisher's stream for one service, in order, under one durable name."""

    def __init__(
        self,
        service: str,
        publisher: str,
        subscriptions: list[Subscription],
        database: Database,
        nats: NatsClient,
        telemetry: Telemetry,
    ) -> None:
        self.name = f"{service}-{publisher}"
        self.publisher = publisher
        self._handlers: Mapping[str, Subscription] = {s.message.DESCRIPTOR.full_name: s for s in subscriptions}
        self._database = database
        self._nats = nats
        self._telemetry = telemetry

    async def run(self) -> None:
        """Until canceled. Lost connections are waited out; anything else ends the loop, and with it the process."""
        pull: JetStreamContext.PullSubscription | None = None
        while True:
            try:
                if pull is None:
                    pull = await self._subscribe()
                # One at a time: asked for several, nats-py now and then holds the first back for a second or two, until
                # its time is up. A pull costs little beside the transaction that follows it.
                for message in await pull.fetch(1, timeout=2):
                    await self._handle(message)
            except TimeoutError:
                # Nothing new. A stream or consumer that is gone, as after NATS lost its store, is another error.
                continue
            except (NatsError, OSError) as error:
                log.warning("consumer %s waits: %s %s", self.name, type(error).__name__, error)
                if pull is not None:
                    # Left open it would be sent the next event, and nobody would take it from there.
                    with contextlib.suppress(NatsError, OSError):
                        await pull.unsubscribe()
                    pull = None
                await asyncio.sleep(0.5)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        await ensure_stream(self._nats, self.publisher)
        stream = self._nats.jetstream()
        # Made or brought up to date: a newer version of a service may listen for more under the same name.
        await stream.add_consumer(
            self.publisher,
            ConsumerConfig(
                durable_name=self.name,
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                # What a killed process had in hand comes again after this long. A handler may take longer: the event
                # then comes twice, and the inbox lets it have its effect once.
                ack_wait=5,
                max_deliver=-1,
                filter_subjects=[subject_of(name) for name in self._handlers],
            ),
        )
        return await stream.pull_subscribe_bind(durable=self.name, stream=self.publisher)

    async def _handle(self, message: Msg) -> None:
        headers = message.headers or {}
        event_id, message_type = headers.get("ce-id", ""), headers.get("ce-type", "")
        deliveries = message.metadata.num_delivered or 1
        try:
            subscription, event = self._read(event_id, message_type, message.data)
            with self._telemetry.span(
                f"handle {message_type.rsplit('.', 1)[1]}", SpanKind.CONSUMER, parent=headers.get("traceparent", "")
            ):
                await self._once(event_id, subscription, event)
        except Exception as error:
            refusal = as_refusal(error, f"{self.name} {message_type}")
        else:
            await message.ack()
            return
        # A fault of ours is tried again a while, because a deployment may be under way; what is merely away, for ever.
        again = refusal.kind is Kind.UNAVAILABLE or (refusal.kind is Kind.INTERNAL and deliveries < MAX_DELIVERIES)
        if not again:
            try:
                await self._park(message, event_id, message_type, refusal)
            except Exception as error:
                refusal = as_refusal(error, f"parking for {self.name}")
            else:
                await message.term()
                return
        await self._later(message, deliveries, refusal)

    def _read(self, event_id: str, message_type: str, body: bytes) -> tuple[Subscription, Message]:
        if not event_id or not message_type:
            # Without an id of its own it would pass for every other event without one.
            raise Refusal("EVENT_UNREADABLE", "It has no ce-id or no ce-type.")
        if (subscription := self._handlers.get(message_type)) is None:
            # Asked for by a newer version of this service that runs beside us: it is left to that one for a while.
            raise Refusal("EVENT_UNREADABLE", f"{message_type} is not heard by this version.", Kind.INTERNAL)
        try:
            return subscription, subscription.message.FromString(body)
        except DecodeError:
            raise Refusal("EVENT_UNREADABLE", f"It is not a {message_type}.") from None

    async def _once(self, event_id: str, subscription: Subscription, event: Message) -> None:
        async with self._database.begin() as connection:
            first = await connection.execute(
                insert(inbox_table)
                .values(consumer=self.name, event_id=event_id)
                .on_conflict_do_nothing()
                .returning(inbox_table.c.event_id)
            )
            if first.first() is not None:
                _heard_id.set(event_id)
                await subscription.handle(connection, event)

    async def _later(self, message: Msg, deliveries: int, refusal: Refusal) -> None:
        # A database or a service that is away is back in seconds, and everything waits for it.
        longest = 2.0 if refusal.reason == "SERVICE_UNAVAILABLE" else MAX_DELAY_SECONDS
        delay = min(0.2 * 2 ** min(deliveries - 1, 20), longest)
        level = logging.WARNING if deliveries < MAX_DELIVERIES else logging.ERROR
        log.log(level, "%s tries %s again in %.1f s: %s", self.name, message.subject, delay, refusal)
        await message.nak(delay=delay)

    async def _park(self, message: Msg, event_id: str, message_type: str, refusal: Refusal) -> None:
        log.error("%s parks %s: %s %s", self.name, message.subject, refusal.reason, refusal)
        where = f"{message.metadata.stream}/{message.metadata.sequence.stream}"
        async with self._database.begin() as connection:
            await connection.execute(
                insert(parked_table)
                .values(
                    consumer=self.name,
                    event_id=event_id or where,
                    message_type=message_type,
                    body=message.data,
                    traceparent=(message.headers or {}).get("traceparent"),
                    reason=refusal.reason,
                    message=_told(refusal),
                )
                .on_conflict_do_nothing()
            )

    async def replay(self, parked: ParkedEvent) -> Refusal | None:
        """Handles a parked event again. None when it had its effect, now or before; else why not, which is kept."""
        try:
            subscription, event = self._read(parked.event_id, parked.message_type, parked.body)
            name = parked.message_type.rsplit(".", 1)[1]
            with self._telemetry.span(f"replay {name}", SpanKind.CONSUMER, parent=parked.traceparent or ""):
                await self._once(parked.event_id, subscription, event)
            refusal = None
            kept: dict[str, object] = {"replay_time": now()}
        except Exception as error:
            refusal = as_refusal(error, f"{self.name} {parked.message_type}")
            kept = {"reason": refusal.reason, "message": _told(refusal)}
        # Of its own, not the handler's: a process that ends in between replays an event that is known as handled.
        async with self._database.begin() as connection:
            await connection.execute(
                parked_table.update()
                .where(parked_table.c.consumer == self.name, parked_table.c.event_id == parked.event_id)
                .values(**kept)
            )
        return refusal

    async def replay_parked(self) -> int:
        """Handles this consumer's parked events again, oldest first. Returns how many succeeded."""
        waiting = [parked for parked in await parked_events(self._database) if parked.consumer == self.name]
        return sum([await self.replay(parked) is None for parked in waiting])


def _told(refusal: Refusal) -> str:
    """The sentence an operator reads, with what to look for in the log."""
    fault = refusal.facts.get("trace_id")
    return f"{refusal.message} ({fault} in the log)" if fault else refusal.message


async def parked_events(database: Database) -> list[ParkedEvent]:
    """What waits for an operator in a service's database, oldest first."""
    columns = [parked_table.c[field.name] for field in dataclasses.fields(ParkedEvent)]
    async with database.read() as connection:
        rows = await connection.execute(
            sa.select(*columns).where(parked_table.c.replay_time.is_(None)).order_by(parked_table.c.park_time)
        )
        return [ParkedEvent(*row) for row in rows]
