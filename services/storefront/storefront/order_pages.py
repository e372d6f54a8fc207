"""Orders: what they bill, how they are paid, their documents and refunds. Buyers pay; stewards and operators give back."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.routing import Route

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale_kit.refusals import Refusal
from storefront.desk import Desk, Visit
from storefront.money_words import read_money

_PAGE = 50
_METHODS = {
    "checkout": pb.PAYMENT_METHOD_CHECKOUT,
    "bank-transfer": pb.PAYMENT_METHOD_BANK_TRANSFER,
    "saved": pb.PAYMENT_METHOD_SAVED,
}
_STATES = {"open": pb.ORDER_STATE_OPEN, "paid": pb.ORDER_STATE_PAID, "canceled": pb.ORDER_STATE_CANCELED}


def routes(desk: Desk) -> list[Route]:
    home = "/orders/{order}"
    return [
        desk.show("/orders", orders),
        desk.show(home, order),
        desk.act(home + "/pay", home, pay, order),
        desk.show(home + "/payments/{payment}", payment),
        desk.act(home + "/invoice", home, issue, order),
        desk.show(home + "/invoices/{invoice}", invoice),
        desk.act(home + "/refunds", home, refund, order),
        desk.act(home + "/refunds/{refund}/confirm", home, confirm_refund, order),
        desk.act(home + "/confirm-transfer", home, confirm_transfer, order),
    ]


async def orders(visit: Visit) -> Response:
    word = visit.asked("state")
    request = pb.ListOrdersRequest(page_size=_PAGE, page_token=visit.asked("page"), state=_STATES.get(word, 0))  # type: ignore[arg-type]
    found = await visit.billing("ListOrders", request)
    return visit.page(
        "orders.html",
        orders=found.orders,
        next_page=found.next_page_token,
        later_page=bool(request.page_token),
        state=word if word in _STATES else "",
        states=_STATES,
    )


async def order(visit: Visit) -> Response:
    name = visit.name("orders/{order}")
    found, refunds, invoices = await asyncio.gather(
        visit.billing("GetOrder", pb.GetOrderRequest(name=name)),
        visit.billing("ListRefunds", pb.ListRefundsRequest(order=name)),
        visit.billing("ListInvoices", pb.ListInvoicesRequest(order=name)),
    )
    return visit.page(
        "order.html",
        order=found,
        refunds=refunds.refunds,
        invoices=invoices.invoices,
        saved=await _saved(visit) if visit.visitor.is_buyer and found.state == pb.ORDER_STATE_OPEN else "",
        is_open=found.state == pb.ORDER_STATE_OPEN,
        is_paid=found.state == pb.ORDER_STATE_PAID,
        gives_back=visit.visitor.is_operator or visit.visitor.cooperative == found.seller,
        left_minor=found.amount.amount_minor - found.refunded.amount_minor,
        PENDING=pb.REFUND_STATE_PENDING,
        FAILED=pb.REFUND_STATE_FAILED,
    )


async def _saved(visit: Visit) -> str:
    """What people recognize of what is saved; nothing while it cannot be asked."""
    try:
        return str((await visit.billing("GetPaymentMethod", pb.GetPaymentMethodRequest())).label)
    except Refusal:
        return ""


async def pay(visit: Visit) -> Response:
    name, method = visit.name("orders/{order}"), visit.form.get("method")
    if method not in _METHODS:
        raise Refusal("REQUEST_INVALID", "Say how you pay: by card, with what is saved, or by bank transfer.")
    request = pb.StartPaymentRequest(
        request_id=visit.form.request_id,
        order=name,
        method=_METHODS[method],
        return_url=visit.return_to(f"/{name}") if method == "checkout" else "",
    )
    return visit.go("/" + (await visit.billing("StartPayment", request, patient=True)).name)


async def payment(visit: Visit) -> Response:
    """An attempt to pay and the buyer's next step. The secret of a card's intent is for programs and is not shown."""
    name = visit.name("orders/{order}/payments/{payment}")
    found, of = await asyncio.gather(
        visit.billing("GetPayment", pb.GetPaymentRequest(name=name)),
        visit.billing("GetOrder", pb.GetOrderRequest(name=visit.name("orders/{order}"))),
    )
    url = found.checkout_url if found.checkout_url.startswith(("https://", "http://")) else ""
    waits = found.state in (pb.PAYMENT_STATE_PENDING, pb.PAYMENT_STATE_STARTING, pb.PAYMENT_STATE_UNKNOWN)
    return visit.page(
        "payment.html",
        payment=found,
        order=of,
        url=url if waits else "",
        waits=waits,
        is_transfer=found.method == pb.PAYMENT_METHOD_BANK_TRANSFER,
        succeeded=found.state == pb.PAYMENT_STATE_SUCCEEDED,
    )


async def issue(visit: Visit) -> Response:
    name = visit.name("orders/{order}")
    await visit.billing("IssueInvoice", pb.IssueInvoiceRequest(request_id=visit.form.request_id, order=name))
    return visit.go(f"/{name}", "invoiced")


async def invoice(visit: Visit) -> Response:
    request = pb.GetInvoiceRequest(name=visit.name("orders/{order}/invoices/{invoice}"))
    found = await visit.billing("GetInvoice", request)
    return visit.download(f"{found.number}.pdf", found.pdf, "application/pdf")


async def refund(visit: Visit) -> Response:
    name, amount = visit.name("orders/{order}"), visit.form.get("amount")
    request = pb.RefundOrderRequest(
        request_id=visit.form.request_id,
        order=name,
        amount=read_money(amount) if amount else None,
        reason=visit.form.get("reason"),
    )
    await visit.billing("RefundOrder", request, patient=True)
    return visit.go(f"/{name}", "refunded")


async def confirm_refund(visit: Visit) -> Response:
    request = pb.ConfirmRefundRequest(
        request_id=visit.form.request_id,
        name=visit.name("orders/{order}/refunds/{refund}"),
        bank_reference=visit.form.get("bank_reference"),
    )
    await visit.billing("ConfirmRefund", request)
    return visit.go("/" + visit.name("orders/{order}"), "refund-paid")


async def confirm_transfer(visit: Visit) -> Response:
    name = visit.name("orders/{order}")
    request = pb.ConfirmBankTransferRequest(
        request_id=visit.form.request_id,
        order=name,
        amount=read_money(visit.form.get("arrived")),
        bank_reference=visit.form.get("bank_reference"),
    )
    await visit.billing("ConfirmBankTransfer", request, patient=True)
    return visit.go(f"/{name}", "confirmed")
