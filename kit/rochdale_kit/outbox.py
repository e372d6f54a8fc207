"""Events going out: a row beside the change it describes, then a CloudEvent on JetStream."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import re
import time

import sqlalchemy as sa
from google.protobuf.message import Message
from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncConnection

from rochdale_kit.clock import new_id, now
from rochdale_kit.database import LOST, Database, inbox_table, is_lost, outbox_table
from rochdale_kit.refusals import Refusal
from rochdale_kit.telemetry import Telemetry, traceparent

log = logging.getLogger(__name__)

BATCH = 500
# With its headers it must fit into what NATS takes in one message, which is 1 MiB, NATS's own default.
MAX_EVENT_BYTES = 1_000_000
MAX_PAYLOAD_BYTES = 1024 * 1024
# Longer than any consumer is expected to be down; what is older is read again from its owner, not from the stream.
STREAM_MAX_AGE = dt.timedelta(days=30)
KEEP_PUBLISHED = dt.timedelta(days=7)
# Longer than the stream keeps anything: a consumer that starts anew hears the whole stream again.
KEEP_HANDLED = STREAM_MAX_AGE + dt.timedelta(days=5)
PRUNE_SECONDS = 3600.0


def subject_of(message_type: str) -> str:
    """rochdale.licensing.v1.LicenseActivated -> rochdale.licensing.v1.license_activated"""
    package, name = message_type.rsplit(".", 1)
    return f"{package}.{re.sub(r'(?<!^)(?=[A-Z])', '_', name).lower()}"


async def announce(connection: AsyncConnection, event: Message, at: dt.datetime | None = None) -> None:
    """Writes an event beside the change it describes. It is sent after the transaction commits, or never.

    Refuses with REQUEST_INVALID what no message can carry: once in the outbox it would hold up all that follows.
    """
    message_type = event.DESCRIPTOR.full_name
    body = event.SerializeToString()
    if len(body) > MAX_EVENT_BYTES:
        raise Refusal(
            "REQUEST_INVALID",
            f"This would have to be announced in {len(body)} bytes; an event has at most {MAX_EVENT_BYTES}.",
            size_bytes=len(body),
            max_bytes=MAX_EVENT_BYTES,
        )
    await connection.execute(
        outbox_table.insert().values(
            event_id=new_id("evt"),
            message_type=message_type,
            subject=subject_of(message_type),
            body=body,
            traceparent=traceparent(),
            event_time=at or now(),
        )
    )
    connection.info["announced"] = True


def stream_config(service: str) -> StreamConfig:
    """The one stream of a publishing service, such as "licensing"."""
    return StreamConfig(
        name=service,
        # One word after the version, which every event's subject is. Two words, such as heartbeat.{cooperative}, are for
        # what must not be kept.
        subjects=[f"rochdale.{service}.v1.*"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=STREAM_MAX_AGE.total_seconds(),
        duplicate_window=120,
    )


async def ensure_stream(nats: NatsClient, service: str) -> None:
    """Makes a service's stream if it is not there. Publisher and consumers call it, whoever starts first."""
    manager = nats.jetstream()
    try:
        await manager.stream_info(service)
    except NotFoundError:
        await manager.add_stream(stream_config(service))


class Publisher:
    """Sends unpublished rows, in the order they were written. Several replicas may run; one at a time sends."""

    def __init__(self, service: str, database: Database, nats: NatsClient, telemetry: Telemetry) -> None:
        self._service = service
        self._database = database
        self._nats = nats
        self._telemetry = telemetry

    async def run(self) -> None:
        """Until canceled. A lost connection is waited out; anything else ends the loop, and with it the process."""
        ready, pruned = False, float("-inf")
        while True:
            try:
                if time.monotonic() - pruned > PRUNE_SECONDS:
                    await prune(self._database)
                    pruned = time.monotonic()
                if not ready:
                    await ensure_stream(self._nats, self._service)
                    ready = True
                if await self._publish_batch() < BATCH:
                    await self._wait()
            except (NatsError, *LOST) as error:
                if not (isinstance(error, NatsError) or is_lost(error)):
                    raise
                log.warning("outbox waits: %s %s", type(error).__name__, error)
                ready = False
                await asyncio.sleep(0.5)

    async def _wait(self) -> None:
        # Woken by this process's own commits; the poll finds rows of a process that died before it sent them.
        try:
            async with asyncio.timeout(1.0):
                await self._database.announced.wait()
        except TimeoutError:
            return
        self._database.announced.clear()

    async def _publish_batch(self) -> int:
        table = outbox_table
        sent: list[int] = []
        trouble: Exception | None = None
        async with self._database.begin() as connection:
            # A second replica waits here. Did it skip locked rows instead, it would send an end before its beginning.
            # The number is arbitrary and the same for every service's own database.
            await connection.execute(sa.text("SELECT pg_advisory_xact_lock(1846)"))
            # We select unpublished rows rather than "position > last": positions become visible out of order, and a
            # slow transaction's event would be skipped for ever.
            rows = (
                await connection.execute(
                    sa.select(table).where(table.c.publish_time.is_(None)).order_by(table.c.position).limit(BATCH)
                )
            ).all()
            if not rows:
                return 0
            stream = self._nats.jetstream()
            try:
                for row in rows:
                    # In order and one by one: a consumer must not hear of an end before its beginning.
                    with self._telemetry.span(
                        f"publish {row.message_type.rsplit('.', 1)[1]}", SpanKind.PRODUCER, parent=row.traceparent or ""
                    ):
                        await stream.publish(
                            row.subject, row.body, timeout=5, stream=self._service, headers=self._headers(row)
                        )
                    sent.append(row.position)
            except (NatsError, OSError, TimeoutError) as error:
                # What was taken is marked all the same: the next attempt begins where this one ended.
                trouble = error
            if sent:
                await connection.execute(table.update().where(table.c.position.in_(sent)).values(publish_time=now()))
        if trouble is not None:
            raise trouble
        return len(sent)

    def _headers(self, row: sa.Row[tuple[object, ...]]) -> dict[str, str]:
        """CloudEvents 1.0 binary mode. Nats-Msg-Id makes a second sending of the same row a duplicate."""
        headers = {
            "Nats-Msg-Id": row.event_id,
            "ce-specversion": "1.0",
            "ce-id": row.event_id,
            "ce-source": f"rochdale/{self._service}",
            "ce-type": row.message_type,
            "ce-time": row.event_time.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "content-type": "application/protobuf",
        }
        if context := traceparent() or row.traceparent:
            headers["traceparent"] = context
        return headers


async def prune(database: Database) -> None:
    """Forgets events sent long ago, and that events were handled which no stream holds any longer."""
    async with database.begin() as connection:
        await connection.execute(outbox_table.delete().where(outbox_table.c.publish_time < now() - KEEP_PUBLISHED))
        await connection.execute(inbox_table.delete().where(inbox_table.c.handle_time < now() - KEEP_HANDLED))
