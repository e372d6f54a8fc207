"""rochdale search: find open offerings by words and filters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.names import in_collection, short
from rochdale.client.options import flat, open_market, parser, words
from rochdale.client.output import as_dict, document, note, say, table
from rochdale.client.plans import due
from rochdale.client.terms import CATEGORIES, MODALITIES, MODES, ORDERS, money
from rochdale.type.v1 import money_pb2

app = typer.Typer()

_FACETS = ("modality", "language", "license_terms", "cooperative", "mode", "price")
_FACET_TITLES = {"license_terms": "license terms", "price": "price, minor units"}
_FACET_VALUES = 6


@app.command()
def search(
    context: typer.Context,
    query: Annotated[
        list[str] | None, typer.Argument(metavar="WORDS", help="Words to find; none lists everything.")
    ] = None,
    modality: Annotated[list[str] | None, typer.Option("--modality", help=f"{MODALITIES.all}.")] = None,
    language: Annotated[list[str] | None, typer.Option("--language", help="Like en or pt-BR.")] = None,
    term: Annotated[
        list[str] | None, typer.Option("--term", help="License terms: duty:attribution, action:pretrain.")
    ] = None,
    cooperative: Annotated[list[str] | None, typer.Option("--cooperative", help="Of which cooperative.")] = None,
    mode: Annotated[list[str] | None, typer.Option("--mode", help=f"{MODES.all}.")] = None,
    category: Annotated[
        Any,
        typer.Option(
            "--category",
            parser=parser(CATEGORIES.parse),
            metavar="CATEGORY",
            help=f"What you are; prices are then yours: {CATEGORIES.all}.",
        ),
    ] = None,
    max_price: Annotated[
        money_pb2.Money | None,
        typer.Option("--max-price", parser=parser(money), metavar="AMOUNT", help='At most, like "1200.00 EUR".'),
    ] = None,
    free: Annotated[bool, typer.Option("--free", help="Only free offerings.")] = False,
    order: Annotated[
        Any, typer.Option("--order", parser=parser(ORDERS.parse), metavar="ORDER", help="relevance, newest or price.")
    ] = None,
    facets: Annotated[bool, typer.Option("--facets/--no-facets", help="Count what the results have in common.")] = True,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="Results a page.")] = 20,
    page_token: Annotated[str, typer.Option("--page-token", help="From the page before, with the same filters.")] = "",
) -> None:
    """Search what can be licensed. Filters of different kinds narrow together; values of one kind widen.

    [dim]$[/] rochdale search health insurance

    [dim]$[/] rochdale search --modality tabular --category academic --free

    [dim]$[/] rochdale search trips --max-price "500 EUR" --order price --json
    """
    market = open_market(context)
    request = catalog_pb2.SearchOfferingsRequest(
        query=" ".join(query or ()),
        modalities=words(MODALITIES, modality, "--modality"),
        languages=flat(language),
        license_terms=flat(term),
        cooperatives=[in_collection("cooperatives", each) for each in flat(cooperative)],
        modes=words(MODES, mode, "--mode"),
        category=category,
        max_price=max_price,
        free_only=free,
        order=order,
        facets=_FACETS if facets else (),
        page_size=limit,
        page_token=page_token,
    )
    answer = market.call(market.catalog.SearchOfferings, request)
    document(as_dict(answer))
    rows = [
        [
            short(hit.offering.name),
            hit.offering.title,
            hit.dataset_title,
            hit.cooperative,
            MODES.format(hit.offering.scope.max_mode),
            _prices(hit.offering, category),
        ]
        for hit in answer.hits
    ]
    table(["offering", "title", "dataset", "cooperative", "mode", "price"], rows, empty="Nothing matches.")
    if facets and answer.hits:
        _show_facets(answer)
    say(f"{answer.total_count:,} in all.")
    if answer.next_page_token:
        note(f"The next page: --page-token {answer.next_page_token}")


def _prices(offering: catalog_pb2.Offering, category: int | None) -> str:
    tiers = [tier for tier in offering.tiers if not category or category in tier.categories]
    return "; ".join(dict.fromkeys(due(tier.price, tier.price_plan) for tier in tiers)) or "-"


def _plain(value: str) -> str:
    """A facet's value as the filter of the same name takes it."""
    for prefix in ("MODALITY_", "ACCESS_MODE_"):
        if value.startswith(prefix):
            return value.removeprefix(prefix).lower().replace("_", "-")
    return value.removeprefix("cooperatives/")


def _show_facets(answer: catalog_pb2.SearchOfferingsResponse) -> None:
    rows = [
        [
            _FACET_TITLES.get(facet.name, facet.name),
            ", ".join(f"{_plain(count.value)} ({count.count:,})" for count in facet.counts[:_FACET_VALUES])
            + (", …" if len(facet.counts) > _FACET_VALUES else ""),
        ]
        for facet in answer.facets
        if facet.counts
    ]
    table(["facet", "how many"], rows, empty="")
