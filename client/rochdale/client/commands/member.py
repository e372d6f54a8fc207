"""rochdale member: add and list the members of one's own cooperative."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rochdale.client.names import in_collection, same_request
from rochdale.client.options import Limit, RequestId, collect, open_market, request_id_or_new
from rochdale.client.output import document, progress_bar, say, table
from rochdale.client.refusals import MarketError
from rochdale.client.terms import when
from rochdale.governance.v1 import governance_pb2

app = typer.Typer(help="Add and list members.", no_args_is_help=True)

# As many as the contract takes at once.
_BATCH = 1000

OfCooperative = Annotated[
    str | None, typer.Option("--cooperative", metavar="ID", help="Of which cooperative. Default: your own.")
]


@app.command()
def add(
    context: typer.Context,
    references: Annotated[
        list[str] | None, typer.Argument(metavar="REFERENCE…", help="Your own references for the persons, never names.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="References, one a line; - for standard input.")
    ] = None,
    cooperative: OfCooperative = None,
    request_id: RequestId = None,
) -> None:
    """Add members by the references your cooperative uses for them. Those who are members already stay so.

    [dim]$[/] rochdale member add 1042 1043 1044

    [dim]$[/] tail -n +2 randhie.csv | cut -d, -f6 | sort -u | rochdale member add --file -
    """
    given = list(references or ())
    if file is not None:
        text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text("utf-8")
        given += [line.strip() for line in text.splitlines() if line.strip()]
    unique = list(dict.fromkeys(given))
    if not unique:
        raise typer.BadParameter("Name at least one member, as arguments or with --file.")
    market = open_market(context)
    request_id = request_id_or_new(request_id)
    parent = in_collection("cooperatives", cooperative or market.organization)
    added = already = 0
    with progress_bar() as bar:
        task = bar.add_task("Adding members", total=len(unique))
        for number, start in enumerate(range(0, len(unique), _BATCH)):
            request = governance_pb2.AddMembersRequest(
                request_id=same_request(request_id, str(number)),
                parent=parent,
                references=unique[start : start + _BATCH],
            )
            try:
                answer = market.call(market.governance.AddMembers, request)
            except MarketError as error:
                if added or already:
                    error.message += (
                        f" The {added + already} members before are in; run the command again for the rest."
                    )
                raise
            added += answer.added_count
            already += answer.already_member_count
            bar.update(task, completed=min(start + _BATCH, len(unique)))
    document({"added_count": added, "already_member_count": already})
    say(f"{added} joined; {already} were members already.")


@app.command("list")
def list_(context: typer.Context, cooperative: OfCooperative = None, limit: Limit = 50) -> None:
    """List members, for the cooperative's stewards.

    [dim]$[/] rochdale member list --limit 10
    """
    market = open_market(context)
    request = governance_pb2.ListMembersRequest(
        parent=in_collection("cooperatives", cooperative or market.organization)
    )
    found = collect(market, market.governance.ListMembers, request, "members", limit)
    found.document("members")
    table(["reference", "joined", "member"], [[each.reference, when(each, "join_time"), each.name] for each in found])
