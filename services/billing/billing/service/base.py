"""What every RPC of BillingService shares: its parts, whose order it is, and how an attempt in the way is ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.attempts import Attempts
from billing.disputing import Disputing
from billing.domain import payments
from billing.domain.orders import Order
from billing.domain.payments import Payment
from billing.domain.subscriptions import Dunning
from billing.rail import RailUnavailable
from billing.refunding import Refunding
from billing.saving import Saving
from billing.settlement import Settlement
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.clock import now
from rochdale_kit.database import Database
from rochdale_kit.identity import caller, roles
from rochdale_kit.refusals import Refusal, not_found

READERS = roles(identity_pb2.ROLE_BUYER, identity_pb2.ROLE_STEWARD, identity_pb2.ROLE_OPERATOR)
# Each round gives up the attempt it found; more than a few in a row are a fight that waiting ends.
ROUNDS = 4

T = TypeVar("T")

Context = Any  # grpc.aio.ServicerContext, which no RPC of ours looks at


class Occupied(Exception):
    """The order has a live attempt. Raised to undo the transaction, since the rail is asked outside of one."""

    def __init__(self, order: Order, live: Payment) -> None:
        super().__init__(live.name)
        self.order = order
        self.live = live


class Parts:
    """Built once; every noun's RPCs find here what they need."""

    def __init__(
        self,
        database: Database,
        attempts: Attempts,
        settlement: Settlement,
        refunding: Refunding,
        disputing: Disputing,
        saving: Saving,
        rules: Dunning,
        public_url: str,
        cards: bool,
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._settlement = settlement
        self._refunding = refunding
        self._disputing = disputing
        self._saving = saving
        self._rules = rules
        self._public_url = public_url
        self._cards = cards

    async def making_way(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does the work; an attempt in its way is ended first. Refuses with PAYMENT_IN_PROGRESS, RAIL_UNAVAILABLE."""
        for _ in range(ROUNDS):
            try:
                return await work()
            except Occupied as found:
                order, live = found.order, found.live
            try:
                if not await self._attempts.give_up(live):
                    break
            except RailUnavailable:
                raise payments.rail_unavailable(order, self._cards) from None
        raise payments.in_progress(live)


def last(name: str) -> str:
    return name.rsplit("/", 1)[1]


def organization() -> str | None:
    """Whose orders the caller may see; None, the market itself, sees all."""
    return None if caller().is_operator else caller().organization


async def require_still_member(connection: AsyncConnection, asked: str) -> None:
    """Refuses with NOT_FOUND a steward who left: a session may outlive a membership by a quarter of an hour. A member who
    was not heard of yet has not left, and a key without one belongs to the organization."""
    if caller().member:
        _, cooperative, _, id = caller().member.split("/")
        member = await store.members.member(connection, cooperative, id)
        if member is not None and not (member.leave_time is None and member.known(now())):
            raise not_found(asked)


async def visible(connection: AsyncConnection, order_name: str, asked: str) -> Order:
    """An order the caller may see; another's answers as if it did not exist."""
    order = await store.orders.get(connection, last(order_name), organization())
    if order is None:
        raise not_found(asked)
    return order


def trimmed(bank_reference: str) -> str:
    """Spaces around a reference are a slip of the hand, and must not make a second one of it."""
    if trimmed := bank_reference.strip():
        return trimmed
    raise Refusal("REQUEST_INVALID", "bank_reference: must not be blank.", field="bank_reference", rule="blank")
