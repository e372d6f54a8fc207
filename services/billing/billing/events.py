"""What billing hears from licensing: an agreed license makes an order, one that ended closes it."""

from __future__ import annotations

import datetime as dt
import secrets

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store, subscribing
from billing.domain import orders
from billing.domain.references import REFERENCES, payment_reference
from billing.settlement import close, make
from billing.tax import TaxAdapter
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale_kit.clock import from_timestamp, new_id, now
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.telemetry import traceparent


class LicensingEvents:
    """Handlers. The same event twice, or late, changes nothing."""

    def __init__(self, order_ttl_seconds: int, tax: TaxAdapter, day_seconds: float, use_wait: dt.timedelta) -> None:
        self._order_ttl_seconds = order_ttl_seconds
        self._tax = tax
        self._day_seconds = day_seconds
        self._use_wait = use_wait

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
        # First, because an order that costs nothing begins it.
        await subscribing.agreed(connection, license, self._day_seconds)
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
        unpaid = await subscribing.lock_unpaid(connection, order.license)
        ends = await subscribing.license_ended(connection, order.license, self._use_wait, now())
        # What was used is owed; a period that the license's early end cut off is not, and one that ran is.
        if ends and event.license.state == licensing.LICENSE_STATE_TERMINATED:
            for each in unpaid:
                if each.kind == pb.ORDER_KIND_PERIOD:
                    await close(connection, each, orders.TERMINATED)

    async def license_resumed(self, connection: AsyncConnection, event: licensing_events.LicenseResumed) -> None:
        """A subscription lasts as long as its license, whose end was put off."""
        if event.license.HasField("end_time"):
            end_time = from_timestamp(event.license.end_time)
            await subscribing.extended(connection, event.license.name, end_time)
