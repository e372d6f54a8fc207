"""What tests of the treasury need beside a desk: paid orders, deliveries, releases, balances and disputes."""

from __future__ import annotations

from typing import Any

import nats
from billing_desk import INTENT, Desk, until
from google.protobuf.timestamp_pb2 import Timestamp
from house import Person, request_id
from ulid import ULID

from billing import store
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.data_gateway.v1 import events_pb2 as gateway
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id
from rochdale_kit.outbox import ensure_stream, subject_of


async def paid_order(
    desk: Desk, amount_minor: int = 125_000, method: int = INTENT, currency: str = "EUR", token: str = "pm_card_visa"
) -> pb.Order:
    """An order that a card paid."""
    order = await desk.agree(amount_minor, currency)
    payment = await desk.pay(order, method)
    if method == INTENT:
        await desk.confirm_card(payment, token)
    else:
        await desk.post(payment)
    return await desk.becomes(order, pb.ORDER_STATE_PAID)


async def deliver(desk: Desk, order: pb.Order, version: str = "", files: int = 1) -> None:
    """Says what a gateway says when something left through its door."""
    cooperative = desk.parties.steward.organization
    at = Timestamp()
    at.GetCurrentTime()
    event = gateway.UsageRecorded(
        grant=f"grants/grt_{ULID()}",
        license=order.license,
        token_id=str(ULID()),
        version=version or f"cooperatives/{cooperative}/datasets/visits/versions/1",
        sent_bytes=1_000_000,
        listed_files=files,
        record_time=at,
    )
    client = await nats.connect(desk.parties.house.nats.url())
    await ensure_stream(client, "data_gateway")
    id, message_type = new_id("evt"), event.DESCRIPTOR.full_name
    await client.jetstream().publish(
        subject_of(message_type),
        event.SerializeToString(),
        stream="data_gateway",
        headers={"ce-id": id, "ce-type": message_type, "Nats-Msg-Id": id},
    )
    await client.close()


async def released(desk: Desk, order: pb.Order) -> pb.Order:
    """The order, delivered and its share free; for a desk without a hold."""
    await deliver(desk, order)

    async def ask() -> list[Any]:
        return await desk.rows("SELECT state FROM share WHERE order_id = :id", id=order.name.removeprefix("orders/"))

    await until(ask, lambda rows: bool(rows) and rows[0].state == 2)
    return order


async def refund(desk: Desk, order: pb.Order, amount_minor: int | None = None, **more: Any) -> pb.Refund:
    request: dict[str, Any] = {"request_id": request_id(), "order": order.name, "reason": "one file was empty"}
    if amount_minor is not None:
        request["amount"] = Money(amount_minor=amount_minor, currency=order.amount.currency)
    person: Person = more.pop("by", desk.parties.steward)
    reply: pb.Refund = await desk.stub.RefundOrder(pb.RefundOrderRequest(**(request | more)), metadata=person.metadata)
    return reply


async def settles(desk: Desk, order: pb.Order, state: int = pb.REFUND_STATE_SUCCEEDED) -> list[pb.Refund]:
    async def ask() -> list[pb.Refund]:
        request = pb.ListRefundsRequest(order=order.name)
        return list((await desk.stub.ListRefunds(request, metadata=desk.buyer.metadata)).refunds)

    return await until(ask, lambda found: bool(found) and all(one.state == state for one in found))


class Balances(dict[str, int]):
    """By account code; an account nothing was posted to has zero."""

    def __missing__(self, code: str) -> int:
        return 0


async def balances(desk: Desk, book: str, currency: str = "EUR") -> Balances:
    async with desk.database.read() as connection:
        found = await store.ledger.balances(connection, book, currency)
    return Balances({one.code: one.balance_minor for one in found})


async def dispute(desk: Desk, order: pb.Order, amount: int | None = None, **more: Any) -> str:
    """The buyer's bank takes the payment of an order back; the dispute's id at Stripe."""
    (row,) = await desk.rows("SELECT charge_id FROM share WHERE order_id = :id", id=order.name.removeprefix("orders/"))
    asked = {"charge": row.charge_id, **({"amount": amount} if amount is not None else {}), **more}
    answer = await desk.stripe.raw.post("/_simulator/disputes", json=asked)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def decide(desk: Desk, dispute_id: str, outcome: str, **more: Any) -> None:
    answer = await desk.stripe.raw.post(f"/_simulator/disputes/{dispute_id}/decide", json={"outcome": outcome, **more})
    assert answer.status_code == 200, answer.text
