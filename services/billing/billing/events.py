"""What billing hears from licensing: an agreed license makes an order, one that ended closes it."""

from __future__ import annotations

import secrets

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain import orders
from billing.settlement import close
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale_kit.clock import new_id, now
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.telemetry import traceparent


class LicensingEvents:
    """Handlers. The same event twice, or late, changes nothing."""

    def __init__(self, order_ttl_seconds: int) -> None:
        self._order_ttl_seconds = order_ttl_seconds

    async def license_agreed(self, connection: AsyncConnection, event: licensing_events.LicenseAgreed) -> None:
        order = orders.order_for(
            event.license,
            new_id("ord"),
            orders.payment_reference(secrets.randbelow(orders.REFERENCES)),
            now(),
            self._order_ttl_seconds,
            # Kept, so that the payment, which comes by another way and perhaps days later, continues this trace.
            traceparent(),
        )
        if await store.orders.insert(connection, order) and order.state == pb.ORDER_STATE_PAID:
            await announce(connection, events_pb2.OrderPaid(order=order.resource()))

    async def license_terminated(self, connection: AsyncConnection, event: licensing_events.LicenseTerminated) -> None:
        order = await store.orders.lock_of_license(connection, event.license.name)
        if order is None:
            raise Refusal(
                "ORDER_NOT_YET_KNOWN",
                f"{event.license.name} has no order yet.",
                Kind.UNAVAILABLE,
                license=event.license.name,
            )
        # A paid order stays paid: what its license's end means for the money is decided by the terms, not here.
        if order.state == pb.ORDER_STATE_OPEN:
            await close(connection, order, orders.TERMINATED)
