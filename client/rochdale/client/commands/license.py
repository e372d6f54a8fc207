"""rochdale license: request, negotiate, list, show and terminate licenses."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rochdale.access_broker.v1 import access_broker_pb2
from rochdale.client.market import Market
from rochdale.client.names import in_collection, in_cooperative, short
from rochdale.client.options import Limit, RequestId, collect, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, say, spinner, table
from rochdale.client.plans import due
from rochdale.client.proof_views import show_report
from rochdale.client.refusals import MarketError
from rochdale.client.terms import CATEGORIES, LICENSE_STATES, NEGOTIATION_STATES, PARTIES, days, price, when
from rochdale.client.views import scope_fields
from rochdale.client.wish_options import WishOptions, with_wish_options
from rochdale.licensing.v1 import licensing_pb2

app = typer.Typer(help="Request, negotiate, list and end licenses.", no_args_is_help=True)

License = Annotated[str, typer.Argument(metavar="LICENSE", help="lic_…")]
Negotiation = Annotated[str, typer.Argument(metavar="NEGOTIATION", help="neg_…")]
Message = Annotated[str, typer.Option("--message", "-m", help="What you say to the other side.")]
Etag = Annotated[
    str | None,
    typer.Option(
        "--etag", help="What you answer to; say it when you retry with --request-id. Default: as it stands now."
    ),
]


def _license_fields(license: licensing_pb2.License) -> dict[str, str]:
    terms = license.terms
    return {
        "license": short(license.name),
        "state": LICENSE_STATES.format(license.state),
        "licensor": short(terms.licensor),
        "licensee": f"{short(terms.licensee)} ({CATEGORIES.format(terms.category)})",
        "agreed price": due(terms.price, terms.price_plan),
        "term": days(terms.duration_seconds),
        "active since": when(license, "activate_time"),
        "ends": when(license, "end_time"),
        "why ended": license.end_reason,
        "suspended since": when(license, "suspend_time"),
        "suspended by": _cause(license.suspended_by),
        "offering": short(terms.offering),
        "sharing rule": f"{short(terms.sharing_rule)}, revision {terms.rule_revision}",
        **{name: value for name, value in scope_fields(terms.scope).items() if name not in ("price", "categories")},
        "agreed": when(terms, "agree_time"),
        "terms hash": license.terms_hash,
        "suspension": "an emergency narrowing may suspend access for at most 30 days; the term grows by as long"
        if terms.emergency_suspension
        else "",
        "recall": "it ends when members narrow or end its rule so that it is no longer inside"
        if terms.member_recall
        else "",
        "signed with": license.signature.key_id,
    }


def _cause(suspended_by: str) -> str:
    """What suspends a license: an emergency by its name, money in words."""
    held, _, reason = suspended_by.partition("billing/")
    return f"its money: {reason.replace('_', ' ').lower()}" if not held and reason else short(suspended_by)


def _show_negotiation(negotiation: licensing_pb2.Negotiation) -> None:
    document(as_dict(negotiation))
    fields(
        {
            "negotiation": short(negotiation.name),
            "state": NEGOTIATION_STATES.format(negotiation.state),
            "between": f"{short(negotiation.licensee)} and {short(negotiation.cooperative)}",
            "offering": short(negotiation.offering),
            "price on the table": due(negotiation.price, negotiation.price_plan),
            **{key: value for key, value in scope_fields(negotiation.scope).items() if key != "price"},
            "license": short(negotiation.license),
            "answer until": when(negotiation, "expire_time"),
        }
    )
    if negotiation.steps:
        rows = [
            [
                str(step.number),
                PARTIES.format(step.party),
                NEGOTIATION_STATES.format(step.state),
                price(step.price),
                when(step, "step_time"),
                step.message,
            ]
            for step in negotiation.steps
        ]
        table(["step", "by", "state", "price", "when", "message"], rows)
    _what_next(negotiation)


def _what_next(negotiation: licensing_pb2.Negotiation) -> None:
    if negotiation.state == licensing_pb2.NEGOTIATION_STATE_AGREED:
        license = short(negotiation.license)
        if negotiation.price.amount_minor:
            note(f"Agreed. Pay with: rochdale order pay {license}")
        else:
            free = "and only what you use is billed" if negotiation.HasField("price_plan") else "and free"
            note(f"Agreed, {free}. Download with: rochdale get {license}")
    elif negotiation.state == licensing_pb2.NEGOTIATION_STATE_REQUESTED:
        note("The cooperative's move: rochdale license accept, counter or decline.")
    elif negotiation.state == licensing_pb2.NEGOTIATION_STATE_OFFERED:
        note("The buyer's move: rochdale license accept, counter or decline.")


def _negotiation(market: Market, text: str) -> licensing_pb2.Negotiation:
    request = licensing_pb2.GetNegotiationRequest(name=in_collection("negotiations", text))
    return market.call(market.licensing.GetNegotiation, request)


@app.command()
@with_wish_options
def request(
    context: typer.Context,
    offering: Annotated[str, typer.Argument(metavar="OFFERING", help="valley-health/off_…, as a search shows it.")],
    wish: WishOptions,
    quote: Annotated[
        str, typer.Option("--quote", metavar="QUOTE", help="Hold the market to quo_…; then no wish.")
    ] = "",
    message: Message = "",
    request_id: RequestId = None,
) -> None:
    """Request a license. At the listed price it is agreed at once; another price starts a negotiation.

    [dim]$[/] rochdale license request valley-health/off_01J…

    [dim]$[/] rochdale license request valley-health/off_01J… --purpose AcademicResearch --columns site,mdvis

    [dim]$[/] rochdale license request valley-health/off_01J… --price "900 EUR" -m "We are ten people."
    """
    wanted = wish.wish()
    if quote and wanted.ByteSize():
        raise typer.BadParameter("A quote says what you want; leave out the other options.", param_hint="--quote")
    market = open_market(context)
    asked = licensing_pb2.RequestLicenseRequest(
        request_id=request_id_or_new(request_id),
        offering=in_cooperative("offerings", offering, lambda: market.organization),
        wish=None if quote else wanted,
        quote=in_collection("quotes", quote) if quote else "",
        message=message,
    )
    try:
        _show_negotiation(market.call(market.licensing.RequestLicense, asked))
    except MarketError as error:
        # Not a dead end: members can be asked.
        if error.reason in ("REQUEST_OUTSIDE_OFFERING", "REQUEST_OUTSIDE_RULE"):
            error.message += f" Ask the members for it: rochdale mandate request {offering} … -m WHY"
        raise


@app.command()
@with_wish_options
def counter(
    context: typer.Context,
    negotiation: Negotiation,
    wish: WishOptions,
    message: Message = "",
    etag: Etag = None,
    request_id: RequestId = None,
) -> None:
    """Put other terms on the table, when it is your move. What you leave out is the offering's; the price stays.

    [dim]$[/] rochdale license counter neg_01J… --price "1000 EUR" -m "Meet us in the middle."
    """
    market = open_market(context)
    name = in_collection("negotiations", negotiation)
    asked = licensing_pb2.CounterRequest(
        request_id=request_id_or_new(request_id),
        name=name,
        etag=etag or _negotiation(market, name).etag,
        wish=wish.wish(),
        message=message,
    )
    _show_negotiation(market.call(market.licensing.Counter, asked))


@app.command()
def accept(context: typer.Context, negotiation: Negotiation, etag: Etag = None, request_id: RequestId = None) -> None:
    """Accept what is on the table, when it is your move. The license is then agreed.

    [dim]$[/] rochdale license accept neg_01J…
    """
    market = open_market(context)
    name = in_collection("negotiations", negotiation)
    asked = licensing_pb2.AcceptNegotiationRequest(
        request_id=request_id_or_new(request_id), name=name, etag=etag or _negotiation(market, name).etag
    )
    _show_negotiation(market.call(market.licensing.AcceptNegotiation, asked))


@app.command()
def decline(
    context: typer.Context, negotiation: Negotiation, message: Message = "", request_id: RequestId = None
) -> None:
    """End a negotiation that has not led to a license.

    [dim]$[/] rochdale license decline neg_01J… -m "Not at this price."
    """
    market = open_market(context)
    asked = licensing_pb2.TerminateNegotiationRequest(
        request_id=request_id_or_new(request_id), name=in_collection("negotiations", negotiation), message=message
    )
    _show_negotiation(market.call(market.licensing.TerminateNegotiation, asked))


@app.command()
def negotiations(
    context: typer.Context,
    negotiation: Annotated[
        str | None, typer.Argument(metavar="[NEGOTIATION]", help="One of them, with its steps; none lists all.")
    ] = None,
    state: Annotated[
        Any,
        typer.Option("--state", parser=parser(NEGOTIATION_STATES.parse), metavar="STATE", help=NEGOTIATION_STATES.all),
    ] = None,
    limit: Limit = 50,
) -> None:
    """List your negotiations, newest first, or show one with its steps.

    [dim]$[/] rochdale license negotiations --state requested

    [dim]$[/] rochdale license negotiations neg_01J…
    """
    market = open_market(context)
    if negotiation:
        _show_negotiation(_negotiation(market, negotiation))
        return
    asked = licensing_pb2.ListNegotiationsRequest(state=state)
    found = collect(market, market.licensing.ListNegotiations, asked, "negotiations", limit)
    found.document("negotiations")
    rows = [
        [
            short(each.name),
            NEGOTIATION_STATES.format(each.state),
            short(each.licensee),
            short(each.offering),
            price(each.price),
            short(each.license) or "-",
            when(each, "expire_time"),
        ]
        for each in found
    ]
    table(["negotiation", "state", "buyer", "offering", "price", "license", "answer until"], rows)


@app.command("list")
def list_(
    context: typer.Context,
    state: Annotated[
        Any, typer.Option("--state", parser=parser(LICENSE_STATES.parse), metavar="STATE", help=LICENSE_STATES.all)
    ] = None,
    limit: Limit = 50,
) -> None:
    """List your licenses, newest first.

    [dim]$[/] rochdale license list --state active
    """
    market = open_market(context)
    asked = licensing_pb2.ListLicensesRequest(state=state)
    found = collect(market, market.licensing.ListLicenses, asked, "licenses", limit)
    found.document("licenses")
    rows = [
        [
            short(each.name),
            LICENSE_STATES.format(each.state),
            short(each.terms.licensor),
            short(each.terms.licensee),
            ", ".join(short(entry.dataset) for entry in each.terms.scope.datasets),
            price(each.terms.price),
            when(each, "end_time"),
        ]
        for each in found
    ]
    table(["license", "state", "licensor", "licensee", "data", "price", "ends"], rows)


@app.command()
def show(context: typer.Context, license: License) -> None:
    """Show one license with everything that was agreed.

    [dim]$[/] rochdale license show lic_01J…
    """
    market = open_market(context)
    asked = licensing_pb2.GetLicenseRequest(name=in_collection("licenses", license))
    answer = market.call(market.licensing.GetLicense, asked)
    document(as_dict(answer))
    fields(_license_fields(answer))


@app.command()
def terminate(
    context: typer.Context,
    license: License,
    reason: Annotated[str, typer.Option("--reason", help="Why; the other side reads it.")],
    request_id: RequestId = None,
) -> None:
    """End a license early. Its tokens are refused within two seconds.

    [dim]$[/] rochdale license terminate lic_01J… --reason "We are done."
    """
    market = open_market(context)
    asked = licensing_pb2.TerminateLicenseRequest(
        request_id=request_id_or_new(request_id), name=in_collection("licenses", license), reason=reason
    )
    answer = market.call(market.licensing.TerminateLicense, asked)
    document(as_dict(answer))
    say(f"{short(answer.name)} is {LICENSE_STATES.format(answer.state)} since {when(answer, 'end_time')}.")


@app.command()
def prove(
    context: typer.Context,
    license: Annotated[str | None, typer.Argument(metavar="[LICENSE]", help="Only this one. Default: all.")] = None,
) -> None:
    """Prove live licenses again, from the vote to the grant (operators and stewards). What does not hold is cut off.

    [dim]$[/] rochdale license prove lic_01J…
    """
    market = open_market(context)
    asked = access_broker_pb2.ProveGrantsRequest(license=in_collection("licenses", license) if license else "")
    with spinner("Proving"):
        answer = market.call(market.access_broker.ProveGrants, asked, timeout_seconds=600)
    document(as_dict(answer))
    show_report(answer)
