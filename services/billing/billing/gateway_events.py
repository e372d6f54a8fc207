"""What billing hears from gateways. One use is heard once and tells each part what it needs of it."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import dividend_events, evidence, releasing
from rochdale.data_gateway.v1 import events_pb2 as gateway
from rochdale_kit.inbox import Subscription, on


def of_gateways() -> list[Subscription]:
    return [
        on(gateway.UsageRecorded, usage_recorded),
        on(gateway.ContributionsRecorded, dividend_events.contributions_recorded),
    ]


async def usage_recorded(connection: AsyncConnection, event: gateway.UsageRecorded) -> None:
    """Delivery frees a share after its hold, tells which version earned, and is what speaks against a dispute."""
    await releasing.usage_recorded(connection, event)
    await dividend_events.usage_recorded(connection, event)
    await evidence.usage_recorded(connection, event)
