"""rochdale order, the part about money besides paying: invoices, refunds, the saved card, the bank statement."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from rochdale.billing.v1 import billing_pb2
from rochdale.client.names import in_collection, short
from rochdale.client.options import RequestId, existing, open_market, parser, request_id_or_new
from rochdale.client.order_options import Order, get_order
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.refusals import MarketError
from rochdale.client.terms import INVOICE_KINDS, REFUND_STATES, money, price, when
from rochdale.client.treasury_options import OutputFile, keep_file
from rochdale.type.v1 import money_pb2


def add_to(app: typer.Typer) -> None:
    """Adds its commands."""
    app.command()(invoice)
    app.command()(refund)
    app.command()(refunds)
    app.command("confirm-refund")(confirm_refund)
    app.command("save-card")(save_card)
    app.command("forget-card")(forget_card)
    app.command("import-transfers")(import_transfers)


def invoice(
    context: typer.Context,
    order: Order,
    issue: Annotated[bool, typer.Option("--issue", help="Have an open order invoiced before you pay.")] = False,
    output: OutputFile = None,
    request_id: RequestId = None,
) -> None:
    """Get an order's newest invoice as PDF, and list all its documents.

    [dim]$[/] rochdale order invoice ord_01J…

    [dim]$[/] rochdale order invoice ord_01J… --issue     [dim]# for a bank transfer[/]
    """
    market = open_market(context)
    found = get_order(market, order)
    if issue:
        request = billing_pb2.IssueInvoiceRequest(request_id=request_id_or_new(request_id), order=found.name)
        market.call(market.billing.IssueInvoice, request)
    listed = market.call(market.billing.ListInvoices, billing_pb2.ListInvoicesRequest(order=found.name))
    if not listed.invoices:
        raise MarketError(
            "INVOICE_NOT_ISSUED",
            f"{short(found.name)} has no invoice yet; it gets one when it is paid, or before with --issue.",
            {"order": found.name},
        )
    rows = [
        [one.number, INVOICE_KINDS.format(one.kind), price(one.amount), when(one, "issue_time")]
        for one in listed.invoices
    ]
    newest = listed.invoices[-1]
    whole = market.call(market.billing.GetInvoice, billing_pb2.GetInvoiceRequest(name=newest.name))
    path = keep_file(f"{whole.number}.pdf", whole.pdf, output)
    if path is not None:
        table(["number", "kind", "amount", "issued"], rows)
        document({"invoices": [as_dict(one) for one in listed.invoices], "file": str(path)})
        say(f"{whole.number} is in {path}.")


def _refund_fields(refund: billing_pb2.Refund) -> dict[str, str]:
    return {
        "refund": refund.name.removeprefix("orders/"),
        "state": REFUND_STATES.format(refund.state),
        "amount": price(refund.amount),
        "of it tax": price(refund.tax) if refund.tax.amount_minor else "",
        "of it fee": price(refund.fee) if refund.fee.amount_minor else "",
        "of it the cooperative's": price(refund.cooperative_part) if refund.cooperative_part.amount_minor else "",
        "owed by the cooperative": price(refund.receivable) if refund.receivable.amount_minor else "",
        "because": refund.reason,
        "asked": when(refund, "create_time"),
        "settled": when(refund, "settle_time"),
    }


def refund(
    context: typer.Context,
    order: Order,
    reason: Annotated[str, typer.Option("--reason", help="Why; the buyer reads it.")],
    amount: Annotated[
        money_pb2.Money | None,
        typer.Option("--amount", parser=parser(money), metavar="AMOUNT", help='Like "12.00 EUR"; default: all of it.'),
    ] = None,
    request_id: RequestId = None,
) -> None:
    """Give a buyer money back (stewards of the seller, operators). Giving all back ends the license.

    [dim]$[/] rochdale order refund ord_01J… --amount "12.00 EUR" --reason "one file was empty"
    """
    market = open_market(context)
    request = billing_pb2.RefundOrderRequest(
        request_id=request_id_or_new(request_id), order=get_order(market, order).name, amount=amount, reason=reason
    )
    answer = market.call(market.billing.RefundOrder, request)
    document(as_dict(answer))
    fields(_refund_fields(answer))
    if answer.state == billing_pb2.REFUND_STATE_PENDING:
        note("On its way; the market asks until the rail answers. One paid by bank is paid by an operator.")


def refunds(context: typer.Context, order: Order) -> None:
    """List what of an order was given back.

    [dim]$[/] rochdale order refunds ord_01J…
    """
    market = open_market(context)
    request = billing_pb2.ListRefundsRequest(order=get_order(market, order).name)
    answer = market.call(market.billing.ListRefunds, request)
    document(as_dict(answer))
    rows = [
        [
            one.name.removeprefix("orders/"),
            REFUND_STATES.format(one.state),
            price(one.amount),
            one.reason,
            when(one, "create_time"),
        ]
        for one in answer.refunds
    ]
    table(["refund", "state", "amount", "because", "asked"], rows)


def confirm_refund(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="REFUND", help='As listed, "ord_…/refunds/rfd_…".')],
    bank_reference: Annotated[str, typer.Option("--bank-reference", help="The bank's own reference.")],
    request_id: RequestId = None,
) -> None:
    """Say that a refund left the market's bank (operators).

    [dim]$[/] rochdale order confirm-refund ord_01J…/refunds/rfd_01J… --bank-reference 2026-11-25/0042
    """
    market = open_market(context)
    request = billing_pb2.ConfirmRefundRequest(
        request_id=request_id_or_new(request_id), name=in_collection("orders", name), bank_reference=bank_reference
    )
    answer = market.call(market.billing.ConfirmRefund, request)
    document(as_dict(answer))
    fields(_refund_fields(answer))


def save_card(
    context: typer.Context,
    return_url: Annotated[str, typer.Option("--return-url", help="Where the browser goes afterwards.")] = "",
    show: Annotated[bool, typer.Option("--show", help="Only show what is saved.")] = False,
    request_id: RequestId = None,
) -> None:
    """Save a payment method for what is due later, on a page of Stripe; or show the one that is saved.

    [dim]$[/] rochdale order save-card
    """
    market = open_market(context)
    if show:
        answer = market.call(market.billing.GetPaymentMethod, billing_pb2.GetPaymentMethodRequest())
    else:
        request = billing_pb2.SetUpPaymentMethodRequest(request_id=request_id_or_new(request_id), return_url=return_url)
        answer = market.call(market.billing.SetUpPaymentMethod, request)
    document(as_dict(answer))
    fields({"saved": answer.label, "expires": answer.expire_month})
    if answer.setup_url:
        say(f"Open this page and save it: {answer.setup_url}")
    elif not answer.label:
        say("Nothing is saved.")


def forget_card(context: typer.Context) -> None:
    """Forget the saved payment method, here and at Stripe.

    [dim]$[/] rochdale order forget-card
    """
    market = open_market(context)
    answer = market.call(market.billing.RemovePaymentMethod, billing_pb2.RemovePaymentMethodRequest())
    document(as_dict(answer))
    say("Forgotten.")


def import_transfers(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV lines bank reference,amount,text; like 2026/42,1200.00 EUR,RD-….")],
    request_id: RequestId = None,
) -> None:
    """Book the credits of the market's bank statement (operators). What pays no order waits in suspense.

    [dim]$[/] rochdale order import-transfers statement.csv
    """
    transfers = []
    with existing(file).open(newline="", encoding="utf-8") as rows:
        for number, row in enumerate(csv.reader(rows), start=1):
            try:
                reference, amount, text = row
                credit = billing_pb2.BankTransfer(bank_reference=reference, amount=money(amount), text=text)
            except ValueError as error:
                if number == 1:
                    continue  # a header
                raise typer.BadParameter(f"Line {number} of {file} is not a credit: {error}") from None
            transfers.append(credit)
    market = open_market(context)
    request = billing_pb2.ImportBankTransfersRequest(request_id=request_id_or_new(request_id), transfers=transfers)
    answer = market.call(market.billing.ImportBankTransfers, request)
    document(as_dict(answer))
    result = [
        [
            one.bank_reference,
            short(one.order) if one.order else "-",
            "booked before" if one.repeated else one.suspense_reason.lower().replace("_", " ") or "paid",
        ]
        for one in answer.matches
    ]
    table(["bank reference", "order", "result"], result)
