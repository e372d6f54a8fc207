"""rochdale offering: publish, close, list and show offerings."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.market import Market
from rochdale.client.names import in_collection, in_cooperative, short
from rochdale.client.offers import publish_signed
from rochdale.client.options import Limit, RequestId, collect, flat, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, say, table
from rochdale.client.plans import due, interval, plan
from rochdale.client.scope_options import ScopeOptions, with_scope_options
from rochdale.client.signing_options import SigningKeyFile, current_signing_key, get_cooperative
from rochdale.client.terms import CATEGORIES, MODES, OFFERING_STATES, common, money, when
from rochdale.client.views import scope_fields
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import pricing_pb2, scope_pb2

app = typer.Typer(help="Publish, close and show offerings.", no_args_is_help=True)

Offering = Annotated[str, typer.Argument(metavar="OFFERING", help="valley-health/off_…, or off_… of your own.")]

_TIER = re.compile(r"(?P<categories>[^=@]+)=(?P<price>[^=@]+)@(?P<rule>[^=@]+)")


def tier(text: str, cooperative: str) -> catalog_pb2.OfferingTier:
    """The tier in "academic,health-nonprofit=0 EUR@rule_…". Raises ValueError with a sentence."""
    match = _TIER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{text!r} is not a tier; write it like "academic,health-nonprofit=0 EUR@rule_01J…".')
    return catalog_pb2.OfferingTier(
        categories=[CATEGORIES.parse(word) for word in flat([match["categories"]])],
        price=money(match["price"]),
        sharing_rule=in_cooperative("sharingRules", match["rule"].strip(), lambda: cooperative),
    )


def with_plan(
    tiers: list[catalog_pb2.OfferingTier],
    every: pricing_pb2.BillingInterval.ValueType | None,
    metered: list[str],
) -> None:
    """Says of every tier that costs something how its price is due; of all tiers if none does. Raises ValueError."""
    costly = [each for each in tiers if each.price.amount_minor] or tiers
    for each in costly:
        if (said := plan(every, metered, each.price.currency)) is not None:
            each.price_plan.CopyFrom(said)


def tier_lines(offering: catalog_pb2.Offering) -> dict[str, str]:
    """Who pays what, as fields."""
    shown = {}
    for each in offering.tiers:
        costs = due(each.price, each.price_plan)
        shown[f"price for {CATEGORIES.format_all(each.categories)}"] = f"{costs}  ({short(each.sharing_rule)})"
    return shown


def get_offering(market: Market, offering: str) -> catalog_pb2.Offering:
    """One offering by any of its names."""
    name = in_cooperative("offerings", offering, lambda: market.organization)
    return market.call(market.catalog.GetOffering, catalog_pb2.GetOfferingRequest(name=name))


def _fields(offering: catalog_pb2.Offering) -> dict[str, str]:
    return {
        "offering": short(offering.name),
        "title": offering.title,
        "description": offering.description,
        "state": OFFERING_STATES.format(offering.state),
        **tier_lines(offering),
        **scope_fields(offering.scope, tiers=True),
        "published": when(offering, "publish_time"),
        "closed": when(offering, "close_time"),
        "why closed": offering.close_reason,
        "answers": short(offering.mandate_request),
        "hash": offering.offering_hash,
        "signed with": offering.signature.key_id,
    }


def _scope(market: Market, options: ScopeOptions, tiers: list[catalog_pb2.OfferingTier]) -> scope_pb2.SharingScope:
    """What --scope-file says, else what the rules of all tiers have in common; then whatever an option changes."""
    scope = options.from_file()
    if scope is None:
        rules = [
            market.call(market.governance.GetSharingRule, governance_pb2.GetSharingRuleRequest(name=name))
            for name in dict.fromkeys(each.sharing_rule for each in tiers)
        ]
        try:
            scope = common([rule.scope for rule in rules])
        except ValueError as error:
            raise typer.BadParameter(f"{error} Say yourself what is offered, with --scope-file.") from None
    if options.dataset:
        kept = {in_cooperative("datasets", each, lambda: market.organization) for each in flat(options.dataset)}
        remaining = [entry for entry in scope.datasets if entry.dataset in kept]
        del scope.datasets[:]
        scope.datasets.extend(remaining)
    options.apply(scope)
    return scope


@app.command()
@with_scope_options
def publish(
    context: typer.Context,
    scope: ScopeOptions,
    title: Annotated[str, typer.Option("--title", help="What people read first.")],
    tiers: Annotated[
        list[str],
        typer.Option(
            "--tier", metavar="TIER", help='Who pays what under which rule: "academic=0 EUR@rule_01J…"; repeat.'
        ),
    ],
    description: Annotated[str, typer.Option("--description", help="What is offered, in a few sentences.")] = "",
    mandate_request: Annotated[
        str, typer.Option("--mandate-request", metavar="REQUEST", help="The buyer's request (mreq_…) it answers.")
    ] = "",
    every: Annotated[
        Any,
        typer.Option(
            "--every",
            parser=parser(interval),
            metavar="INTERVAL",
            help="month or year: prices are due again each time. Default: once. Tiers of 0 stay free, unless all are 0.",
        ),
    ] = None,
    metered: Annotated[
        list[str] | None,
        typer.Option(
            "--metered",
            metavar="METER=AMOUNT[,included=N][,cap=N]",
            help='A price by use beside it, for each gigabyte, query or epsilon: "gigabyte=0.025,included=10,cap=1000"; '
            "repeat.",
        ),
    ] = None,
    signing_key: SigningKeyFile = None,
    request_id: RequestId = None,
) -> None:
    """Publish an offering, signed with the cooperative's key. Categories and prices come from the tiers.

    Where you say nothing, you offer all that the rules of the tiers have in common.

    [dim]$[/] rochdale offering publish --title "Person-years" --tier "academic=0 EUR@rule_01J…" --tier "sme=900 EUR@rule_01K…"

    [dim]$[/] rochdale offering publish --title "Two columns" --tier "sme=90 EUR@rule_01K…" --columns site,mdvis

    [dim]$[/] rochdale offering publish --title "Monthly" --tier "sme=100 EUR@rule_01K…" --every month \
