"""How results are shown: the same table as JSON, as Markdown and in a terminal, with the facts of the machine."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import psutil
from rich.table import Table

from bench.rows import Line
from rochdale_local.nats import nats_program
from rochdale_local.postgres_programs import MAJOR_VERSION

PACKAGES = ("grpcio", "protobuf", "protovalidate", "sqlalchemy", "asyncpg", "nats-py", "tantivy", "uvloop", "uvicorn")
HEADS = ("row", "what", "ratio", "min … max", "goal", "reached", "ours", "baseline", "note")


def machine() -> dict[str, Any]:
    """Cores, memory, load and versions. The load is that before the run; much of it makes every figure doubtful."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "postgresql": MAJOR_VERSION,
        "nats_server": _said(str(nats_program()), "--version"),
        "nginx": _said("nginx", "-v"),
        "h2load": _said("h2load", "--version"),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _said(program: str, option: str) -> str | None:
    """The version a program tells; None where it is not installed."""
    if shutil.which(program) is None:
        return None
    done = subprocess.run([program, option], capture_output=True, text=True, timeout=10)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else None


def document(lines: Sequence[Line], facts: dict[str, Any], quick: bool) -> dict[str, Any]:
    facts = facts | {"load_average_after": [round(load, 2) for load in os.getloadavg()]}
    return {
        "version": 1,
        "taken_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": facts,
        "rows": [line.document() for line in lines],
    }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table, in the order of HEADS."""
    if row["absent"]:
        return (row["row"], row["what"], "absent", "", "", "", "", "", row["absent"])
    ratio, ours, baseline = row["ratio"], row["ours"], row["baseline"]
    failed = ours["failed_operations"] + baseline["failed_operations"]
    note = f"{failed} operations failed; {row['note']}" if failed else row["note"]
    return (
        row["row"],
        row["what"],
        f"{ratio['median']:.3g}",
        f"{ratio['min']:.3g} … {ratio['max']:.3g}",
        row["goal"] or "",
        {True: "yes", False: "no", None: ""}[row["reached"]],
        _figure(ours),
        _figure(baseline),
        note,
    )


def _figure(side: dict[str, Any]) -> str:
    value = side["median"]
    number = f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"
    return f"{number} {side['unit']} ({side['name']})"


def markdown(said: dict[str, Any]) -> str:
    rows = [HEADS, tuple("---" for _ in HEADS), *(cells(row) for row in said["rows"])]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
    warning = "These are **not figures**: a quick run shows only that the benchmarks work.\n\n" if said["quick"] else ""
    return (
        f"# Benchmarks\n\n{warning}Taken at {said['taken_at']}. Each ratio is the median of its repetitions, in which "
        f"both sides took turns; figures are medians too.\n\n{table}\n\n{_facts(said['machine'])}\n"
    )


def _facts(facts: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    servers = ", ".join(
        f"{name} {facts[key] or 'not installed'}"
        for name, key in (
            ("PostgreSQL", "postgresql"),
            ("nats-server", "nats_server"),
            ("nginx", "nginx"),
            ("h2load", "h2load"),
        )
    )
    return (
        f"{facts['cores']} cores, {facts['memory_gib']} GiB, load average {facts['load_average_before']} before and "
        f"{facts['load_average_after']} after, {facts['system']}, Python {facts['python']}, {servers}, {packages}."
    )


def table(said: dict[str, Any]) -> Table:
    """For the terminal, which is narrower: the notes are in the files."""
    shown = Table(title="quick: not figures" if said["quick"] else None, caption=_facts(said["machine"]))
    for head in HEADS[:-1]:
        shown.add_column(head, no_wrap=head in ("ratio", "min … max", "goal"))
    for row in said["rows"]:
        color = {True: "green", False: "red", None: ""}[row["reached"]]
        shown_cells = [*cells(row)[:-2], row["absent"]] if row["absent"] else cells(row)[:-1]
        shown.add_row(*shown_cells, style="dim" if row["absent"] else color)
    return shown
