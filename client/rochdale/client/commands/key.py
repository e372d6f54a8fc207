"""rochdale key: create, list and revoke API keys."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.client.keys import key_hash, secret_for
from rochdale.client.names import in_collection, short
from rochdale.client.options import Limit, RequestId, collect, open_market, parser, request_id_or_new, words
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.terms import ROLES, moment, when
from rochdale.identity.v1 import identity_pb2

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

OfOrganization = Annotated[
    str | None, typer.Option("--organization", metavar="ID", help="Whose; an operator may name any. Default: your own.")
]


def _fields(key: identity_pb2.ApiKey) -> dict[str, str]:
    return {
        "key": short(key.name),
        "label": key.label,
        "roles": ROLES.format_all(key.roles),
        "created": when(key, "create_time"),
        "expires": when(key, "expire_time"),
        "revoked": when(key, "revoke_time"),
    }


@app.command()
def create(
    context: typer.Context,
    label: Annotated[str, typer.Argument(metavar="LABEL", help='What you call it, such as "laptop of Ada".')],
    save_key: Annotated[Path, typer.Option("--save-key", metavar="FILE", help="Where to keep the new key.")],
    role: Annotated[list[str], typer.Option("--role", help=f"What it may be used for: {ROLES.all}.")],
    organization: OfOrganization = None,
    expires: Annotated[
        Timestamp | None,
        typer.Option("--expires", parser=parser(moment), metavar="TIME", help="When it stops working by itself."),
    ] = None,
    request_id: RequestId = None,
) -> None:
    """Make another API key for an organization. The secret stays in the file; the market stores its hash.

    [dim]$[/] rochdale key create "laptop of Ada" --role steward --save-key ada.key

    [dim]$[/] rochdale key create "gateway" --role gateway --save-key gateway.key --expires 2027-01-01
    """
    if expires is not None and expires.ToSeconds() <= time.time():
        raise typer.BadParameter("That time has passed; such a key would never work.", param_hint="--expires")
    market = open_market(context)
    request = identity_pb2.CreateApiKeyRequest(
        request_id=request_id_or_new(request_id),
        parent=in_collection("organizations", organization or market.organization),
        key_hash=key_hash(secret_for(save_key)),
        label=label,
        roles=words(ROLES, role, "--role"),
        expire_time=expires,
    )
    answer = market.call(market.identity.CreateApiKey, request)
    document(as_dict(answer) | {"key_file": str(save_key)})
    fields(_fields(answer) | {"key file": str(save_key)})
    note(f"Keep {save_key}: it is the only copy.")


@app.command("list")
def list_(context: typer.Context, organization: OfOrganization = None, limit: Limit = 50) -> None:
    """List an organization's keys, newest first, without their secrets.

    [dim]$[/] rochdale key list
    """
    market = open_market(context)
    parent = in_collection("organizations", organization or market.organization)
    request = identity_pb2.ListApiKeysRequest(parent=parent)
    found = collect(market, market.identity.ListApiKeys, request, "api_keys", limit)
    found.document("api_keys")
    table(["key", "label", "roles", "created", "expires", "revoked"], [list(_fields(key).values()) for key in found])


@app.command()
def revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="key_…, as `rochdale key list` shows it.")],
    organization: OfOrganization = None,
) -> None:
    """Make a key useless. Doing it again changes nothing; sessions it started end within 15 minutes.

    [dim]$[/] rochdale key revoke key_01J…
    """
    market = open_market(context)
    name = key
    if not key.startswith("organizations/"):
        name = f"{in_collection('organizations', organization or market.organization)}/apiKeys/{key}"
    answer = market.call(market.identity.RevokeApiKey, identity_pb2.RevokeApiKeyRequest(name=name))
    document(as_dict(answer))
    say(f"{short(answer.name)} is revoked since {when(answer, 'revoke_time')}.")
