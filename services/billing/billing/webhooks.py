"""Stripe's webhooks: the door that verifies and keeps each hint once, and the worker that looks into them.

A webhook is a hint that something changed. What changed is read from Stripe, never from what was sent.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import re
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.attempts import Attempts
from billing.disputing import Disputing
from billing.rail import RailRefused, RailUnavailable
from billing.refunding import Refunding
from billing.saving import Saving
from billing.settlement import Also, Settlement
from billing.store.webhooks import Webhook
from rochdale_kit.clock import now
from rochdale_kit.database import Database, is_lost
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.telemetry import Telemetry

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024
# Longer than a worker needs for one, its two calls to Stripe included; a dead worker's comes again after it.
LEASE = dt.timedelta(seconds=25)
FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS = 0.5, 3600.0
# As long as Stripe itself repeats a webhook. What nobody knew by then was never ours.
KEEP_UNKNOWN = dt.timedelta(days=3)
_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
_KINDS = ("payment_intent", "checkout.session", "charge", "refund", "charge.dispute")
# Told in Stripe's older words too.
_ALSO = {"charge.refund": "refund"}


def kind_of(type: str) -> str | None:
    """Which kind of object an event type is about; None for one that says nothing about a payment or what becomes of it."""
    kind = type.rsplit(".", 1)[0]
    return kind if kind in _KINDS else _ALSO.get(kind)


def is_id(text: str) -> bool:
    """Whether Stripe could have made it. It becomes part of an address of its API, where "." would be another address."""
    return _ID.fullmatch(text) is not None


def read(body: bytes, live: bool) -> tuple[str, str, str]:
    """Event id, type and object id of a verified body.

    Refuses with WEBHOOK_UNREADABLE, and with WEBHOOK_NOT_OURS for another mode or another account than the key's.
    """
    try:
        event: Any = json.loads(body)
        event_id, type, object = event["id"], event["type"], event["data"]["object"]
        mode, account = event["livemode"], event.get("account")
        # Some events are about things without an id, such as a balance.
        texts = (event_id, type, object.get("id", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        texts, mode, account = (None, None, None), None, None
    readable = all(isinstance(text, str) for text in texts) and isinstance(mode, bool)
    if not readable or (kind_of(texts[1]) is not None and not is_id(texts[2])):
        raise Refusal("WEBHOOK_UNREADABLE", "The body is not an event.", Kind.INVALID)
    if mode is not live or account:
        log.error("a webhook of another mode or account was signed with our secret: %s", texts[0])
        raise Refusal("WEBHOOK_NOT_OURS", "The event is of another mode or account.", Kind.INVALID)
    return texts


class Inbox:
    """Keeps verified hints and looks into them. Any number of `run` may, also in other replicas: one claims each hint."""

    def __init__(
        self,
        database: Database,
        attempts: Attempts,
        settlement: Settlement,
        refunding: Refunding,
        disputing: Disputing,
        saving: Saving,
        telemetry: Telemetry,
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._settlement = settlement
        self._refunding = refunding
        self._disputing = disputing
        self._saving = saving
        self._telemetry = telemetry
        self._received = asyncio.Event()

    async def receive(self, event_id: str, type: str, object_id: str) -> None:
        """Keeps a verified hint; a second arrival changes nothing. One that is about no payment is not kept."""
        if kind_of(type) is None:
            return
        async with self._database.begin() as connection:
            new = await store.webhooks.receive(connection, event_id, type, object_id, now())
        if new:
            self._received.set()

    async def run(self) -> None:
        """Until canceled. A database that is away is waited out; anything else ends the loop, and the process."""
        while True:
            try:
                if not await self._next():
                    await self._wait()
            except Exception as error:
                if not is_lost(error):
                    raise
                log.warning("webhooks wait for the database: %s", error)
                await asyncio.sleep(0.5)

    async def _wait(self) -> None:
        # Woken by this process's own door; the poll finds what another left and what was put off.
        try:
            async with asyncio.timeout(0.5):
                await self._received.wait()
        except TimeoutError:
            return
        self._received.clear()

    async def _next(self) -> bool:
        at = now()
        async with self._database.begin() as connection:
            webhook = await store.webhooks.claim(connection, at, at + LEASE)
        if webhook is None:
            return False
        with self._telemetry.span(f"webhook {webhook.type}"):
            await self._look_into(webhook)
        return True

    async def _look_into(self, webhook: Webhook) -> None:
        kind = kind_of(webhook.type)
        assert kind is not None, "only such events are kept"

        async def applied(connection: AsyncConnection) -> None:
            await store.webhooks.applied(connection, webhook.event_id, "applied", now())

        try:
            if not await self._heard(kind, webhook.object_id, applied):
                await self._put_off(webhook, "unknown")
        except RailUnavailable:
            await self._put_off(webhook, "rail unavailable")
        except RailRefused as refused:
            await self._put_off(webhook, refused.code)
        except Exception as error:
            if is_lost(error):
                raise
            # A fault of ours must not end the process each time the hint comes up; it is put off, and the log says so.
            log.exception("webhook %s about %s failed", webhook.event_id, webhook.object_id)
            await self._put_off(webhook, "failed")

    async def _heard(self, kind: str, object_id: str, applied: Also) -> bool:
        """Whether the object is ours; then what the rail says of it is applied."""
        if kind == "charge.dispute":
            return await self._disputing.look(object_id, applied) is not None
        if kind == "refund":
            return await self._refunding.look(object_id, applied) is not None
        found = await self._attempts.rail.fetch(kind, object_id)
        # The effect belongs to the payment, whichever of its events came first; the others find it done.
        payment = await self._settlement.payment(found[0]) if found is not None else None
        if found is None and kind == "checkout.session":
            return await self._saving.hear(object_id, applied)
        if found is None or payment is None:
            return False
        await self._attempts.hear(payment, found[1], applied)
        return True

    async def _put_off(self, webhook: Webhook, why: str) -> None:
        at = now()
        async with self._database.begin() as connection:
            if why != "rail unavailable" and at - webhook.receive_time > KEEP_UNKNOWN:
                log.error("webhook %s about %s is discarded: %s", webhook.event_id, webhook.object_id, why)
                await store.webhooks.applied(connection, webhook.event_id, f"discarded: {why}", at)
                return
            delay = min(FIRST_DELAY_SECONDS * 2 ** min(webhook.attempts - 1, 20), MOST_DELAY_SECONDS)
            log.warning("webhook %s about %s waits %.1f s: %s", webhook.event_id, webhook.object_id, delay, why)
            await store.webhooks.put_off(connection, webhook.event_id, why, at + dt.timedelta(seconds=delay))
