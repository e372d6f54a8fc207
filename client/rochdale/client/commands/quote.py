"""rochdale quote: what a license would cost the caller, binding for a day."""

from __future__ import annotations

from typing import Annotated

import typer

from rochdale.client.names import in_cooperative, short
from rochdale.client.options import RequestId, open_market, request_id_or_new
from rochdale.client.output import as_dict, document, fields
from rochdale.client.plans import due
from rochdale.client.terms import when
from rochdale.client.views import scope_fields
from rochdale.client.wish_options import WishOptions, with_wish_options
from rochdale.licensing.v1 import licensing_pb2

app = typer.Typer()


@app.command()
@with_wish_options
def quote(
    context: typer.Context,
    offering: Annotated[str, typer.Argument(metavar="OFFERING", help="valley-health/off_…, as a search shows it.")],
    wish: WishOptions,
    request_id: RequestId = None,
) -> None:
    """Ask what a license would cost you. The price holds for a day.

    [dim]$[/] rochdale quote valley-health/off_01J…

    [dim]$[/] rochdale quote valley-health/off_01J… --columns site,mdvis --duration 90d
    """
    market = open_market(context)
    request = licensing_pb2.RequestQuoteRequest(
        request_id=request_id_or_new(request_id),
        offering=in_cooperative("offerings", offering, lambda: market.organization),
        wish=wish.wish(),
    )
    answer = market.call(market.licensing.RequestQuote, request)
    document(as_dict(answer))
    shown = {
        "quote": short(answer.name),
        "price": due(answer.price, answer.price_plan),
        "holds until": when(answer, "expire_time"),
    }
    fields({**shown, **{name: value for name, value in scope_fields(answer.scope).items() if name != "price"}})
