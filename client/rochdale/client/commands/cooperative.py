"""rochdale cooperative: found, list and show cooperatives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rochdale.client.names import in_collection, short
from rochdale.client.options import Limit, RequestId, collect, open_market, request_id_or_new
from rochdale.client.output import as_dict, document, fields, table
from rochdale.client.terms import when
from rochdale.governance.v1 import governance_pb2

app = typer.Typer(help="Found and show cooperatives.", no_args_is_help=True)


def _fields(cooperative: governance_pb2.Cooperative) -> dict[str, str]:
    return {
        "cooperative": short(cooperative.name),
        "name": cooperative.display_name,
        "description": cooperative.description,
        "members": str(cooperative.member_count),
        "approvals a rule needs": str(cooperative.charter.required_approvals),
        "charter": cooperative.charter.text,
        "joined": when(cooperative, "create_time"),
    }


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option("--name", help="How people call it.")],
    description: Annotated[str, typer.Option("--description", help="What it is for, in a few sentences.")] = "",
    required_approvals: Annotated[
        int, typer.Option("--required-approvals", min=1, max=20, help="Stewards who must approve a rule.")
    ] = 1,
    charter_file: Annotated[
        Path | None, typer.Option("--charter-file", metavar="FILE", help="What the founders agreed, as plain text.")
    ] = None,
    request_id: RequestId = None,
) -> None:
    """Found the cooperative of your organization. It gets your organization's id.

    [dim]$[/] rochdale cooperative create --name "Valley Health" --description "Health records of our valley."

    [dim]$[/] rochdale cooperative create --name "Valley Health" --required-approvals 2 --charter-file charter.txt
    """
    market = open_market(context)
    request = governance_pb2.CreateCooperativeRequest(
        request_id=request_id_or_new(request_id),
        display_name=name,
        description=description,
        charter=governance_pb2.Charter(
            required_approvals=required_approvals, text=charter_file.read_text("utf-8") if charter_file else ""
        ),
    )
    answer = market.call(market.governance.CreateCooperative, request)
    document(as_dict(answer))
    fields(_fields(answer))


@app.command("list")
def list_(context: typer.Context, limit: Limit = 50) -> None:
    """List cooperatives.

    [dim]$[/] rochdale cooperative list
    """
    market = open_market(context)
    request = governance_pb2.ListCooperativesRequest()
    found = collect(market, market.governance.ListCooperatives, request, "cooperatives", limit)
    found.document("cooperatives")
    rows = [[short(each.name), each.display_name, str(each.member_count), when(each, "create_time")] for each in found]
    table(["cooperative", "name", "members", "joined"], rows)


@app.command()
def show(
    context: typer.Context,
    cooperative: Annotated[str, typer.Argument(metavar="COOPERATIVE", help='Its id, such as "valley-health".')],
) -> None:
    """Show one cooperative with its charter.

    [dim]$[/] rochdale cooperative show valley-health
    """
    market = open_market(context)
    request = governance_pb2.GetCooperativeRequest(name=in_collection("cooperatives", cooperative))
    answer = market.call(market.governance.GetCooperative, request)
    document(as_dict(answer))
    fields(_fields(answer))
