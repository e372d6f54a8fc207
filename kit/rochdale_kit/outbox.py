"""Events going out: a row beside the change it describes, then a CloudEvent on JetStream."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import re

import sqlalchemy as sa
from google.protobuf.message import Message
from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncConnection

from rochdale_kit.clock import new_id, now
from rochdale_kit.database import LOST, Database, outbox_table
from rochdale_kit.telemetry import Telemetry, traceparent

log = logging.getLogger(__name__)

BATCH = 500
# Longer than any consumer is expected to be down; what is older is read again from its owner, not from the stream.
STREAM_MAX_AGE = dt.timedelta(days=30)
KEEP_PUBLISHED = dt.timedelta(days=7)


def subject_of(message_type: str) -> str:
    """rochdale.licensing.v1.LicenseActivated -> rochdale.licensing.v1.license_activated"""
    package, name = message_type.rsplit(".", 1)
    return f"{package}.{re.sub(r'(?<!^)(?=[A-Z])', '_', name).lower()}"


async def announce(connection: AsyncConnection, event: Message, at: dt.datetime | None = None) -> None:
    """Writes an event beside the change it describes. It is sent after the transaction commits, or never."""
    message_type = event.DESCRIPTOR.full_name
    await connection.execute(
        outbox_table.insert().values(
            event_id=new_id("evt"),
            message_type=message_type,
            subject=subject_of(message_type),
            body=event.SerializeToString(),
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
    """Sends unpublished rows. Several replicas may run; each row is locked by the one that sends it."""

    def __init__(self, service: str, database: Database, nats: NatsClient, telemetry: Telemetry) -> None:
        self._service = service
        self._database = database
        self._nats = nats
        self._telemetry = telemetry

    async def run(self) -> None:
        """Until canceled. A lost connection is waited out; anything else ends the loop, and with it the process."""
        ready = False
        while True:
            try:
                if not ready:
                    await ensure_stream(self._nats, self._service)
                    ready = True
                if await self._publish_batch() < BATCH:
                    await self._wait()
            except (NatsError, *LOST) as error:
                log.warning("outbox waits: %s", error)
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
        async with self._database.begin() as connection:
            # We select unpublished rows rather than "position > last": positions become visible out of order, and a
            # slow transaction's event would be skipped for ever.
            rows = (
                await connection.execute(
                    sa.select(table)
                    .where(table.c.publish_time.is_(None))
                    .order_by(table.c.position)
                    .limit(BATCH)
                    .with_for_update(skip_locked=True)
                )
            ).all()
            if not rows:
                return 0
            stream = self._nats.jetstream()
            for row in rows:
                # In order and one by one: a consumer must not hear of an end before its beginning.
                with self._telemetry.span(
                    f"publish {row.message_type.rsplit('.', 1)[1]}", SpanKind.PRODUCER, parent=row.traceparent or ""
                ):
                    await stream.publish(
                        row.subject, row.body, timeout=5, stream=self._service, headers=self._headers(row)
                    )
            await connection.execute(
                table.update().where(table.c.position.in_([row.position for row in rows])).values(publish_time=now())
            )
        return len(rows)

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
    """Deletes events sent long ago."""
    async with database.begin() as connection:
        await connection.execute(outbox_table.delete().where(outbox_table.c.publish_time < now() - KEEP_PUBLISHED))
