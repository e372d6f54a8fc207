"""What speaks for a cooperative when a payment is disputed: order, invoice, and what was delivered, day by day.

Billing knows the license by its name and the hash of its terms; the signed license itself is licensing's to show.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain.disputes import Dispute
from rochdale.data_gateway.v1 import events_pb2 as gateway
from rochdale_kit.clock import from_timestamp
from rochdale_kit.money import format_money

# Stripe takes this much text.
MOST_CHARACTERS = 20_000


async def usage_recorded(connection: AsyncConnection, event: gateway.UsageRecorded) -> None:
    """Something left through the door."""
    if event.listed_files > 0 or event.sent_bytes > 0:
        await store.access_log.add(
            connection,
            event.license,
            event.version,
            event.listed_files,
            event.sent_bytes,
            from_timestamp(event.record_time),
        )


async def assemble(connection: AsyncConnection, dispute: Dispute) -> dict[str, Any]:
    """The facts, as plain values."""
    order = await store.orders.get(connection, dispute.order_id)
    assert order is not None, "a dispute is about an order"
    days = await store.access_log.of_license(connection, order.license)
    refunds = await store.refunds.of_order(connection, order.id)
    return {
        "dispute": dispute.name,
        "reason": dispute.reason,
        "order": order.name,
        "license": order.license,
        "terms_hash": order.terms_hash,
        "quote_hash": order.quote_hash,
        "invoice_number": order.invoice_number,
        "buyer": f"organizations/{order.buyer}",
        "seller": f"cooperatives/{order.seller}",
        "amount": format_money(order.amount),
        "ordered": order.create_time.isoformat(timespec="seconds"),
        "paid": order.pay_time.isoformat(timespec="seconds") if order.pay_time is not None else "",
        "refunds": [{"amount": format_money(one.amount), "reason": one.reason} for one in refunds],
        "access": [
            {
                "version": one.version,
                "day": one.day.isoformat(),
                "listed_files": one.listed_files,
                "sent_bytes": one.sent_bytes,
                "first_time": one.first_time.isoformat(timespec="seconds"),
                "last_time": one.last_time.isoformat(timespec="seconds"),
            }
            for one in days
        ],
    }


def json_of(pack: dict[str, Any]) -> str:
    return json.dumps(pack, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def text_of(pack: dict[str, Any], statement: str = "") -> str:
    """As a bank's clerk reads it, shortened at the end if it must be."""
    lines = [
        f"Order {pack['order']} over {pack['amount']}, invoice {pack['invoice_number'] or '-'}.",
        f"The buyer {pack['buyer']} licensed data of {pack['seller']} under {pack['license']}. Both sides agreed to its "
        f"terms, whose SHA-256 is {pack['terms_hash']}; the quote that was paid has {pack['quote_hash']}.",
        f"Ordered {pack['ordered']}, paid {pack['paid']}.",
        *(f"Given back before: {one['amount']}, {one['reason']}." for one in pack["refunds"]),
        "What the buyer received with access tokens issued to it alone:"
        if pack["access"]
        else "The buyer has received nothing yet.",
        *(
            f"{one['day']}: {one['version']}, {one['listed_files']} files listed, {one['sent_bytes']:,} bytes sent, "
            f"from {one['first_time']} to {one['last_time']}."
            for one in pack["access"]
        ),
    ]
    if statement:
        lines.insert(0, statement)
    return "\n".join(lines)[:MOST_CHARACTERS]
