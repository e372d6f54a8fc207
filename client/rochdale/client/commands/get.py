"""rochdale get: the files of a license, resumed and verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rochdale.client.download import download
from rochdale.client.options import flat, open_market
from rochdale.client.output import document, note, progress_bar, say
from rochdale.client.terms import count

app = typer.Typer()


@app.command()
def get(
    context: typer.Context,
    license: Annotated[str, typer.Argument(metavar="LICENSE", help="lic_…")],
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIRECTORY]", help="Where to. Default: {dataset}-v{version} here.")
    ] = None,
    columns: Annotated[list[str] | None, typer.Option("--columns", help="Only these columns, with commas.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=32, help="Requests at the same time.")] = 4,
) -> None:
    """Download everything a license opens. Interrupted? Run it again: it goes on where it stopped.

    A file gets its name only after its SHA-256 was found to be the announced one; until then it is NAME.part.

    [dim]$[/] rochdale get lic_01J…

    [dim]$[/] rochdale get lic_01J… data/ --workers 8
    """
    market = open_market(context)
    try:
        with progress_bar() as bar:
            task = bar.add_task("Downloading", total=None)
            delivery = download(
                license,
                directory,
                market=market,
                columns=flat(columns),
                workers=workers,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt:
        note("Interrupted. Run it again and it goes on where it stopped.")
        raise
    document(
        {
            "license": delivery.license,
            "dataset": delivery.dataset,
            "version": delivery.version,
            "columns": list(delivery.columns),
            "directory": str(delivery.directory),
            "files": [
                {"path": str(path), "sha256": file.sha256, "size_bytes": file.size_bytes, "row_count": file.row_count}
                for file, path in delivery.files
            ],
        }
    )
    rows = sum(file.row_count for file, _ in delivery.files)
    size_bytes = sum(file.size_bytes for file, _ in delivery.files)
    say(
        f"{count(len(delivery.files), 'file')}, {count(rows, 'row')}, {count(size_bytes, 'byte')}, all verified, "
        f"in {delivery.directory}."
    )
