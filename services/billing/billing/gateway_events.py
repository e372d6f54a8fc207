"""What billing hears from gateways. One use is heard once and tells each part what it needs of it."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import dividend_events, evidence, metering, releasing, store
from billing.domain.pricing import gigabytes
from rochdale.data_gateway.v1 import events_pb2 as gateway
from rochdale.type.v1 import pricing_pb2 as pricing
from rochdale_kit.clock import from_timestamp, now
from rochdale_kit.inbox import Subscription, heard_id, on
from rochdale_kit.refusals import Refusal


def of_gateways() -> list[Subscription]:
    return [
        on(gateway.UsageRecorded, usage_recorded),
        on(gateway.ContributionsRecorded, dividend_events.contributions_recorded),
    ]


async def usage_recorded(connection: AsyncConnection, event: gateway.UsageRecorded) -> None:
    """Delivery frees a share after its hold, tells which version earned, and is what speaks against a dispute.

    Refuses what a gateway says of another cooperative's license.
    """
    seller = await store.access_log.seller_of(connection, event.license)
    if seller is not None and not event.version.startswith(f"cooperatives/{seller}/"):
        raise Refusal(
            "EVENT_ILL_FORMED", f"{event.license} is not a license of {event.version}.", license=event.license
        )
    await releasing.usage_recorded(connection, event)
    await dividend_events.usage_recorded(connection, event)
    await evidence.usage_recorded(connection, event)
    await _metered(connection, event)


async def _metered(connection: AsyncConnection, event: gateway.UsageRecorded) -> None:
    """Bytes sent feed METER_GIGABYTE. No event counts queries or privacy loss yet: METER_QUERY and METER_EPSILON are
    priced, capped and billed like it, and stay at zero until one does."""
    await metering.record(
        connection,
        heard_id(),
        event.license,
        pricing.METER_GIGABYTE,
        gigabytes(event.sent_bytes),
        from_timestamp(event.record_time),
        now(),
    )
