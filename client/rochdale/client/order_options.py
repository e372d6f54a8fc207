"""Which order a command is about."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from rochdale.billing.v1 import billing_pb2
from rochdale.client.market import Market
from rochdale.client.names import in_collection, short
from rochdale.client.output import spinner
from rochdale.client.refusals import MarketError

Order = Annotated[
    str, typer.Argument(metavar="ORDER", help="ord_…, or the lic_… it is for: its newest open one, else its newest.")
]

_POLL_SECONDS = 0.5
# An order follows its license by an event; this is how long we believe that it is still coming.
_ORDER_SECONDS = 15.0


def get_order(market: Market, text: str) -> billing_pb2.Order:
    """An order by its name, or by its license's. Refuses with NOT_FOUND, ORDER_NOT_FOUND."""
    if not text.removeprefix("licenses/").startswith("lic_"):
        return market.call(market.billing.GetOrder, billing_pb2.GetOrderRequest(name=in_collection("orders", text)))
    license = in_collection("licenses", text)
    deadline = time.monotonic() + _ORDER_SECONDS
    with spinner("Waiting for the order"):
        while True:
            answer = market.call(market.billing.ListOrders, billing_pb2.ListOrdersRequest(license=license))
            if answer.orders:
                is_open = (one for one in answer.orders if one.state == billing_pb2.ORDER_STATE_OPEN)
                return next(is_open, answer.orders[0])
            if time.monotonic() > deadline:
                raise MarketError("ORDER_NOT_FOUND", f"There is no order for {short(license)}.", {"license": license})
            time.sleep(_POLL_SECONDS)
