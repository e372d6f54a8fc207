"""rochdale billing, the part about books: balances, journals, export, what does not fit, closing a month."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rochdale.billing.v1 import treasury_pb2
from rochdale.client.money import format_money
from rochdale.client.names import in_collection, short
from rochdale.client.options import Limit, RequestId, collect, open_market, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, say, spinner, table
from rochdale.client.terms import count, when
from rochdale.client.treasury_options import OfTreasury, treasury_of


def add_to(app: typer.Typer) -> None:
    """Adds its commands."""
    for command in (balances, journals, export, reconcile, breaks):
        app.command()(command)
    app.command("resolve-break")(resolve_break)
    app.command("close-month")(close_month)


def balances(
    context: typer.Context,
    prefix: Annotated[str, typer.Option("--prefix", help='Only accounts whose code begins so, like "member:".')] = "",
    cooperative: OfTreasury = None,
    limit: Limit = 50,
) -> None:
    """List the balance of every account of the book.

    [dim]$[/] rochdale billing balances
    """
    market = open_market(context)
    request = treasury_pb2.ListBalancesRequest(parent=treasury_of(market, cooperative), prefix=prefix)
    found = collect(market, market.treasury.ListBalances, request, "balances", limit)
    found.document("balances")
    table(["account", "balance"], [[each.account, format_money(each.balance_minor, each.currency)] for each in found])


def journals(
    context: typer.Context,
    account: Annotated[str, typer.Option("--account", help="Only with a line on this account.")] = "",
    cooperative: OfTreasury = None,
    limit: Limit = 20,
) -> None:
    """List what was booked, newest first; debits above zero, credits below.

    [dim]$[/] rochdale billing journals --account surplus
    """
    market = open_market(context)
    request = treasury_pb2.ListJournalsRequest(parent=treasury_of(market, cooperative), account=account)
    found = collect(market, market.treasury.ListJournals, request, "journals", limit)
    found.document("journals")
    rows = [
        [
            when(each, "occur_time"),
            each.kind.replace("_", " "),
            each.key,
            "\n".join(entry.account for entry in each.entries),
            "\n".join(format_money(entry.amount_minor, each.currency) for entry in each.entries),
        ]
        for each in found
    ]
    table(["when", "what", "of", "accounts", "amounts"], rows)


def export(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it. Default: standard output.")
    ] = None,
    cooperative: OfTreasury = None,
) -> None:
    """Write the whole book for Beancount, whose bean-check is an auditor of its own.

    [dim]$[/] rochdale billing export -o valley-health.beancount && bean-check valley-health.beancount
    """
    market = open_market(context)
    request = treasury_pb2.ExportBookRequest(parent=treasury_of(market, cooperative))
    sink = sys.stdout if output is None else output.expanduser().open("x", encoding="utf-8")
    try:
        while True:
            part = market.call(market.treasury.ExportBook, request)
            sink.write(part.beancount)
            request.page_token = part.next_page_token
            if not request.page_token:
                break
    finally:
        if output is not None:
            sink.close()
    if output is not None:
        document({"file": str(output)})
        say(f"The book is in {output}.")


def reconcile(context: typer.Context) -> None:
    """Compare the books with Stripe now (operators). It also happens each night.

    [dim]$[/] rochdale billing reconcile
    """
    market = open_market(context)
    with spinner("Comparing"):
        answer = market.call(market.treasury.Reconcile, treasury_pb2.ReconcileRequest(), timeout_seconds=600.0)
    document(as_dict(answer))
    fields(
        {
            "transactions compared": f"{answer.transaction_count:,}",
            "missed webhooks made up for": f"{answer.replayed_event_count:,}",
            "does not fit": count(answer.open_break_count, "break"),
        }
    )


def breaks(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also those that are settled.")] = False,
    cooperative: OfTreasury = None,
    limit: Limit = 50,
) -> None:
    """List what does not fit between the books and Stripe, oldest first.

    [dim]$[/] rochdale billing breaks
    """
    market = open_market(context)
    request = treasury_pb2.ListBreaksRequest(parent=treasury_of(market, cooperative), all=every)
    found = collect(market, market.treasury.ListBreaks, request, "breaks", limit)
    found.document("breaks")
    rows = [
        [
            short(each.name),
            when(each, "create_time"),
            each.check.lower().replace("_", " "),
            each.book,
            each.detail,
            each.resolution,
        ]
        for each in found
    ]
    table(["break", "since", "check", "book", "what", "settled"], rows, empty="Everything fits.")


def resolve_break(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="BREAK", help="brk_…")],
    text: Annotated[str, typer.Option("--note", help="What was found and done.")],
    request_id: RequestId = None,
) -> None:
    """Settle a break that you looked into (operators).

    [dim]$[/] rochdale billing resolve-break brk_01J… --note "Refunded by hand in Stripe's dashboard, booked as …"
    """
    market = open_market(context)
    request = treasury_pb2.ResolveBreakRequest(
        request_id=request_id_or_new(request_id), name=in_collection("breaks", name), note=text
    )
    answer = market.call(market.treasury.ResolveBreak, request)
    document(as_dict(answer))
    say(f"{short(answer.name)} is settled.")


def close_month(
    context: typer.Context,
    month: Annotated[str, typer.Argument(help="Such as 2026-10.")],
    cooperative: OfTreasury = None,
    request_id: RequestId = None,
) -> None:
    """Close a month of the book. Nothing is booked into it any more, and its seal tells if anything was changed.

    [dim]$[/] rochdale billing close-month 2026-10
    """
    market = open_market(context)
    request = treasury_pb2.CloseMonthRequest(
        request_id=request_id_or_new(request_id), parent=treasury_of(market, cooperative), month=month
    )
    answer = market.call(market.treasury.CloseMonth, request)
    document(as_dict(answer))
    say(f"{answer.month} of {answer.book} is closed.")
    note(f"Its seal is {answer.seal}; keep it elsewhere too.")
