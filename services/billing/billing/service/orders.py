"""RPCs of orders and their payments."""

from __future__ import annotations

from billing import store
from billing.domain import orders, payments, saved_methods
from billing.domain.orders import Order
from billing.domain.payments import Payment
from billing.rail import RailUnavailable
from billing.service.base import READERS, Context, Occupied, Parts, last, organization, visible
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller, roles
from rochdale_kit.money import to_stripe_amount
from rochdale_kit.refusals import not_found

ACCESS = {
    "GetOrder": READERS,
    "ListOrders": READERS,
    "StartPayment": roles(identity_pb2.ROLE_BUYER),
    "GetPayment": READERS,
}


class Orders(Parts):
    """Orders and their payments."""

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.Order:
        async with self._database.read() as connection:
            return (await visible(connection, request.name, request.name)).resource()

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.ListOrdersResponse:
        name = f"orders?{organization()}&{request.state}&{request.license}"
        size = paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            rows = await store.orders.page(
                connection,
                organization(),
                str(position[0]) if position else None,
                size + 1,
                request.state,
                request.license,
            )
        shown, token = paging.page(name, rows, size, lambda order: (order.id,))
        return pb.ListOrdersResponse(orders=[order.resource() for order in shown], next_page_token=token)

    async def StartPayment(self, request: pb.StartPaymentRequest, context: Context) -> pb.Payment:
        payment, order = await self.making_way(lambda: self._begin(request))
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
                order = await store.orders.get(connection, last(request.order))
                assert payment is not None and order is not None, "what was answered is never deleted"
                return payment, order
            found = await store.orders.lock(connection, last(request.order))
            if found is None or found.buyer != caller().organization:
                raise not_found(request.order)
            orders.check_payable(found, at)
            success_url, cancel_url = payments.pages(request.return_url, self._public_url)
            card = request.method != pb.PAYMENT_METHOD_BANK_TRANSFER
            if card and not self._cards:
                raise payments.rail_unavailable(found, enabled=False)
            if card:
                to_stripe_amount(found.amount)
            saved = None
            if request.method == pb.PAYMENT_METHOD_SAVED:
                saved = await store.saved_methods.current(connection, found.buyer)
                if saved is None:
                    raise saved_methods.missing(found.buyer)
            if live := await store.payments.live_of(connection, found.id):
                raise Occupied(found, live)
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
                customer_id=saved.customer_id if saved is not None else "",
                method_id=saved.method_id if saved is not None else "",
            )
            await store.payments.insert(connection, payment)
            # Only its name is kept: the answer is made anew each time, and a secret is kept in one place.
            await remember(connection, caller().organization, request, pb.Payment(name=payment.name))
            return payment, found

    async def GetPayment(self, request: pb.GetPaymentRequest, context: Context) -> pb.Payment:
        order_name, _, id = request.name.partition("/payments/")
        async with self._database.read() as connection:
            order = await visible(connection, order_name, request.name)
            payment = await store.payments.get(connection, id)
        if payment is None or payment.order_id != order.id:
            raise not_found(request.name)
        return payment.resource(for_buyer=caller().organization == order.buyer)
