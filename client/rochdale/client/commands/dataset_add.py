"""rochdale dataset add: from a file to a version in the catalog, with the steward's approval in between."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.market import Gateway, Market
from rochdale.client.names import in_cooperative, same_request, short
from rochdale.client.options import RequestId, existing, flat, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, note, progress_bar, say, settings, spinner
from rochdale.client.refusals import MarketError
from rochdale.client.terms import BROKEN_ROWS, FORMATS, MODALITIES, count
from rochdale.client.upload import upload
from rochdale.client.views import columns_table, sample_table
from rochdale.data_gateway.v1 import data_gateway_pb2

# A cooperative's gateway on a laptop starts when the cooperative is founded.
_GATEWAY_SECONDS = 20.0
_POLL_SECONDS = 0.25
# How long a version may take from the gateway to the catalog before we say that something is slow.
_PUBLISH_SECONDS = 60.0
_HASH_BYTES = 4 * 1024 * 1024


def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSON Lines or Parquet.")],
    dataset: Annotated[str, typer.Option("--dataset", metavar="ID", help="The dataset; created if it is new.")],
    title: Annotated[str, typer.Option("--title", help="What people read first. Default: the dataset's id.")] = "",
    description: Annotated[str, typer.Option("--description", help="What it holds and how it was collected.")] = "",
    modality: Annotated[
        Any, typer.Option("--modality", parser=parser(MODALITIES.parse), metavar="KIND", help=MODALITIES.all)
    ] = "tabular",
    language: Annotated[list[str] | None, typer.Option("--language", help="Of the content, like en; repeat.")] = None,
    citation: Annotated[str, typer.Option("--citation", help="How to cite it.")] = "",
    member_column: Annotated[
        str,
        typer.Option("--member-column", metavar="COLUMN", help="The column that names members; it is pseudonymized."),
    ] = "",
    broken_rows: Annotated[
        Any,
        typer.Option(
            "--broken-rows",
            parser=parser(BROKEN_ROWS.parse),
            metavar="CHOICE",
            help="stop: refuse the file and name the line. set-aside: keep such rows in a rejects file and go on.",
        ),
    ] = "stop",
    file_format: Annotated[
        Any,
        typer.Option(
            "--format", parser=parser(FORMATS.parse), metavar="FORMAT", help=f"{FORMATS.all}. Default: guessed."
        ),
    ] = None,
    sample_columns: Annotated[
        list[str] | None,
        typer.Option("--sample-columns", help="Columns of the public sample, with commas. Default: all but members."),
    ] = None,
    withhold_sample: Annotated[
        bool, typer.Option("--withhold-sample", help="Approve without publishing a sample; asks nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve version and sample without asking.")] = False,
    request_id: RequestId = None,
) -> None:
    """Add a version of a dataset from a file: upload, check, approve, publish.

    The bytes go to your cooperative's own gateway and stay there; the market gets names, counts and hashes. You see the
    sample before anybody else does and decide. Interrupted? Run it again with the same --request-id: it goes on.

    [dim]$[/] rochdale dataset add randhie.csv --dataset randhie --title "RAND Health Insurance Experiment" --member-column zper

    [dim]$[/] rochdale dataset add day2.jsonl --dataset trips --broken-rows set-aside --sample-columns city,distance --yes
    """
    existing(file)
    if not file.stat().st_size:
        raise MarketError("FILE_EMPTY", f"{file} is empty.", {"path": str(file)})
    if not (yes or withhold_sample) and (settings.machine or not sys.stdin.isatty()):
        raise typer.BadParameter("Nobody can be asked here; add --yes or --withhold-sample.")
    market = open_market(context)
    name = in_cooperative("datasets", dataset, lambda: market.organization)
    if request_id is None:
        request_id = request_id_or_new(None)
        note(f"Should this be interrupted: run it again with --request-id {request_id} and it goes on.")
    created = catalog_pb2.CreateDatasetRequest(
        request_id=same_request(request_id, "dataset"),
        parent=name.partition("/datasets/")[0],
        dataset_id=name.rpartition("/")[2],
        title=title or name.rpartition("/")[2],
        description=description,
        modality=modality,
        languages=flat(language),
        citation=citation,
    )
    gateway = _gateway(market, created.parent)
    start = data_gateway_pb2.StartIngestionRequest(
        request_id=same_request(request_id, "ingestion"),
        dataset=name,
        format=file_format or data_gateway_pb2.SOURCE_FORMAT_UNSPECIFIED,
        size_bytes=file.stat().st_size,
        sha256=_hash(file),
        member_column=member_column,
        broken_rows=broken_rows,
    )
    ingestion = market.call(gateway.control.StartIngestion, start)
    try:
        if ingestion.state == data_gateway_pb2.INGESTION_STATE_UPLOADING:
            _upload(market, ingestion, file)
        ingestion = _processed(market, gateway, ingestion)
    except KeyboardInterrupt:
        note(f"Interrupted. Run it again with --request-id {request_id} and it goes on.")
        raise
    if ingestion.rejected_row_count:
        rejected = count(ingestion.rejected_row_count, "broken row")
        note(f"{rejected} set aside in a rejects file at the gateway.")
    if ingestion.state == data_gateway_pb2.INGESTION_STATE_AWAITING_APPROVAL:
        _look(ingestion, flat(sample_columns), withhold_sample)
        if not (yes or withhold_sample) and not typer.confirm("Publish this version and this sample?", err=True):
            market.call(gateway.control.RejectVersion, data_gateway_pb2.RejectVersionRequest(name=ingestion.name))
            raise MarketError("VERSION_REJECTED", "You rejected the version; nothing of it is kept.")
        # Not earlier, so that a file that is refused leaves no dataset without a version behind.
        _ensure_dataset(market, name, created)
        approval = data_gateway_pb2.ApproveVersionRequest(
            request_id=same_request(request_id, "approval"),
            name=ingestion.name,
            sample_columns=[] if withhold_sample else flat(sample_columns),
            withhold_sample=withhold_sample,
        )
        ingestion = market.call(gateway.control.ApproveVersion, approval)
    version = _published(market, f"{name}/versions/{ingestion.version.number}")
    document({"ingestion": as_dict(ingestion), "version": as_dict(version)})
    say(
        f"{short(name)} version {version.number} is in the catalog: {count(version.row_count, 'row')}, "
        f"SHA-256 {version.content_hash}."
    )


def _ensure_dataset(market: Market, name: str, request: catalog_pb2.CreateDatasetRequest) -> None:
    try:
        market.call(market.catalog.GetDataset, catalog_pb2.GetDatasetRequest(name=name))
        return
    except MarketError as error:
        if error.reason != "NOT_FOUND":
            raise
    try:
        market.call(market.catalog.CreateDataset, request)
        say(f"Created dataset {short(name)}.")
    except MarketError as error:
        if error.reason != "DATASET_EXISTS":  # made by somebody else since we looked
            raise


def _hash(file: Path) -> str:
    digest, size_bytes = hashlib.sha256(), file.stat().st_size
    with file.open("rb") as source, progress_bar() as bar:
        task = bar.add_task("Hashing", total=size_bytes, visible=size_bytes > 64 * _HASH_BYTES)
        while piece := source.read(_HASH_BYTES):
            digest.update(piece)
            bar.advance(task, len(piece))
    return digest.hexdigest()


def _upload(market: Market, ingestion: data_gateway_pb2.Ingestion, file: Path) -> None:
    with progress_bar() as bar:
        task = bar.add_task("Uploading", total=ingestion.size_bytes, completed=ingestion.received_bytes)
        upload(
            ingestion.upload_url,
            file,
            market.sessions,
            progress=lambda sent, size_bytes: bar.update(task, completed=sent, total=size_bytes),
        )


def _processed(market: Market, gateway: Gateway, ingestion: data_gateway_pb2.Ingestion) -> data_gateway_pb2.Ingestion:
    """The ingestion once it is ready to be looked at. Raises the gateway's reason if it failed."""
    busy = (data_gateway_pb2.INGESTION_STATE_UPLOADING, data_gateway_pb2.INGESTION_STATE_PROCESSING)
    request = data_gateway_pb2.GetIngestionRequest(name=ingestion.name)
    with progress_bar() as bar:
        task = bar.add_task("Processing", total=ingestion.size_bytes)
        while True:
            ingestion = market.call(gateway.control.GetIngestion, request)
            # Some formats are read more than once; the bar then starts over and says which pass it is.
            passes, done = divmod(ingestion.processed_bytes, max(ingestion.size_bytes, 1))
            bar.update(
                task, completed=done, description=f"Processing (pass {passes + 1}), {ingestion.row_count:,} rows"
            )
            if ingestion.state not in busy:
                break
            time.sleep(_POLL_SECONDS)
    if ingestion.state == data_gateway_pb2.INGESTION_STATE_FAILED:
        raise MarketError(
            ingestion.failure_reason or "INGESTION_FAILED",
            ingestion.failure_message or "The file was refused.",
            {"ingestion": ingestion.name},
        )
    return ingestion


