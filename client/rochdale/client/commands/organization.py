"""rochdale organization: register, show, list and verify. Keys beyond the first are in key.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rochdale.client.keys import key_hash, secret_for
from rochdale.client.market import Market, read_addresses
from rochdale.client.names import in_collection, short
from rochdale.client.options import Limit, RequestId, collect, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, say, settings, table
from rochdale.client.terms import KINDS, when
from rochdale.identity.v1 import identity_pb2

app = typer.Typer(help="Register, verify and show organizations.", no_args_is_help=True)

Organization = Annotated[str, typer.Argument(metavar="ORGANIZATION", help='Its id, such as "valley-health".')]


def _fields(organization: identity_pb2.Organization) -> dict[str, str]:
    return {
        "organization": short(organization.name),
        "kind": KINDS.format(organization.kind),
        "name": organization.display_name,
        "contact": organization.contact_email,
        "verified": when(organization, "verify_time") if organization.verified else "not yet",
        "registered": when(organization, "create_time"),
    }


@app.command()
def register(
    context: typer.Context,
    organization_id: Annotated[str, typer.Argument(metavar="ID", help="The id it wants: lower case, hyphens.")],
    kind: Annotated[
        Any, typer.Option("--kind", parser=parser(KINDS.parse), metavar="KIND", help="cooperative or buyer.")
    ],
    name: Annotated[str, typer.Option("--name", help="How people call it.")],
    email: Annotated[str, typer.Option("--email", help="Where the operator reaches it.")],
    save_key: Annotated[
        Path | None,
        typer.Option(
            "--save-key", metavar="FILE", help="Where to keep its first key. Default: ID.key beside market.json."
        ),
    ] = None,
    request_id: RequestId = None,
) -> None:
    """Register an organization and make its first API key.

    The key is made here and kept in a file only you can read; the market stores its hash and cannot give it back.
    A key file that exists already is used again, so that a retry registers the same key.

    [dim]$[/] rochdale organization register valley-health --kind cooperative --name "Valley Health" --email ada@valley.example

    [dim]$[/] rochdale organization register lab --kind buyer --name "Lab" --email lab@lab.example --save-key lab.key
    """
    # Registering needs no key, and the one named may be an operator's, which must not become the newcomer's too.
    market = context.with_resource(Market(read_addresses(settings.market_file)))
    file = save_key or market.addresses.file.parent / "keys" / f"{organization_id}.key"
    request = identity_pb2.RegisterOrganizationRequest(
        request_id=request_id_or_new(request_id),
        organization_id=organization_id,
        kind=kind,
        display_name=name,
        contact_email=email,
        key_hash=key_hash(secret_for(file)),
    )
    answer = market.call(market.identity.RegisterOrganization, request)
    document(as_dict(answer) | {"key_file": str(file)})
    fields(_fields(answer.organization) | {"key": short(answer.api_key.name), "key file": str(file)})
    note(
        f"Keep {file}: it is your only copy. An operator has to verify the organization before it can change anything."
    )


@app.command()
def show(context: typer.Context, organization: Organization) -> None:
    """Show one organization: your own, or any for an operator.

    [dim]$[/] rochdale organization show valley-health
    """
    market = open_market(context)
    request = identity_pb2.GetOrganizationRequest(name=in_collection("organizations", organization))
    answer = market.call(market.identity.GetOrganization, request)
    document(as_dict(answer))
    fields(_fields(answer))


@app.command("list")
def list_(
    context: typer.Context,
    unverified: Annotated[bool, typer.Option("--unverified", help="Only those that wait to be verified.")] = False,
    limit: Limit = 50,
) -> None:
    """List organizations, oldest first (operators).

    [dim]$[/] rochdale organization list --unverified
    """
    market = open_market(context)
    request = identity_pb2.ListOrganizationsRequest(unverified_only=unverified)
    found = collect(market, market.identity.ListOrganizations, request, "organizations", limit)
    found.document("organizations")
    rows = [list(_fields(organization).values()) for organization in found]
    table(["organization", "kind", "name", "contact", "verified", "registered"], rows)


@app.command()
def verify(context: typer.Context, organization: Organization, request_id: RequestId = None) -> None:
    """Say that an organization exists and is what it says (operators).

    [dim]$[/] rochdale organization verify valley-health --key-file operator.key
    """
    market = open_market(context)
    request = identity_pb2.VerifyOrganizationRequest(
        request_id=request_id_or_new(request_id), name=in_collection("organizations", organization)
    )
    answer = market.call(market.identity.VerifyOrganization, request)
    document(as_dict(answer))
    say(f"{short(answer.name)} is verified since {when(answer, 'verify_time')}.")
