"""What billing does unasked: asks again for lost answers, closes orders, gives money back, looks for lost webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from billing import store
from billing.attempts import Attempts
from billing.config import Config
from billing.domain.orders import OVERDUE
from billing.domain.payments import RAIL_SILENT, REFUNDED, UNANSWERED, Payment
from billing.rail import RailRefused, RailUnavailable
from billing.settlement import close
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale_kit.clock import now
from rochdale_kit.database import LOST, Database

log = logging.getLogger(__name__)

BATCH = 100
# Stripe forgets an idempotency key after 24 hours; by then the same question could make a second attempt.
KEY_LIFE = dt.timedelta(hours=23)


class Keeper:
    """Two loops. Each step is safe to repeat and safe beside another replica's."""

    def __init__(self, database: Database, attempts: Attempts, config: Config) -> None:
        self._database = database
        self._attempts = attempts
        self._config = config

    async def keep(self) -> None:
        """Until canceled: lost answers, closing, refunds."""
        while True:
            for step in (self._recover, self._close, self._refund):
                await _patiently(step)
            await asyncio.sleep(self._config.round_seconds)

    async def sweep(self) -> None:
        """Until canceled: payments whose webhook should have come by now."""
        while True:
            await asyncio.sleep(self._config.sweep_seconds)
            await _patiently(self._look)

    async def _to_ask(self, states: tuple[pb.PaymentState.ValueType, ...], age_seconds: float) -> list[Payment]:
        """Marked as asked before they are, so that one that fails each time does not keep the others waiting."""
        at = now()
        async with self._database.begin() as connection:
            found = await store.payments.to_ask(connection, states, at - dt.timedelta(seconds=age_seconds), BATCH)
            if found:
                await store.payments.asked(connection, [payment.id for payment in found], at)
        return found

    async def _recover(self) -> None:
        for payment in await self._to_ask(UNANSWERED, self._config.recover_age_seconds):
            # One that fails each time must not keep the others waiting.
            with contextlib.suppress(RailUnavailable):
                if now() - payment.create_time > KEY_LIFE:
                    await self._attempts.give_up(payment, RAIL_SILENT)
                else:
                    await self._attempts.advance(payment)

    async def _look(self) -> None:
        for payment in await self._to_ask((pb.PAYMENT_STATE_PENDING,), self._config.sweep_age_seconds):
            try:
                await self._attempts.look(payment)
            except RailUnavailable:
                continue
            except RailRefused as refused:
                log.error("%s is not to be found at Stripe: %s", payment.name, refused)

    async def _close(self) -> None:
        async with self._database.read() as connection:
            ids = await store.orders.to_close(connection, now(), BATCH)
        for id in ids:
            if not await self._close_one(id):
                async with self._database.read() as connection:
                    live = await store.payments.live_of(connection, id)
                # One that is being paid just now is left; the next round finds it paid or failed.
                with contextlib.suppress(RailUnavailable):
                    if live is None or await self._attempts.give_up(live):
                        await self._close_one(id)

    async def _close_one(self, id: str) -> bool:
        async with self._database.begin() as connection:
            order = await store.orders.lock(connection, id)
            if order is None or order.state != pb.ORDER_STATE_OPEN:
                return True
            return await close(connection, order, order.closing or OVERDUE)

    async def _refund(self) -> None:
        async with self._database.read() as connection:
            due = await store.payments.to_refund(connection, BATCH)
        for payment in due:
            try:
                refund_id = await self._attempts.rail.refund(payment)
            except RailUnavailable as error:
                log.warning("%s waits to be given back: %s", payment.name, error)
                continue
            except RailRefused as refused:
                # A person must look; it is tried again each round, and each time says so.
                log.error("%s cannot be given back: %s", payment.name, refused)
                continue
            async with self._database.begin() as connection:
                await store.orders.lock(connection, payment.order_id)
                current = await store.payments.get(connection, payment.id)
                assert current is not None, "payments are never deleted"
                given = replace(current, refund_due=False, refund_id=refund_id, failure_code=REFUNDED)
                await store.payments.save(connection, given)
            log.warning("%s was given back as %s", payment.name, refund_id)


async def _patiently(step: Callable[[], Awaitable[None]]) -> None:
    """A database that is away is waited out; anything else ends the loop, and with it the process."""
    try:
        await step()
    except LOST as error:
        log.warning("%s waits for the database: %s", step.__name__.strip("_"), error)
