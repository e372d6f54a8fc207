"""rochdale cooperative: found, list and show cooperatives, and their charters. Their keys are in cooperative_key.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rochdale.client.authority import introduce, signing_key_for
from rochdale.client.charter_words import charter_lines, decision_lines
from rochdale.client.commands import cooperative_key
from rochdale.client.drafts import from_json_file
from rochdale.client.names import in_collection, short
from rochdale.client.options import Limit, RequestId, collect, open_market, request_id_or_new
from rochdale.client.output import as_dict, document, fields, table
from rochdale.client.signing_options import SigningKeyFile, begin_of, get_cooperative, say_keep, signing_key_path
from rochdale.client.terms import DECISION_CLASSES, when
from rochdale.governance.v1 import governance_pb2

app = typer.Typer(help="Found and show cooperatives.", no_args_is_help=True)
app.add_typer(cooperative_key.app, name="key")

Cooperative = Annotated[str, typer.Argument(metavar="COOPERATIVE", help='Its id, such as "valley-health".')]


def _fields(cooperative: governance_pb2.Cooperative) -> dict[str, str]:
    return {
        "cooperative": short(cooperative.name),
        "name": cooperative.display_name,
        "description": cooperative.description,
        "members": str(cooperative.member_count),
        "signs with": cooperative.signing_keys[-1].key_id if cooperative.signing_keys else "no key yet",
        **charter_lines(cooperative.charter),
        "joined": when(cooperative, "create_time"),
    }


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option("--name", help="How people call it.")],
    description: Annotated[str, typer.Option("--description", help="What it is for, in a few sentences.")] = "",
    required_approvals: Annotated[
        int | None,
        typer.Option(
            "--required-approvals", min=1, max=20, help="Stewards an emergency prohibition needs. Default: 1."
        ),
    ] = None,
    charter_file: Annotated[
        Path | None, typer.Option("--charter-file", metavar="FILE", help="What the founders agreed, as plain text.")
    ] = None,
    charter: Annotated[
        Path | None,
        typer.Option(
            "--charter", metavar="FILE", help="The whole charter as protobuf JSON; default: the model charter."
        ),
    ] = None,
    signing_key: SigningKeyFile = None,
    request_id: RequestId = None,
) -> None:
    """Found the cooperative of your organization. It gets your organization's id.

    Its signing key is made here, in a file only you can read, unless the file is there already; the market gets the
    public half. Nothing members decide takes effect without it.

    [dim]$[/] rochdale cooperative create --name "Valley Health" --description "Health records of our valley."

    [dim]$[/] rochdale cooperative create --name "Valley Health" --charter charter.json --charter-file founders.txt
    """
    written = from_json_file(charter, governance_pb2.Charter(), "--charter") if charter else governance_pb2.Charter()
    written.required_approvals = required_approvals or written.required_approvals or 1
    if charter_file:
        written.text = charter_file.read_text("utf-8")
    market = open_market(context)
    path = signing_key_path(market, signing_key)
    key = signing_key_for(path)
    request = governance_pb2.CreateCooperativeRequest(
        request_id=request_id_or_new(request_id),
        display_name=name,
        description=description,
        charter=written,
        signing_key=introduce(in_collection("cooperatives", market.organization), key, begin_of(path)),
    )
    answer = market.call(market.governance.CreateCooperative, request)
    document(as_dict(answer) | {"signing_key_file": str(path)})
    fields(_fields(answer) | {"signing key file": str(path)})
    say_keep(path)


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
def show(context: typer.Context, cooperative: Cooperative) -> None:
    """Show one cooperative.

    [dim]$[/] rochdale cooperative show valley-health
    """
    answer = get_cooperative(open_market(context), cooperative)
    document(as_dict(answer))
    fields(_fields(answer))


@app.command()
def charter(
    context: typer.Context,
    cooperative: Annotated[
        str | None, typer.Argument(metavar="[COOPERATIVE]", help="Its id. Default: your own.")
    ] = None,
) -> None:
    """Say in words how a cooperative decides. With --json it is the file that `create --charter` and a proposal take.

    [dim]$[/] rochdale cooperative charter valley-health
    """
    market = open_market(context)
    found = get_cooperative(market, cooperative or market.organization)
    document(as_dict(found.charter))
    fields(charter_lines(found.charter), f"The charter of {found.display_name}")
    for rule in found.charter.decision_rules:
        fields(decision_lines(rule), f"\n{DECISION_CLASSES.format(rule.decision_class).capitalize()} decisions")
