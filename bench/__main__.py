"""`python -m bench`: runs the benchmarks asked for, one after another, and writes what they say. It measures nothing."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.report import document, machine, markdown, table
from bench.rows import Absent, Line
from bench.stage import ROOT, Stage

# What a benchmark is called, what it is about, and the seconds after which it is given up.
BENCHMARKS = {
    "issue": ("rows 1 and 2: durable token issue against an empty echo", 150),
    "echo": ("row 3: the kit's boundary against a bare handler", 60),
    "events": ("row 5: from a commit to its consumer", 60),
    "catalog": ("rows 6 to 8: search at growing sizes, full text, deep pages", 480),
    "votes": ("10,000 members vote through the RPCs", 240),
    "ledger": ("journals posted to the ledger against bare inserts", 120),
    "purchase": ("row 9: gateway against nginx; and from payment to a usable token", 150),
    "size": ("rows 13 and 14: start and memory", 180),
}
# Eight columns need room; a narrower terminal wraps, a file need not.
console = Console() if sys.stdout.isatty() else Console(width=160)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Which benchmarks; none means all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smallest sizes: shows that it works, not how fast.")] = False,
    list_them: Annotated[bool, typer.Option("--list", help="List the benchmarks and stop.")] = False,
    results: Annotated[Path, typer.Option(help="Folder for latest.json and latest.md.")] = ROOT / "bench" / "results",
) -> None:
    """Measures Rochdale, each figure as a ratio to a named baseline of the same run."""
    if list_them:
        for name, (about, _) in BENCHMARKS.items():
            console.print(f"[bold]{name:9}[/] {about}")
        return
    if unknown := sorted(set(names or ()) - set(BENCHMARKS)):
        raise typer.BadParameter(f"There is no benchmark {', '.join(unknown)}; --list shows all.")
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("rochdale_local").setLevel(logging.CRITICAL)
    facts = machine()
    lines, broken = asyncio.run(_run_all(names or list(BENCHMARKS), quick))
    said = document(lines, facts, quick)
    results.mkdir(parents=True, exist_ok=True)
    (results / "latest.json").write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n")
    (results / "latest.md").write_text(markdown(said))
    console.print(table(said))
    if broken:
        raise typer.Exit(1)


async def _run_all(names: list[str], quick: bool) -> tuple[list[Line], bool]:
    lines: list[Line] = []
    broken = False
    progress = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console)
    with progress, tempfile.TemporaryDirectory(prefix="rochdale-bench-") as folder:
        task = progress.add_task("")
        for number, name in enumerate(names, 1):
            about, seconds = BENCHMARKS[name]

            def say(text: str, place: str = f"{number} of {len(names)}, {name}") -> None:
                progress.update(task, description=f"{place}: {text}")

            if not console.is_terminal:
                console.print(f"{number} of {len(names)}, {name}: {about}")
            say("starting")
            started = time.perf_counter()
            try:
                home = Path(folder) / name
                home.mkdir()
                async with asyncio.timeout(seconds):
                    lines += await importlib.import_module(f"bench.{name}").run(Stage(quick, home, say))
            except TimeoutError:
                broken = True
                lines.append(
                    Absent("–", f"{name}: {about}", f"was given up after {time.perf_counter() - started:.0f} s")
                )
            except Exception as error:
                # One that breaks must not take the others' figures with it; its line says so, and the exit status.
                broken = True
                console.print_exception(max_frames=5)
                lines.append(Absent("–", f"{name}: {about}", f"broke: {type(error).__name__}: {error}"))
    return lines, broken


if __name__ == "__main__":
    # The walk through a market is written once, among the tests.
    sys.path.append(str(ROOT / "tests"))
    typer.run(main)
