"""rochdale token: one access token, on standard output and nowhere else."""

from __future__ import annotations

from typing import Annotated

import typer

from rochdale.client.options import RequestId, flat, open_market, parser
from rochdale.client.output import as_dict, document, note, settings
from rochdale.client.terms import duration, when
from rochdale.client.tokens import issue_token

app = typer.Typer()


@app.command()
def token(
    context: typer.Context,
    license: Annotated[str, typer.Argument(metavar="LICENSE", help="lic_…")],
    columns: Annotated[list[str] | None, typer.Option("--columns", help="Only these columns, with commas.")] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Only this dataset, by its whole name.")] = "",
    version: Annotated[int, typer.Option("--version", min=0, help="Only this version; 0 for the license's.")] = 0,
    ttl: Annotated[
        int, typer.Option("--ttl", parser=parser(duration), metavar="TIME", help="How long it lives, 1m to 24h.")
    ] = "15m",  # type: ignore[assignment]  # a default goes through the parser too
    request_id: RequestId = None,
) -> None:
    """Print an access token for a license, narrower if you ask for less. Nothing else goes to standard output.

    [dim]$[/] rochdale token lic_01J… --columns site,mdvis --ttl 5m

    [dim]$[/] curl -H "Authorization: Bearer $(rochdale token lic_01J…)" $GATEWAY/v1/licenses/lic_01J…/files
    """
    market = open_market(context)
    issued = issue_token(
        market,
        license,
        request_id=request_id,
        ttl_seconds=ttl,
        dataset=dataset,
        version=version,
        columns=flat(columns),
    )
    document(as_dict(issued))
    if not settings.machine:
        typer.echo(issued.token)
    note(
        f"This token is a secret: whoever has it has the data until {when(issued, 'expire_time')}. "
        f"It works at {issued.gateway_url} only."
    )
