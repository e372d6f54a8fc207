"""rochdale licensee: register, claim register entries, attest categories, list and show licensees."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rochdale.client.names import in_collection, short
from rochdale.client.options import Limit, RequestId, collect, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, spinner, table
from rochdale.client.terms import CATEGORIES, CLAIM_STATES, REGISTERS, when
from rochdale.licensing.v1 import licensing_pb2

app = typer.Typer(help="Register as a licensee; attest what licensees claim.", no_args_is_help=True)

Category = Annotated[
    Any, typer.Option("--category", parser=parser(CATEGORIES.parse), metavar="CATEGORY", help=f"{CATEGORIES.all}.")
]


def _approvals(licensee: licensing_pb2.Licensee) -> str:
    """Which operators approved a category by hand; two of them are needed."""
    if not licensee.approvals:
        return ""
    said = f"{CATEGORIES.format(licensee.approved_category)}, by {', '.join(short(key) for key in licensee.approvals)}"
    return said if len(licensee.approvals) > 1 else f"{said}; a second operator has to say the same"


def _fields(licensee: licensing_pb2.Licensee) -> dict[str, str]:
    return {
        "licensee": short(licensee.name),
        "category": CATEGORIES.format(licensee.category) if licensee.category else "not attested yet",
        "claims": CATEGORIES.format(licensee.claimed_category),
        "evidence": licensee.evidence,
        "territory": licensee.territory,
        "registered": when(licensee, "create_time"),
        "attested": when(licensee, "attest_time"),
        "until": when(licensee, "attest_expire_time"),
        "why": licensee.category_reason,
        "approved by hand": _approvals(licensee),
    }


@app.command()
def register(
    context: typer.Context,
    category: Category,
    evidence: Annotated[str, typer.Option("--evidence", help="What shows it, such as a register entry.")],
    territory: Annotated[str, typer.Option("--territory", metavar="CC", help="Where it is seated: FR, IN, …")],
    request_id: RequestId = None,
) -> None:
    """Register your organization as a licensee, or change its claim. Registers, or two operators, then tell the category.

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
        note(
            "Name your entry in a public register (rochdale licensee claim), or ask two operators to attest the category; "
            "until then no offering is open to you."
        )


@app.command()
def claim(
    context: typer.Context,
    register: Annotated[
        Any, typer.Argument(parser=parser(REGISTERS.parse), metavar="ror|lei|charity", help="Which public register.")
    ],
    identifier: Annotated[str, typer.Argument(metavar="IDENTIFIER", help="Your entry: 02feahw73, an LEI, 1089464, …")],
    request_id: RequestId = None,
) -> None:
    """Name your entry in a public register. It is looked up, and your category computed from all that is known.

    A company counts by whoever owns it in the end; what is not known counts as the dearest category.

    [dim]$[/] rochdale licensee claim ror 02feahw73

    [dim]$[/] rochdale licensee claim lei 5493001KJTIIGC8Y1R12
    """
    market = open_market(context)
    request = licensing_pb2.ClaimRegisterEntryRequest(
        request_id=request_id_or_new(request_id), register=register, identifier=identifier
    )
    with spinner("Looking it up"):
        answer = market.call(market.licensing.ClaimRegisterEntry, request)
    document(as_dict(answer))
    fields(_fields(answer))
    _claims_table(answer)


def _claims_table(licensee: licensing_pb2.Licensee) -> None:
    rows = [
        [
            REGISTERS.format(each.register),
            each.identifier,
            CLAIM_STATES.format(each.state),
            each.found_name or "-",
            each.found_kind or "-",
            each.ultimate_parent or "-",
            when(each, "check_time"),
        ]
        for each in licensee.claims
    ]
    columns = ["register", "identifier", "state", "name there", "kind there", "owned in the end by", "looked up"]
    table(columns, rows, empty="No entry in a register is named.")


@app.command()
def attest(
    context: typer.Context,
    licensee: Annotated[str, typer.Argument(metavar="LICENSEE", help="Its organization id.")],
    category: Category,
    request_id: RequestId = None,
) -> None:
    """Attest a licensee's category by hand, where no register can tell (operators). Two operators have to say the same.

    [dim]$[/] rochdale licensee attest lab --category academic --key-file operator.key
    """
    market = open_market(context)
    request = licensing_pb2.AttestCategoryRequest(
        request_id=request_id_or_new(request_id), name=in_collection("licensees", licensee), category=category
    )
    answer = market.call(market.licensing.AttestCategory, request)
    document(as_dict(answer))
    fields(_fields(answer))
    if answer.category != category:
        note(
            f"It counts once a second operator says the same: rochdale licensee attest {short(answer.name)} --category …"
        )


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
    columns = ["licensee", "category", "claims", "evidence", "territory", "registered", "attested"]
    table(columns, [row[: len(columns)] for row in rows], empty="No licensees, or none that waits.")


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
    _claims_table(answer)
