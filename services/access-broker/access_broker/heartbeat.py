"""Once a second, to each gateway: nothing was missed. A gateway that hears none for ten seconds serves nobody."""

from __future__ import annotations

import asyncio
import logging

from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError

from access_broker import store
from rochdale.access_broker.v1 import events_pb2
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.database import LOST, Database
from rochdale_kit.keyring import LiveKeyring

log = logging.getLogger(__name__)

PREFIX = b"rochdale-heartbeat-v1"
EVERY_SECONDS = 1.0


def subject_for(cooperative: str) -> str:
    return f"rochdale.access_broker.v1.heartbeat.{cooperative}"


class Heartbeats:
    """Says the last committed number of every feed, signed. Not kept in a stream: an old one says nothing.

    With several replicas each says so for itself. That is harmless: every one of them reads what is committed, a gateway
    keeps the largest number it heard, and losing one replica silences nobody.
    """

    def __init__(self, database: Database, nats: NatsClient, keys: LiveKeyring) -> None:
        self._database = database
        self._nats = nats
        self._keys = keys

    async def run(self) -> None:
        """Until canceled. Without the database there is nothing true to say, so nothing is said and gateways close."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                # While it reconnects, the client keeps what is published for later; a heartbeat must not be late.
                if self._nats.is_connected:
                    async with asyncio.timeout(5):
                        await self._beat()
            except (NatsError, *LOST) as error:
                log.warning("no heartbeat: %s", error)
            await asyncio.sleep(max(0.05, begun + EVERY_SECONDS - loop.time()))

    async def _beat(self) -> None:
        # The clock is read before the numbers: whatever was recorded by that time is counted in them.
        at = now()
        async with self._database.read() as connection:
            feeds = await store.feeds(connection)
        key = self._keys.current
        for cooperative, last_sequence in feeds:
            heartbeat = events_pb2.Heartbeat(
                gateway=f"gateways/{cooperative}", last_sequence=last_sequence, broker_time=to_timestamp(at)
            ).SerializeToString()
            signed = events_pb2.SignedHeartbeat(
                heartbeat=heartbeat, key_id=key.key_id, signature=key.sign(PREFIX + heartbeat)
            )
            await self._nats.publish(subject_for(cooperative), signed.SerializeToString())
