"""rochdale dispute: payments a buyer's bank takes back, and what speaks against it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rochdale.billing.v1 import billing_pb2
from rochdale.client.names import in_collection
from rochdale.client.options import Limit, RequestId, collect, existing, open_market, request_id_or_new
from rochdale.client.output import as_dict, document, say, table
from rochdale.client.terms import DISPUTE_STATES, price, when

app = typer.Typer(help="Payments a buyer's bank takes back, and what speaks against it.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="DISPUTE", help='As listed, "ord_…/disputes/dis_…".')]


@app.command("list")
def list_(
    context: typer.Context,
    is_open: Annotated[bool, typer.Option("--open", help="Only those that are not decided.")] = False,
    limit: Limit = 50,
) -> None:
    """List disputes, newest first.

    [dim]$[/] rochdale dispute list --open
    """
    market = open_market(context)
    request = billing_pb2.ListDisputesRequest(open_only=is_open)
    found = collect(market, market.billing.ListDisputes, request, "disputes", limit)
    found.document("disputes")
    rows = [
        [
            each.name.removeprefix("orders/"),
            DISPUTE_STATES.format(each.state),
            price(each.amount),
            each.reason.replace("_", " "),
            when(each, "evidence_due_time"),
            when(each, "evidence_time"),
        ]
        for each in found
    ]
    table(["dispute", "state", "amount", "because", "answer until", "answered"], rows, empty="No payment is disputed.")


@app.command()
def evidence(context: typer.Context, dispute: Name) -> None:
    """Show what the market has that speaks for the cooperative: license, delivery, use.

    [dim]$[/] rochdale dispute evidence ord_01J…/disputes/dis_01J…
    """
    market = open_market(context)
    request = billing_pb2.GetEvidenceRequest(name=in_collection("orders", dispute))
    answer = market.call(market.billing.GetEvidence, request)
    document(as_dict(answer))
    say(answer.text)


@app.command()
def answer(
    context: typer.Context,
    dispute: Name,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="What you add to the evidence, as text.")
    ] = None,
    request_id: RequestId = None,
) -> None:
    """Give the evidence to the buyer's bank, once. What nobody answers is answered a day before it is due.

    [dim]$[/] rochdale dispute answer ord_01J…/disputes/dis_01J… --file letter.txt
    """
    market = open_market(context)
    request = billing_pb2.SubmitEvidenceRequest(
        request_id=request_id_or_new(request_id),
        name=in_collection("orders", dispute),
        statement=existing(file).read_text("utf-8") if file else "",
    )
    given = market.call(market.billing.SubmitEvidence, request)
    document(as_dict(given))
    say("The bank has it now, and decides.")
