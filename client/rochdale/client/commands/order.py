"""rochdale order: list, show and pay orders. Invoices, refunds and bank statements are in order_money.py."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from rochdale.billing.v1 import billing_pb2
from rochdale.client.commands import order_money
from rochdale.client.market import Market
from rochdale.client.names import short
from rochdale.client.options import Limit, RequestId, collect, open_market, parser, request_id_or_new
from rochdale.client.order_options import Order, get_order
from rochdale.client.output import as_dict, document, fields, note, say, spinner, table
from rochdale.client.refusals import MarketError
from rochdale.client.terms import ORDER_KINDS, ORDER_STATES, PAYMENT_STATES, money, price, when
from rochdale.type.v1 import money_pb2

app = typer.Typer(help="List and pay orders; invoices and refunds.", no_args_is_help=True)
order_money.add_to(app)

_METHODS: dict[str, billing_pb2.PaymentMethod.ValueType] = {
    "checkout": billing_pb2.PAYMENT_METHOD_CHECKOUT,
    "card-intent": billing_pb2.PAYMENT_METHOD_PAYMENT_INTENT,
    "bank-transfer": billing_pb2.PAYMENT_METHOD_BANK_TRANSFER,
    "saved": billing_pb2.PAYMENT_METHOD_SAVED,
}
_POLL_SECONDS = 0.5


def _method(text: str) -> billing_pb2.PaymentMethod.ValueType:
    if text not in _METHODS:
        raise ValueError(f"{text!r} is no way to pay; choose from {', '.join(_METHODS)}.")
    return _METHODS[text]


def _fields(order: billing_pb2.Order) -> dict[str, str]:
    return {
        "order": short(order.name),
        "state": ORDER_STATES.format(order.state) + (", disputed" if order.disputed else ""),
        "bills": ORDER_KINDS.format(order.kind or billing_pb2.ORDER_KIND_LICENSE),
        "amount": price(order.amount),
        "of it taxes": ", ".join(f"{line.label} {price(line.amount)}" for line in order.tax_lines),
        "period": f"{when(order, 'period_start_time')} to {when(order, 'period_end_time')}"
        if order.HasField("period_start_time")
        else "",
        "given back": price(order.refunded) if order.refunded.amount_minor else "",
        "invoice": order.invoice_number,
        "license": short(order.license),
        "buyer": short(order.buyer),
        "seller": short(order.seller),
        "made": when(order, "create_time"),
        "due": when(order, "due_time"),
        "paid": when(order, "pay_time"),
        "payment reference": order.payment_reference,
        "terms hash": order.terms_hash,
    }


@app.command("list")
def list_(
    context: typer.Context,
    state: Annotated[
        Any, typer.Option("--state", parser=parser(ORDER_STATES.parse), metavar="STATE", help=ORDER_STATES.all)
    ] = None,
    limit: Limit = 50,
) -> None:
    """List your orders, newest first.

    [dim]$[/] rochdale order list --state open
    """
    market = open_market(context)
    request = billing_pb2.ListOrdersRequest(state=state)
    found = collect(market, market.billing.ListOrders, request, "orders", limit)
    found.document("orders")
    rows = [
        [
            short(each.name),
            ORDER_STATES.format(each.state),
            price(each.amount),
            short(each.license),
            short(each.buyer),
            short(each.seller),
            when(each, "due_time"),
        ]
        for each in found
    ]
    table(["order", "state", "amount", "license", "buyer", "seller", "due"], rows)


@app.command()
def show(context: typer.Context, order: Order) -> None:
    """Show one order.

    [dim]$[/] rochdale order show lic_01J…
    """
    answer = get_order(open_market(context), order)
    document(as_dict(answer))
    fields(_fields(answer))


@app.command()
def pay(
    context: typer.Context,
    order: Order,
    method: Annotated[
        Any, typer.Option("--method", parser=parser(_method), metavar="METHOD", help=f"{', '.join(_METHODS)}.")
    ] = "checkout",
    return_url: Annotated[str, typer.Option("--return-url", help="Where the browser goes after a checkout.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the order is paid.")] = False,
    timeout: Annotated[
        int, typer.Option("--timeout", min=1, help="With --wait: give up after so many seconds.")
    ] = 1800,
    request_id: RequestId = None,
) -> None:
    """Start paying an order, and say what to do next. An order of zero is paid already.

    [dim]$[/] rochdale order pay lic_01J…                          [dim]# a page to pay by card[/]

    [dim]$[/] rochdale order pay ord_01J… --method bank-transfer --wait

    [dim]$[/] rochdale order pay ord_01J… --method card-intent --json   [dim]# for your own code[/]
    """
    market = open_market(context)
    found = get_order(market, order)
    payment = None
    if found.state != billing_pb2.ORDER_STATE_PAID:
        request = billing_pb2.StartPaymentRequest(
            request_id=request_id_or_new(request_id), order=found.name, method=method, return_url=return_url
        )
        payment = market.call(market.billing.StartPayment, request)
        fields(
            {
                "payment": short(payment.name),
                "state": PAYMENT_STATES.format(payment.state),
                "amount": price(payment.amount),
                "failed because": payment.failure_code,
            }
        )
        _what_next(found, payment)
    if wait:
        found = _paid(market, found.name, timeout)
    # The payment with its order in it; of an order paid before, the order alone.
    document((as_dict(payment) if payment else {}) | {"order": as_dict(found)})
    if found.state == billing_pb2.ORDER_STATE_PAID:
        say(f"{short(found.name)} is paid. Download with: rochdale get {short(found.license)}")


def _what_next(order: billing_pb2.Order, payment: billing_pb2.Payment) -> None:
    if payment.state == billing_pb2.PAYMENT_STATE_SUCCEEDED:
        return
    if payment.action_required:
        say("The bank asks for you.")
    if payment.checkout_url:
        say(f"Open this page and pay: {payment.checkout_url}")
    elif payment.client_secret:
        # A card is confirmed by the buyer's own code, for which the secret is; the screen of a person is no place for it.
        say(f"Confirm {payment.payment_intent} with your code; --json prints its client secret.")
    elif payment.method == billing_pb2.PAYMENT_METHOD_BANK_TRANSFER:
        reference = payment.payment_reference or order.payment_reference
        say(f"Transfer {price(payment.amount)} with the reference {reference}. An operator confirms what arrives.")


def _paid(market: Market, name: str, timeout_seconds: int) -> billing_pb2.Order:
    deadline = time.monotonic() + timeout_seconds
    with spinner("Waiting for the payment"):
        while True:
            order = market.call(market.billing.GetOrder, billing_pb2.GetOrderRequest(name=name))
            if order.state == billing_pb2.ORDER_STATE_PAID:
                return order
            if order.state == billing_pb2.ORDER_STATE_CANCELED:
                raise MarketError("ORDER_NOT_OPEN", f"{short(name)} was closed unpaid.", {"order": name})
            if time.monotonic() > deadline:
                raise MarketError("ORDER_NOT_PAID", f"{short(name)} is not paid yet.", {"order": name})
            time.sleep(_POLL_SECONDS)


@app.command("confirm-transfer")
def confirm_transfer(
    context: typer.Context,
    order: Order,
    amount: Annotated[
        money_pb2.Money, typer.Option("--amount", parser=parser(money), metavar="AMOUNT", help='Like "1200.00 EUR".')
    ],
    bank_reference: Annotated[
        str, typer.Option("--bank-reference", help="The bank's own reference of the transfer; it confirms one order.")
    ],
    request_id: RequestId = None,
) -> None:
    """Confirm that the whole amount of an order arrived at the bank (operators).

    [dim]$[/] rochdale order confirm-transfer ord_01J… --amount "1200.00 EUR" --bank-reference 2026-11-25/0042
    """
    market = open_market(context)
    request = billing_pb2.ConfirmBankTransferRequest(
        request_id=request_id_or_new(request_id),
        order=get_order(market, order).name,
        amount=amount,
        bank_reference=bank_reference,
    )
    answer = market.call(market.billing.ConfirmBankTransfer, request)
    document(as_dict(answer))
    fields(_fields(answer))
    if answer.state == billing_pb2.ORDER_STATE_PAID:
        note("The license becomes active now.")