def _look(ingestion: data_gateway_pb2.Ingestion, shown: list[str], withheld: bool) -> None:
    version = ingestion.version
    say(
        f"{count(version.row_count, 'row')}, {count(len(version.columns), 'column')}, "
        f"{count(len(version.files), 'file')}."
    )
    columns_table(version)
    open_columns = {column.name for column in version.columns if not column.member_pseudonym}
    if unknown := [name for name in shown if name not in open_columns]:
        raise MarketError(
            "COLUMN_UNKNOWN",
            f"There is no column {unknown[0]} that could be shown. Run it again with the same --request-id and others.",
            {"column": unknown[0], "ingestion": ingestion.name},
        )
    title = "Sample, withheld: nobody else sees it" if withheld else "Sample, as everybody will see it"
    sample_table(version.sample_json, title, () if withheld else shown)


def _published(market: Market, name: str) -> catalog_pb2.Version:
    deadline = time.monotonic() + _PUBLISH_SECONDS
    with spinner("Waiting for the catalog"):
        while True:
            try:
                return market.call(market.catalog.GetVersion, catalog_pb2.GetVersionRequest(name=name))
            except MarketError as error:
                if error.reason != "NOT_FOUND":
                    raise
            if time.monotonic() > deadline:
                raise MarketError(
                    "VERSION_NOT_PUBLISHED",
                    f"{short(name)} is approved but not in the catalog yet. It will be; `rochdale dataset show` tells.",
                    {"version": name},
                )
            time.sleep(_POLL_SECONDS)


def _gateway(market: Market, cooperative: str) -> Gateway:
    """The cooperative's gateway; one that starts with its cooperative is waited for."""
    deadline = time.monotonic() + _GATEWAY_SECONDS
    with spinner("Waiting for your gateway"):
        while True:
            try:
                return market.gateway(cooperative)
            except MarketError as error:
                if error.reason != "NOT_FOUND" or time.monotonic() > deadline:
                    raise
            time.sleep(0.3)
