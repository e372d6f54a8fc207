"""What billing hears from licensing: an agreed license makes an order, one that ended closes it."""

from __future__ import annotations

import secrets

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain import orders
from billing.domain.references import REFERENCES, payment_reference
from billing.settlement import close, make
from billing.tax import TaxAdapter
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale_kit.clock import new_id, now
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.telemetry import traceparent


class LicensingEvents:
    """Handlers. The same event twice, or late, changes nothing."""

    def __init__(self, order_ttl_seconds: int, tax: TaxAdapter) -> None:
        self._order_ttl_seconds = order_ttl_seconds
        self._tax = tax

    async def license_agreed(self, connection: AsyncConnection, event: licensing_events.LicenseAgreed) -> None:
        license = event.license
        order = orders.order_of_terms(
            license,
            self._tax.lines(orders.tax_facts(license)),
            new_id("ord"),
            payment_reference(secrets.randbelow(REFERENCES)),
            now(),
            self._order_ttl_seconds,
            # Kept, so that the payment, which comes by another way and perhaps days later, continues this trace.
            traceparent(),
        )
        await make(connection, order)

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
