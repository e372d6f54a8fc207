"""Whether the broker can still be heard: heartbeats, and what was revoked. Without both nothing is served.

A heartbeat says how many revocations there are; the revocations come by JetStream, or are fetched when one is missing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError

from data_gateway.broker import Broker
from data_gateway.grants import Grants
from data_gateway.keys import RemoteKeys
from data_gateway.revocations import Revocations
from rochdale.access_broker.v1 import events_pb2
from rochdale_kit.clock import from_timestamp, seconds
from rochdale_kit.database import LOST, Database
from rochdale_kit.refusals import Kind, Refusal, unavailable

log = logging.getLogger(__name__)

PREFIX = b"rochdale-heartbeat-v1"
CLOCK_SECONDS = 30.0
# JetStream usually brings a revocation in milliseconds; after this long it is fetched instead.
FETCH_AFTER_SECONDS = 0.3
# How long a revocation may be announced but not here. Counted from the heartbeat that announced it.
BEHIND_SECONDS = 2.0
FORGET_SECONDS = 60.0
_PAGE = 1000


class TrustFeed:
    """Fails closed: everything it does not know for certain is a no."""

    def __init__(
        self,
        cooperative: str,
        database: Database,
        nats: NatsClient,
        broker: Broker,
        keys: RemoteKeys,
        grants: Grants,
        revocations: Revocations,
        silence_seconds: float,
    ) -> None:
        self._gateway = f"gateways/{cooperative}"
        self._subject = f"rochdale.access_broker.v1.heartbeat.{cooperative}"
        self._database = database
        self._nats = nats
        self._broker = broker
        self._keys = keys
        self._grants = grants
        self._revocations = revocations
        self._silence_seconds = silence_seconds
        self._recovered = False
        self._heard_at = float("-inf")
        self._newest = 0.0
        self._told_sequence = 0
        self._behind_since = 0.0
        self._behind = asyncio.Event()

    def require(self) -> None:
        """Refuses with FEED_SILENT or FEED_BEHIND; asked at every request and while streaming."""
        current = time.monotonic()
        silent = current - self._heard_at
        if not self._recovered or silent >= self._silence_seconds:
            raise Refusal(
                "FEED_SILENT",
                f"This gateway has heard nothing from the broker for {self._silence_seconds:g} seconds and serves "
                "nobody until it does. Try again soon.",
                Kind.FORBIDDEN,
                feed_silence_seconds=f"{self._silence_seconds:g}",
            )
        lagging = self._revocations.applied_sequence < self._told_sequence
        if self._revocations.unreadable or (lagging and current - self._behind_since > BEHIND_SECONDS):
            raise Refusal(
                "FEED_BEHIND",
                "This gateway knows of revocations it has not applied yet and serves nobody until it has. Try again "
                "soon.",
                Kind.FORBIDDEN,
                applied_sequence=self._revocations.applied_sequence,
                last_sequence=self._told_sequence,
            )

    async def check(self) -> None:
        """For health."""
        try:
            self.require()
        except Refusal as refusal:
            raise unavailable("The broker") from refusal

    async def run(self) -> None:
        """Until canceled: hears, recovers what was missed while we were away, then fetches whatever does not arrive."""
        subscription = await self._nats.subscribe(self._subject, cb=self._on_message)
        try:
            await self._recover()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._catch_up())
                group.create_task(self._forget())
        finally:
            try:
                await subscription.unsubscribe()
            except NatsError:
                log.debug("the connection is gone already")

    async def _on_message(self, message: Any) -> None:
        try:
            await self.hear(message.data)
        except Exception as error:  # whatever a hostile message sets off, it is no heartbeat
            log.warning("a heartbeat cannot be read: %s", type(error).__name__)

    async def hear(self, data: bytes) -> None:
        """Takes one signed heartbeat, or ignores it."""
        try:
            signed = events_pb2.SignedHeartbeat.FromString(data)
            beat = events_pb2.Heartbeat.FromString(signed.heartbeat)
        except DecodeError:
            log.warning("a heartbeat cannot be read")
            return
        if beat.gateway != self._gateway:
            return
        if signed.key_id not in self._keys.keys:
            try:
                await self._keys.refresh()
            except grpc.aio.AioRpcError:
                log.warning("a heartbeat is signed with a key that is not known, and the broker cannot be asked")
        known = not self._revocations.key(signed.key_id)
        if not known or not self._keys.keys.verify(signed.key_id, signed.signature, PREFIX + signed.heartbeat):
            log.warning("a heartbeat is not the broker's")
            return
        told = from_timestamp(beat.broker_time).timestamp()
        if abs(told - seconds()) > CLOCK_SECONDS:
            log.warning("the broker's clock and ours differ by more than %g s", CLOCK_SECONDS)
            return
        # Whoever owns the NATS server can repeat an old heartbeat, to hide a revocation for as long as clocks may differ.
        if told <= self._newest:
            return
        self._newest = told
        self._heard_at = time.monotonic()
        # Another replica may have counted a moment earlier; the largest number is the one not to be missed.
        if beat.last_sequence > self._told_sequence:
            if self._revocations.applied_sequence >= self._told_sequence:
                self._behind_since = time.monotonic()
            self._told_sequence = beat.last_sequence
        if self._revocations.applied_sequence < self._told_sequence:
            self._behind.set()

    async def _recover(self) -> None:
        while not self._recovered:
            try:
                await self._fetch()
                await self._fetch_chains()
                self._recovered = True
            except (grpc.aio.AioRpcError, *LOST) as error:
                log.warning("the feed cannot be recovered yet: %s", type(error).__name__)
                await asyncio.sleep(0.5)

    async def _catch_up(self) -> None:
        while True:
            await self._behind.wait()
            await asyncio.sleep(FETCH_AFTER_SECONDS)
            if self._revocations.applied_sequence >= self._told_sequence:
                self._behind.clear()
                continue
            try:
                await self._fetch()
            except (grpc.aio.AioRpcError, *LOST) as error:
                log.warning("missed revocations cannot be fetched: %s", type(error).__name__)

    async def _fetch(self) -> None:
        """Every revocation after the last one applied."""
        while True:
            after = self._revocations.applied_sequence
            reply = await self._broker.revocations(after)
            if reply.last_sequence < after:
                log.error("the broker's feed ends at %d, ours at %d: was it restored?", reply.last_sequence, after)
            async with self._database.begin() as connection:
                await self._revocations.apply(connection, reply.revocations)
            if len(reply.revocations) < _PAGE or self._revocations.applied_sequence == after:
                return

    async def _fetch_chains(self) -> None:
        async for chain in self._broker.chains():
            async with self._database.begin() as connection:
                await self._grants.take(connection, chain, self._revocations.grant(chain.grant.name))

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            try:
                async with self._database.begin() as connection:
                    await self._revocations.forget(connection)
            except LOST as error:
                log.warning("old revocations cannot be forgotten yet: %s", error)
