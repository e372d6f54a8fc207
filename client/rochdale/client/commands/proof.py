"""rochdale proof: what proving all live licenses again found, night after night."""

from __future__ import annotations

import typer

from rochdale.access_broker.v1 import access_broker_pb2
from rochdale.client.names import short
from rochdale.client.options import Limit, collect, open_market
from rochdale.client.output import table
from rochdale.client.proof_views import failures_table
from rochdale.client.terms import when

app = typer.Typer(help="What proving every live license again found.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """What proving every live license again found."""
    # Without this Typer would take the one verb for the noun itself.


@app.command("list")
def list_(context: typer.Context, limit: Limit = 20) -> None:
    """List proof reports, newest first (operators and stewards). To prove now: rochdale license prove.

    [dim]$[/] rochdale proof list
    """
    market = open_market(context)
    request = access_broker_pb2.ListProofReportsRequest()
    found = collect(market, market.access_broker.ListProofReports, request, "proof_reports", limit)
    found.document("proof_reports")
    rows = [
        [
            short(each.name),
            when(each, "begin_time"),
            when(each, "end_time"),
            str(each.proved_count),
            str(each.unanswered_count),
            str(len(each.failures)),
        ]
        for each in found
    ]
    columns = ["report", "began", "ended", "proved", "not answered", "do not hold"]
    table(columns, rows, empty="Nothing has been proved again yet: rochdale license prove")
    if failures := [failure for each in found for failure in each.failures]:
        failures_table(failures)
