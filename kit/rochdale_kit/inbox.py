"""Events coming in: each handled once, in one transaction with its effect; what cannot be handled is parked, not lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
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

from rochdale_kit.clock import now
from rochdale_kit.database import LOST, Database, inbox_table, parked_table
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


def on(message: type[E], handle: Handler[E]) -> Subscription:
    """Pairs a message type with its handler, keeping their types together."""

    async def handle_any(connection: AsyncConnection, event: Message) -> None:
        assert isinstance(event, message)
        await handle(connection, event)

    return Subscription(message, handle_any)


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
        self._publisher = publisher
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
                try:
                    messages = await pull.fetch(64, timeout=2)
                except TimeoutError:
                    # Nothing came. Usually nats-py's own TimeoutError, which is one; the plain one when the time ran out
                    # between its two requests, which is no reason to subscribe anew.
                    continue
                for message in messages:
                    await self._handle(message)
            except (NatsError, *LOST) as error:
                log.warning("consumer %s waits: %s", self.name, error)
                pull = None
                await asyncio.sleep(0.5)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        await ensure_stream(self._nats, self._publisher)
        return await self._nats.jetstream().pull_subscribe(
            "",
            durable=self.name,
            stream=self._publisher,
            config=ConsumerConfig(
                durable_name=self.name,
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=30,
                max_deliver=-1,
                filter_subjects=[subject_of(name) for name in self._handlers],
            ),
        )

    async def _handle(self, message: Msg) -> None:
        headers = message.headers or {}
        event_id, message_type = headers.get("ce-id", ""), headers.get("ce-type", "")
        deliveries = message.metadata.num_delivered or 1
        try:
            subscription = self._handlers[message_type]
            event = subscription.message.FromString(message.data)
        except (KeyError, DecodeError):
            await self._park(
                message, event_id or message.subject, "EVENT_UNREADABLE", f"{message_type} cannot be read."
            )
            return
        try:
            with self._telemetry.span(
                f"handle {message_type.rsplit('.', 1)[1]}", SpanKind.CONSUMER, parent=headers.get("traceparent", "")
            ):
                await self._once(event_id, subscription, event)
        except Refusal as refusal:
            if refusal.kind is not Kind.UNAVAILABLE:
                await self._park(message, event_id, refusal.reason, refusal.message)
                return
            await self._later(message, deliveries, refusal.message)
        except LOST as error:
            await self._later(message, deliveries, str(error))
        except Exception as error:
            # A fault of ours: tried again a while, because a deployment may be under way, then kept for an operator.
            log.exception("handling %s failed", message_type)
            if deliveries >= MAX_DELIVERIES:
                await self._park(message, event_id, "INTERNAL", type(error).__name__)
            else:
                await self._later(message, deliveries, type(error).__name__)
        else:
            await message.ack()

    async def _once(self, event_id: str, subscription: Subscription, event: Message) -> None:
        async with self._database.begin() as connection:
            first = await connection.execute(
                insert(inbox_table)
                .values(consumer=self.name, event_id=event_id)
                .on_conflict_do_nothing()
                .returning(inbox_table.c.event_id)
            )
            if first.first() is not None:
                await subscription.handle(connection, event)

    async def _later(self, message: Msg, deliveries: int, why: str) -> None:
        delay = min(0.2 * 2 ** min(deliveries - 1, 20), MAX_DELAY_SECONDS)
        log.warning("%s tries %s again in %.1f s: %s", self.name, message.subject, delay, why)
        await message.nak(delay=delay)

    async def _park(self, message: Msg, event_id: str, reason: str, text: str) -> None:
        headers = message.headers or {}
        log.error("%s parks %s: %s %s", self.name, message.subject, reason, text)
        async with self._database.begin() as connection:
            await connection.execute(
                insert(parked_table)
                .values(
                    consumer=self.name,
                    event_id=event_id,
                    message_type=headers.get("ce-type", ""),
                    body=message.data,
                    traceparent=headers.get("traceparent"),
                    reason=reason,
                    message=text,
                )
                .on_conflict_do_nothing()
            )
        await message.term()

    async def replay_parked(self) -> int:
        """Handles parked events again, for an operator who has removed the cause. Returns how many succeeded."""
        async with self._database.read() as connection:
            rows = (
                await connection.execute(
                    sa.select(parked_table).where(
                        parked_table.c.consumer == self.name, parked_table.c.replay_time.is_(None)
                    )
                )
            ).all()
        done = 0
        for row in rows:
            if (subscription := self._handlers.get(row.message_type)) is None:
                continue
            await self._once(row.event_id, subscription, subscription.message.FromString(row.body))
            async with self._database.begin() as connection:
                await connection.execute(
                    parked_table.update()
                    .where(parked_table.c.consumer == self.name, parked_table.c.event_id == row.event_id)
                    .values(replay_time=now())
                )
            done += 1
        return done
