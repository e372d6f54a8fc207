"""rochdale licensee: register as a licensee, attest categories, list and show licensees."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rochdale.client.names import in_collection, short
from rochdale.client.options import Limit, RequestId, collect, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, table
from rochdale.client.terms import CATEGORIES, when
from rochdale.licensing.v1 import licensing_pb2

app = typer.Typer(help="Register as a licensee; attest what licensees claim.", no_args_is_help=True)

Category = Annotated[
    Any, typer.Option("--category", parser=parser(CATEGORIES.parse), metavar="CATEGORY", help=f"{CATEGORIES.all}.")
]


def _fields(licensee: licensing_pb2.Licensee) -> dict[str, str]:
    return {
        "licensee": short(licensee.name),
        "category": CATEGORIES.format(licensee.category) if licensee.category else "not attested yet",
        "claims": CATEGORIES.format(licensee.claimed_category),
        "evidence": licensee.evidence,
        "territory": licensee.territory,
        "registered": when(licensee, "create_time"),
        "attested": when(licensee, "attest_time"),
    }


@app.command()
def register(
    context: typer.Context,
    category: Category,
    evidence: Annotated[str, typer.Option("--evidence", help="What shows it, such as a register entry.")],
    territory: Annotated[str, typer.Option("--territory", metavar="CC", help="Where it is seated: FR, IN, …")],
    request_id: RequestId = None,
) -> None:
    """Register your organization as a licensee, or change its claim. An operator then attests the category.

    [dim]$[/] rochdale licensee register --category academic --evidence "https://ror.org/02feahw73" --territory FR
    """
    market = open_market(context)
    request = licensing_pb2.RegisterLicenseeRequest(
        request_id=request_id_or_new(request_id),
        claimed_category=category,
        evidence=evidence,
        territory=territory.upper(),
    )
    answer = market.call(market.licensing.RegisterLicensee, request)
    document(as_dict(answer))
    fields(_fields(answer))
    if not answer.category:
        note("An operator has to attest the category before an offering is open to you.")


@app.command()
def attest(
    context: typer.Context,
    licensee: Annotated[str, typer.Argument(metavar="LICENSEE", help="Its organization id.")],
    category: Category,
    request_id: RequestId = None,
) -> None:
    """Attest a licensee's category (operators).

    [dim]$[/] rochdale licensee attest lab --category academic --key-file operator.key
    """
    market = open_market(context)
    request = licensing_pb2.AttestCategoryRequest(
        request_id=request_id_or_new(request_id), name=in_collection("licensees", licensee), category=category
    )
    answer = market.call(market.licensing.AttestCategory, request)
    document(as_dict(answer))
    fields(_fields(answer))


@app.command("list")
def list_(
    context: typer.Context,
    unattested: Annotated[bool, typer.Option("--unattested", help="Only those whose claim waits.")] = False,
    limit: Limit = 50,
) -> None:
    """List licensees, oldest first (operators).

    [dim]$[/] rochdale licensee list --unattested
    """
    market = open_market(context)
    request = licensing_pb2.ListLicenseesRequest(unattested_only=unattested)
    found = collect(market, market.licensing.ListLicensees, request, "licensees", limit)
    found.document("licensees")
    rows = [list(_fields(licensee).values()) for licensee in found]
    table(["licensee", "category", "claims", "evidence", "territory", "registered", "attested"], rows)


@app.command()
def show(
    context: typer.Context,
    licensee: Annotated[str | None, typer.Argument(metavar="LICENSEE", help="Default: your own.")] = None,
) -> None:
    """Show one licensee.

    [dim]$[/] rochdale licensee show
    """
    market = open_market(context)
    name = in_collection("licensees", licensee or market.organization)
    answer = market.call(market.licensing.GetLicensee, licensing_pb2.GetLicenseeRequest(name=name))
    document(as_dict(answer))
    fields(_fields(answer))
