"""Billing's RPCs, each told as load, decide, save, announce, reply. Rules are in domain, queries in store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.attempts import Attempts
from billing.domain import orders, payments
from billing.domain.orders import Order
from billing.domain.payments import Payment
from billing.rail import RailUnavailable
from billing.settlement import Settlement, pay
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import billing_pb2_grpc
from rochdale.identity.v1 import identity_pb2
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import Database, first_answer, remember
from rochdale_kit.identity import caller, roles
from rochdale_kit.money import require_currency, to_stripe_amount
from rochdale_kit.refusals import Refusal, not_found

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["BillingService"]
_READERS = roles(identity_pb2.ROLE_BUYER, identity_pb2.ROLE_STEWARD, identity_pb2.ROLE_OPERATOR)
ACCESS = {
    "GetOrder": _READERS,
    "ListOrders": _READERS,
    "StartPayment": roles(identity_pb2.ROLE_BUYER),
    "GetPayment": _READERS,
    "ConfirmBankTransfer": roles(identity_pb2.ROLE_OPERATOR),
}
# Each round gives up the attempt it found; more than a few in a row are a fight that waiting ends.
ROUNDS = 4

T = TypeVar("T")

Context = Any  # grpc.aio.ServicerContext, which no RPC of ours looks at


class _Occupied(Exception):
    """The order has a live attempt. Raised to undo the transaction, since the rail is asked outside of one."""

    def __init__(self, order: Order, live: Payment) -> None:
        super().__init__(live.name)
        self.order = order
        self.live = live


class BillingService(billing_pb2_grpc.BillingServiceServicer):
    """Orders and payments."""

    def __init__(
        self, database: Database, attempts: Attempts, settlement: Settlement, public_url: str, cards: bool
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._settlement = settlement
        self._public_url = public_url
        self._cards = cards

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.Order:
        async with self._database.read() as connection:
            return (await _visible(connection, request.name, request.name)).resource()

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.ListOrdersResponse:
        name = f"orders?{_organization()}&{request.state}&{request.license}"
        size = paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            rows = await store.orders.page(
                connection,
                _organization(),
                str(position[0]) if position else None,
                size + 1,
                request.state,
                request.license,
            )
        shown, token = paging.page(name, rows, size, lambda order: (order.id,))
        return pb.ListOrdersResponse(orders=[order.resource() for order in shown], next_page_token=token)

    async def StartPayment(self, request: pb.StartPaymentRequest, context: Context) -> pb.Payment:
        payment, order = await self._making_way(lambda: self._begin(request))
        try:
            payment = await self._attempts.advance(payment)
        except RailUnavailable:
            raise payments.rail_unavailable(order, self._cards) from None
        if payment.failure_code == payments.BELOW_MINIMUM:
            raise payments.below_minimum(payment)
        return payment.resource(for_buyer=True)

    async def _begin(self, request: pb.StartPaymentRequest) -> tuple[Payment, Order]:
        """The attempt, written down before the rail hears of it; for a second arrival the same one as it is now."""
        at = now()
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Payment):
                payment = await store.payments.get(connection, earlier.name.rsplit("/", 1)[1])
                order = await store.orders.get(connection, _id(request.order))
                assert payment is not None and order is not None, "what was answered is never deleted"
                return payment, order
            found = await store.orders.lock(connection, _id(request.order))
            if found is None or found.buyer != caller().organization:
                raise not_found(request.order)
            orders.check_payable(found, at)
            success_url, cancel_url = payments.pages(request.return_url, self._public_url)
            card = request.method != pb.PAYMENT_METHOD_BANK_TRANSFER
            if card and not self._cards:
                raise payments.rail_unavailable(found, enabled=False)
            if card:
                to_stripe_amount(found.amount)
            if live := await store.payments.live_of(connection, found.id):
                raise _Occupied(found, live)
            payment = Payment(
                id=new_id("pay"),
                order_id=found.id,
                method=request.method,
                state=pb.PAYMENT_STATE_STARTING if card else pb.PAYMENT_STATE_PENDING,
                amount=found.amount,
                payment_reference=found.payment_reference,
                create_time=at,
                success_url=success_url,
                cancel_url=cancel_url,
            )
            await store.payments.insert(connection, payment)
            # Only its name is kept: the answer is made anew each time, and a secret is kept in one place.
            await remember(connection, caller().organization, request, pb.Payment(name=payment.name))
            return payment, found

    async def GetPayment(self, request: pb.GetPaymentRequest, context: Context) -> pb.Payment:
        order_name, _, id = request.name.partition("/payments/")
        async with self._database.read() as connection:
            order = await _visible(connection, order_name, request.name)
            payment = await store.payments.get(connection, id)
        if payment is None or payment.order_id != order.id:
            raise not_found(request.name)
        return payment.resource(for_buyer=caller().organization == order.buyer)

    async def ConfirmBankTransfer(self, request: pb.ConfirmBankTransferRequest, context: Context) -> pb.Order:
        return await self._making_way(lambda: self._confirm(request))

    async def _confirm(self, request: pb.ConfirmBankTransferRequest) -> pb.Order:
        at = now()
        async with self._database.read() as connection:
            order = await _visible(connection, request.order, request.order)
        with self._settlement.purchase(order):
            async with self._database.begin() as connection:
                if earlier := await first_answer(connection, caller().organization, request, pb.Order):
                    return earlier
                locked = await store.orders.lock(connection, order.id)
                assert locked is not None, "orders are never deleted"
                orders.check_open(locked)
                require_currency(request.amount.currency)
                orders.check_transfer(locked, request.amount)
                reference = _trimmed(request.bank_reference)
                if not await store.orders.claim_transfer(connection, reference, locked.id, caller().key, at):
                    raise orders.bank_reference_used(reference)
                live = await store.payments.live_of(connection, locked.id)
                if live is not None and live.method != pb.PAYMENT_METHOD_BANK_TRANSFER:
                    raise _Occupied(locked, live)
                if live is None:
                    live = Payment(
                        id=new_id("pay"),
                        order_id=locked.id,
                        method=pb.PAYMENT_METHOD_BANK_TRANSFER,
                        state=pb.PAYMENT_STATE_PENDING,
                        amount=locked.amount,
                        payment_reference=locked.payment_reference,
                        create_time=at,
                    )
                    await store.payments.insert(connection, live)
                await store.payments.save(connection, replace(live, state=pb.PAYMENT_STATE_SUCCEEDED, settle_time=at))
                paid = await pay(connection, replace(locked, pay_time=at))
                return await remember(connection, caller().organization, request, paid.resource())

    async def _making_way(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does the work; an attempt in its way is ended first. Refuses with PAYMENT_IN_PROGRESS, RAIL_UNAVAILABLE."""
        for _ in range(ROUNDS):
            try:
                return await work()
            except _Occupied as found:
                order, live = found.order, found.live
            try:
                if not await self._attempts.give_up(live):
                    break
            except RailUnavailable:
                raise payments.rail_unavailable(order, self._cards) from None
        raise payments.in_progress(live)


def _id(name: str) -> str:
    return name.rsplit("/", 1)[1]


def _organization() -> str | None:
    """Whose orders the caller may see; None, the market itself, sees all."""
    return None if caller().is_operator else caller().organization


async def _visible(connection: AsyncConnection, order_name: str, asked: str) -> Order:
    """An order the caller may see; another's answers as if it did not exist."""
    order = await store.orders.get(connection, _id(order_name), _organization())
    if order is None:
        raise not_found(asked)
    return order


def _trimmed(bank_reference: str) -> str:
    """Spaces around a reference are a slip of the hand, and must not make a second one of it."""
    if trimmed := bank_reference.strip():
        return trimmed
    raise Refusal("REQUEST_INVALID", "bank_reference: must not be blank.", field="bank_reference", rule="blank")
