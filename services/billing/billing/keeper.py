"""What billing does unasked: asks again for lost answers, closes orders, gives money back, looks for lost webhooks."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from billing import store
from billing.attempts import Attempts
from billing.config import Config
from billing.domain import postings
from billing.domain.orders import OVERDUE
from billing.domain.payments import KEY_LIFE, RAIL_SILENT, REFUNDED, UNANSWERED, Payment
from billing.rail import RailRefused, RailUnavailable
from billing.settlement import close
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale_kit.clock import now
from rochdale_kit.database import Database, is_lost

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 100


class Keeper:
    """Two loops. Each step is safe to repeat and safe beside another replica's."""

    def __init__(self, database: Database, attempts: Attempts, config: Config) -> None:
        self._database = database
        self._attempts = attempts
        self._config = config
        self._put_off: dict[str, dt.datetime] = {}

    async def keep(self) -> None:
        """Until canceled: lost answers, closing, refunds."""
        while True:
            for step in (self._recover, self._close, self._refund):
                await patiently(step)
            await asyncio.sleep(self._config.round_seconds)

    async def sweep(self) -> None:
        """Until canceled: payments whose webhook should have come by now."""
        while True:
            await asyncio.sleep(self._config.sweep_seconds)
            await patiently(self._look)

    async def _to_ask(self, states: tuple[pb.PaymentState.ValueType, ...], age_seconds: float) -> list[Payment]:
        """Marked as asked before they are, so that one that fails each time does not keep the others waiting."""
        at = now()
        async with self._database.begin() as connection:
            found = await store.payments.to_ask(connection, states, at - dt.timedelta(seconds=age_seconds), BATCH)
            if found:
                await store.payments.asked(connection, [payment.id for payment in found], at)
        return found

    async def _recover(self) -> None:
        async def again(payment: Payment) -> None:
            if now() - payment.create_time > KEY_LIFE:
                await self._attempts.give_up(payment, RAIL_SILENT)
            else:
                await self._attempts.advance(payment)

        await each(await self._to_ask(UNANSWERED, self._config.recover_age_seconds), again)

    async def _look(self) -> None:
        async def look(payment: Payment) -> None:
            await self._attempts.look(payment)

        await each(await self._to_ask((pb.PAYMENT_STATE_PENDING,), self._config.sweep_age_seconds), look)

    async def _close(self) -> None:
        at = now()
        # Only to ask less often; another replica, or this one after a restart, asks once more.
        self._put_off = {id: until for id, until in self._put_off.items() if until > at}
        async with self._database.read() as connection:
            due = await store.orders.to_close(connection, at, BATCH, besides=self._put_off)
        await each(due, self._close_order)

    async def _close_order(self, id: str) -> None:
        # Before it is tried: a bank debit takes days before it pays, or fails and leaves the order to be closed, and what
        # fails each time must not keep the others waiting.
        self._put_off[id] = now() + dt.timedelta(seconds=self._config.sweep_seconds)
        if await self._close_unless_paid(id):
            return
        async with self._database.read() as connection:
            live = await store.payments.live_of(connection, id)
        if live is None or await self._attempts.give_up(live):
            await self._close_unless_paid(id)

    async def _close_unless_paid(self, id: str) -> bool:
        """Whether the order is closed, or paid. False when somebody may be paying it."""
        async with self._database.begin() as connection:
            order = await store.orders.lock(connection, id)
            if order is None or order.state != pb.ORDER_STATE_OPEN:
                return True
            return await close(connection, order, order.closing or OVERDUE)

    async def _refund(self) -> None:
        async with self._database.begin() as connection:
            due = await store.payments.to_refund(connection, BATCH)
            if due:
                await store.payments.asked(connection, [payment.id for payment in due], now())
        await each(due, self._give_back)

    async def _give_back(self, payment: Payment) -> None:
        returned = await self._attempts.rail.refund(payment)
        async with self._database.begin() as connection:
            await store.orders.lock(connection, payment.order_id)
            current = await store.payments.get(connection, payment.id)
            assert current is not None, "payments are never deleted"
            given = replace(current, refund_due=False, refund_id=returned.refund_id, failure_code=REFUNDED)
            if current.taken is not None:
                if not returned.transaction_id:
                    # Asked again under the same key; what it moved is not known before Stripe's books have it.
                    raise RailUnavailable(f"{returned.refund_id} has moved no money yet.")
                moved = postings.Movement(postings.STRIPE, returned.transaction_id, returned.amount)
                await store.ledger.post(
                    connection,
                    postings.unexpected_charge_returned(returned.refund_id, current.taken.amount, moved, now()),
                )
            await store.payments.save(connection, given)
        log.warning("%s was given back as %s", payment.name, returned.refund_id)


async def each(things: Sequence[T], act: Callable[[T], Awaitable[None]]) -> None:
    """One that fails, whatever the reason, must not keep the others waiting; the next round comes to it again."""
    for thing in things:
        try:
            await act(thing)
        except RailUnavailable as error:
            log.warning("%s waits for Stripe: %s", _name(thing), error)
        except RailRefused as refused:
            log.error("%s: Stripe refuses: %s", _name(thing), refused)
        except Exception as error:
            # Every fault of a statement comes as the error of the driver that a lost database comes as, too.
            if is_lost(error):
                raise
            log.exception("%s failed", _name(thing))


def _name(thing: object) -> object:
    return thing.name if isinstance(thing, Payment) else thing


async def patiently(step: Callable[[], Awaitable[None]]) -> None:
    """A database that is away is waited out; anything else ends the loop, and with it the process."""
    try:
        await step()
    except Exception as error:
        if not is_lost(error):
            raise
        log.warning("%s waits for the database: %s", step.__qualname__, error)
