"""rochdale profile: a Delta Sharing profile file for a license."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rochdale.client.options import RequestId, flat, open_market, parser
from rochdale.client.output import document, note, say
from rochdale.client.profile import table_url, write_profile
from rochdale.client.terms import duration, when
from rochdale.client.tokens import issue_token

app = typer.Typer()


@app.command()
def profile(
    context: typer.Context,
    license: Annotated[str, typer.Argument(metavar="LICENSE", help="lic_…")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write it, like x.share.")],
    columns: Annotated[list[str] | None, typer.Option("--columns", help="Only these columns, with commas.")] = None,
    ttl: Annotated[
        int, typer.Option("--ttl", parser=parser(duration), metavar="TIME", help="How long it works, 1m to 24h.")
    ] = "15m",  # type: ignore[assignment]  # a default goes through the parser too
    request_id: RequestId = None,
) -> None:
    """Write a profile with which any Delta Sharing client reads the license's tables.

    [dim]$[/] rochdale profile lic_01J… -o x.share

    [dim]$[/] python -c "import delta_sharing as d; print(d.load_as_pandas('x.share#valley-health.data.randhie'))"
    """
    market = open_market(context)
    issued = issue_token(market, license, request_id=request_id, ttl_seconds=ttl, columns=flat(columns))
    write_profile(output, issued.gateway_url, issued.token, float(issued.expire_time.seconds))
    tables = [table_url(output, entry.dataset) for entry in issued.scope.datasets]
    document({"profile": str(output), "tables": tables, "expire_time": when(issued, "expire_time")})
    for each in tables:
        say(each)
    note(f"{output} holds a secret token and works until {when(issued, 'expire_time')}.")
