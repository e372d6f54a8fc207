"""rochdale mandate: a buyer asks a cooperative's members for what no rule allows yet."""

from __future__ import annotations

from typing import Annotated

import typer

from rochdale.client.names import in_collection, in_cooperative, short
from rochdale.client.options import Limit, RequestId, collect, open_market, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.terms import MANDATE_STATES, left_until, price, when
from rochdale.client.views import scope_fields
from rochdale.client.wish_options import WishOptions, with_wish_options
from rochdale.licensing.v1 import licensing_pb2

app = typer.Typer(help="Ask members for what their rules do not allow yet.", no_args_is_help=True)

Request = Annotated[str, typer.Argument(metavar="REQUEST", help="mreq_…, as `rochdale mandate list` shows it.")]

_OPEN = (
    licensing_pb2.MANDATE_REQUEST_STATE_REQUESTED,
    licensing_pb2.MANDATE_REQUEST_STATE_DRAFTED,
    licensing_pb2.MANDATE_REQUEST_STATE_UNDER_VOTE,
)


def _clock(request: licensing_pb2.MandateRequest) -> str:
    """By when it is answered; only a request that still waits has a clock that runs."""
    told = when(request, "respond_by_time")
    return f"{told} ({left_until(request.respond_by_time)})" if request.state in _OPEN and told != "-" else told


def _show(request: licensing_pb2.MandateRequest) -> None:
    document(as_dict(request))
    fields(
        {
            "request": short(request.name),
            "state": MANDATE_STATES.format(request.state),
            "cooperative": short(request.cooperative),
            "buyer": short(request.licensee),
            "started from": short(request.offering),
            **{f"outside, {number}": sentence for number, sentence in enumerate(request.outside, 1)},
            **scope_fields(request.scope),
            "said to the members": request.message,
            "answered by": _clock(request),
            "proposal": short(request.proposal),
            "negotiation": short(request.negotiation),
            "do not vote": ", ".join(f"members tied to {each}" for each in request.beneficiaries),
            "why declined": request.decline_reason,
            "asked": when(request, "create_time"),
        }
    )
    if request.negotiation:
        note(f"The negotiation went on: rochdale license negotiations {short(request.negotiation)}")
    elif request.proposal:
        note(f"Follow the vote: rochdale proposal show {short(request.proposal)}")


@app.command()
@with_wish_options
def request(
    context: typer.Context,
    offering: Annotated[
        str, typer.Argument(metavar="OFFERING", help="The offering to start from: valley-health/off_….")
    ],
    wish: WishOptions,
    message: Annotated[str, typer.Option("--message", "-m", help="What you say to the members.")],
    request_id: RequestId = None,
) -> None:
    """Ask members for something outside their rules. A proposal is drafted from it; what you ask binds you meanwhile.

    [dim]$[/] rochdale mandate request valley-health/off_01J… --action pretrain --price "5000 EUR" -m "For clinics."
    """
    market = open_market(context)
    asked = licensing_pb2.RequestMandateRequest(
        request_id=request_id_or_new(request_id),
        offering=in_cooperative("offerings", offering, lambda: market.organization),
        wish=wish.wish(),
        message=message,
    )
    _show(market.call(market.licensing.RequestMandate, asked))


@app.command("list")
def list_(context: typer.Context, limit: Limit = 50) -> None:
    """List your requests, newest first; as a steward those to your cooperative.

    [dim]$[/] rochdale mandate list
    """
    market = open_market(context)
    asked = licensing_pb2.ListMandateRequestsRequest()
    found = collect(market, market.licensing.ListMandateRequests, asked, "mandate_requests", limit)
    found.document("mandate_requests")
    rows = [
        [
            short(each.name),
            MANDATE_STATES.format(each.state),
            short(each.licensee),
            short(each.cooperative),
            "; ".join(each.outside),
            price(each.scope.floor_price),
            _clock(each),
            short(each.proposal) or "-",
        ]
        for each in found
    ]
    columns = ["request", "state", "buyer", "cooperative", "outside the rules", "price", "answered by", "proposal"]
    table(columns, rows, empty="Nobody has asked for anything outside the rules.")


@app.command()
def show(context: typer.Context, request: Request) -> None:
    """Show one request: what is outside the rules, the response clock, the vote.

    [dim]$[/] rochdale mandate show mreq_01J…
    """
    market = open_market(context)
    asked = licensing_pb2.GetMandateRequestRequest(name=in_collection("mandateRequests", request))
    _show(market.call(market.licensing.GetMandateRequest, asked))


@app.command()
def withdraw(context: typer.Context, request: Request) -> None:
    """Take a request back, as long as no license came of it. Again changes nothing.

    [dim]$[/] rochdale mandate withdraw mreq_01J…
    """
    market = open_market(context)
    asked = licensing_pb2.WithdrawMandateRequestRequest(name=in_collection("mandateRequests", request))
    answer = market.call(market.licensing.WithdrawMandateRequest, asked)
    document(as_dict(answer))
    say(f"{short(answer.name)} is {MANDATE_STATES.format(answer.state)}.")
