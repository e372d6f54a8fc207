"""rochdale dataset: list and show. Adding data, the long one, is in dataset_add.py."""

from __future__ import annotations

from typing import Annotated

import typer

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.commands import dataset_add
from rochdale.client.names import in_collection, in_cooperative, short
from rochdale.client.options import Limit, collect, open_market
from rochdale.client.output import as_dict, document, fields, say, table
from rochdale.client.terms import MODALITIES, count, when
from rochdale.client.views import columns_table, sample_table

app = typer.Typer(help="Add data; list and show datasets.", no_args_is_help=True)
app.command()(dataset_add.add)


@app.command("list")
def list_(
    context: typer.Context,
    cooperative: Annotated[
        str | None, typer.Option("--cooperative", metavar="ID", help="Of which cooperative. Default: your own.")
    ] = None,
    limit: Limit = 50,
) -> None:
    """List a cooperative's datasets.

    [dim]$[/] rochdale dataset list --cooperative valley-health
    """
    market = open_market(context)
    request = catalog_pb2.ListDatasetsRequest(parent=in_collection("cooperatives", cooperative or market.organization))
    found = collect(market, market.catalog.ListDatasets, request, "datasets", limit)
    found.document("datasets")
    rows = [
        [
            short(each.name),
            each.title,
            MODALITIES.format(each.modality),
            str(each.latest_version or "-"),
            when(each, "create_time"),
        ]
        for each in found
    ]
    table(["dataset", "title", "modality", "version", "created"], rows)


@app.command()
def show(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="valley-health/randhie, or randhie of your own.")],
    version: Annotated[int, typer.Option("--version", min=0, help="Which version; 0 for the latest.")] = 0,
) -> None:
    """Show a dataset: its columns with statistics that point at nobody, and the sample its steward approved.

    [dim]$[/] rochdale dataset show valley-health/randhie
    """
    market = open_market(context)
    name = in_cooperative("datasets", dataset, lambda: market.organization)
    found = market.call(market.catalog.GetDataset, catalog_pb2.GetDatasetRequest(name=name))
    number = version or found.latest_version
    published = None
    if number:
        request = catalog_pb2.GetVersionRequest(name=f"{name}/versions/{number}")
        published = market.call(market.catalog.GetVersion, request)
    document({"dataset": as_dict(found), "version": as_dict(published) if published else None})
    fields(
        {
            "dataset": short(found.name),
            "title": found.title,
            "description": found.description,
            "modality": MODALITIES.format(found.modality),
            "languages": ", ".join(found.languages),
            "citation": found.citation,
            "latest version": str(found.latest_version or "none yet"),
        }
    )
    if published is None:
        return
    say("")
    fields(
        {
            "version": str(published.number),
            "rows": f"{published.row_count:,}",
            "members": f"at least {published.member_count:,}" if published.member_count else "-",
            "size": f"{count(published.size_bytes, 'byte')} in {count(len(published.files), 'file')}",
            "published": when(published, "publish_time"),
            "superseded": f"by version {published.superseded_by}, because members withdrew"
            if published.superseded_by
            else "",
            "hash": published.content_hash,
        }
    )
    columns_table(published)
    sample_table(published.sample_json)