--metered gigabyte=0.25,included=10,cap=1000
    """
    market = open_market(context)
    cooperative = market.organization
    try:
        parsed = [tier(text, cooperative) for text in tiers]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--tier") from None
    try:
        with_plan(parsed, every, metered or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--metered") from None
    key = current_signing_key(market, signing_key, get_cooperative(market, cooperative))
    request = catalog_pb2.PublishOfferingRequest(
        request_id=request_id_or_new(request_id),
        parent=in_collection("cooperatives", cooperative),
        title=title,
        description=description,
        scope=_scope(market, scope, parsed),
        tiers=parsed,
        mandate_request=in_collection("mandateRequests", mandate_request) if mandate_request else "",
    )
    answer = publish_signed(market, request, key)
    document(as_dict(answer))
    fields(_fields(answer))


@app.command()
def close(context: typer.Context, offering: Offering) -> None:
    """Close an offering. Licenses already signed go on. Closing again changes nothing.

    [dim]$[/] rochdale offering close off_01J…
    """
    market = open_market(context)
    name = in_cooperative("offerings", offering, lambda: market.organization)
    answer = market.call(market.catalog.CloseOffering, catalog_pb2.CloseOfferingRequest(name=name))
    document(as_dict(answer))
    say(f"{short(answer.name)} is closed since {when(answer, 'close_time')}.")


@app.command("list")
def list_(
    context: typer.Context,
    cooperative: Annotated[
        str | None, typer.Option("--cooperative", metavar="ID", help="Of which cooperative. Default: your own.")
    ] = None,
    limit: Limit = 50,
) -> None:
    """List a cooperative's offerings, newest first, open and closed.

    [dim]$[/] rochdale offering list --cooperative valley-health
    """
    market = open_market(context)
    request = catalog_pb2.ListOfferingsRequest(parent=in_collection("cooperatives", cooperative or market.organization))
    found = collect(market, market.catalog.ListOfferings, request, "offerings", limit)
    found.document("offerings")
    rows = [
        [
            short(each.name),
            each.title,
            OFFERING_STATES.format(each.state),
            MODES.format(each.scope.max_mode),
            "; ".join(
                f"{CATEGORIES.format_all(one.categories)}: {due(one.price, one.price_plan)}" for one in each.tiers
            ),
        ]
        for each in found
    ]
    table(["offering", "title", "state", "mode", "prices"], rows)


@app.command()
def show(context: typer.Context, offering: Offering) -> None:
    """Show one offering: what it gives, to whom, for how much, under which promises.

    [dim]$[/] rochdale offering show valley-health/off_01J…
    """
    answer = get_offering(open_market(context), offering)
    document(as_dict(answer))
    fields(_fields(answer))
