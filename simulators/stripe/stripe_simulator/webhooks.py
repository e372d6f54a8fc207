"""Webhook delivery: signed like Stripe's, apart from the request, again and again until the receiver says 2xx.

Leaves out which endpoint hears what, which `Unit.emit` decides.
"""

import asyncio
import hashlib
import hmac
import json
import time

import httpx

from .errors import Json
from .faults import WEBHOOK_FAULTS, Fault, Faults
from .store import Store
from .unit import table_of

RECEIVER_TIMEOUT_SECONDS = 10.0
REORDER_PATIENCE_SECONDS = 2.0


def signature(payload: bytes, secret: str, timestamp: int) -> str:
    """The `Stripe-Signature` header: HMAC-SHA256 over `timestamp.payload`."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


class Webhooks:
    """One task per delivery; per endpoint they go one at a time, first attempts in the order of their events."""

    def __init__(self, store: Store, faults: Faults, *, retry_seconds: float, retry_most_seconds: float) -> None:
        self._store = store
        self._faults = faults
        self._retry_seconds = retry_seconds
        self._retry_most_seconds = retry_most_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: dict[str, asyncio.Lock] = {}
        self._held_back: dict[str, asyncio.Event] = {}
        self._client: httpx.AsyncClient | None = None

    def resume(self) -> None:
        """Takes up the deliveries that an earlier process left undone."""
        self.schedule(list(self._store.rows("delivery")))

    def schedule(self, deliveries: list[Json]) -> None:
        """Starts delivering; returns at once."""
        for delivery in deliveries:
            task = asyncio.get_running_loop().create_task(self._deliver(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drained(self, timeout: float = 10.0) -> None:
        """Returns when nothing is left to deliver; raises TimeoutError when that takes too long."""
        async with asyncio.timeout(timeout):
            while self._tasks:
                await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Ends every attempt; what is undelivered stays in the store for the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _deliver(self, delivery: Json) -> None:
        place = delivery["endpoint"]
        turn = self._turns.setdefault(place, asyncio.Lock())
        fault = self._faults.take(WEBHOOK_FAULTS, delivery["type"])
        if fault is not None and fault.kind == "webhook_drop":
            self._done(delivery)
            return
        if fault is not None and fault.kind == "webhook_delay":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind == "webhook_reorder":
            await self._overtaken(place)
        wait = self._retry_seconds
        while True:
            async with turn:
                endpoint = self._store.get("webhook_endpoint", place)
                event = self._store.get(table_of("event", delivery.get("account")), delivery["event"])
                accepted = endpoint is None or event is None or await self._post(endpoint, event, fault)
                fault = None  # it has happened; further attempts are honest
                if accepted:
                    self._done(delivery)
            if (later := self._held_back.pop(place, None)) is not None:
                later.set()
            if accepted:
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, self._retry_most_seconds)

    async def _overtaken(self, place: str) -> None:
        # Waits for the endpoint's next delivery to go first. When none comes, there was nothing to change places with.
        later = self._held_back.setdefault(place, asyncio.Event())
        try:
            async with asyncio.timeout(REORDER_PATIENCE_SECONDS):
                await later.wait()
        except TimeoutError:
            self._held_back.pop(place, None)

    async def _post(self, endpoint: Json, event: Json, fault: Fault | None) -> bool:
        kind = fault.kind if fault is not None else None
        payload = json.dumps(event, indent=2).encode()
        # The wall clock, never the injected one: receivers compare the timestamp with their own clock.
        timestamp = int(time.time()) - (3_600 if kind == "webhook_old_timestamp" else 0)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(payload, endpoint["_secret"], timestamp),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        if kind == "webhook_tamper":
            payload += b" "
        accepted = False
        for _ in range(2 if kind == "webhook_duplicate" else 1):
            accepted = await self._accepted(endpoint["url"], payload, headers)
        # Whatever the receiver said to a forgery, the true event is still owed to it.
        return accepted and kind not in ("webhook_tamper", "webhook_old_timestamp")

    async def _accepted(self, url: str, payload: bytes, headers: dict[str, str]) -> bool:
        if self._client is None:
            # Not the environment's proxies: the receivers of a simulator are on this machine.
            self._client = httpx.AsyncClient(timeout=RECEIVER_TIMEOUT_SECONDS, trust_env=False)
        try:
            response = await self._client.post(url, content=payload, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return response.is_success

    def _done(self, delivery: Json) -> None:
        changes: dict[tuple[str, str], Json | None] = {("delivery", delivery["id"]): None}
        table = table_of("event", delivery.get("account"))
        event = self._store.get(table, delivery["event"])
        if event is not None:
            event["pending_webhooks"] = max(0, event["pending_webhooks"] - 1)
            changes[table, event["id"]] = event
        self._store.commit(changes)
