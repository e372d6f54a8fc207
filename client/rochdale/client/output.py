"""How the command speaks: tables or one JSON document on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from rochdale.client.refusals import MarketError

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.progress import Progress


class Settings:
    """What the options common to all commands say."""

    def __init__(self) -> None:
        self.market_file: Path | None = None
        self.key_file: Path | None = None
        self.machine = False


settings = Settings()


def _standard_output() -> Console:
    # Made anew each time, because a test or a pager may have replaced the stream. A table piped into another program
    # must not be folded at 80 columns.
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False, width=None if sys.stdout.isatty() else 240)


# What steers a terminal or turns the direction of text around; a line break and a tab stay what they are.
_STEERING = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x61C,
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
    if code not in (0x09, 0x0A)
}


def escape(text: str) -> str:
    """Text as it is, whoever wrote it: a title is no markup and clears no screen."""
    return escape_markup(text.translate(_STEERING))


def say(text: str) -> None:
    """A sentence for people on standard output; nothing with --json."""
    if not settings.machine:
        _standard_output().print(escape(text), soft_wrap=True)


def note(text: str) -> None:
    """A sentence for people on standard error: warnings, what to do next; nothing with --json."""
    if settings.machine:
        return
    Console(stderr=True, highlight=False).print(escape(text), style="dim", soft_wrap=True)


def as_dict(message: Message) -> dict[str, Any]:
    """Protobuf JSON with the contracts' field names. Whole numbers of 64 bits are strings, as protobuf JSON says."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def document(value: Any) -> None:
    """The one JSON document of a command run with --json."""
    if settings.machine:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", empty: str = "Nothing yet.") -> None:
    """A table, or the sentence for an empty one."""
    if settings.machine:
        return
    if not rows:
        say(empty)
        return
    grid = Table(title=escape(title) or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        grid.add_column(escape(column), overflow="fold", no_wrap=number == 0)
    for row in rows:
        grid.add_row(*(escape(cell) for cell in row))
    _standard_output().print(grid)


def fields(pairs: Mapping[str, str], title: str = "") -> None:
    """One thing, field by field; fields without a value are left out."""
    if settings.machine:
        return
    grid = Table(title=escape(title) or None, title_justify="left", box=None, show_header=False, pad_edge=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs.items():
        if value not in ("", "-"):
            grid.add_row(escape(name), escape(value))
    _standard_output().print(grid)


def refuse(error: MarketError) -> None:
    """The refusal on standard error: its sentence and reason, with --json as one document with the facts too."""
    if settings.machine:
        sys.stderr.write(
            json.dumps({"reason": error.reason, "message": error.message, "facts": error.facts}, ensure_ascii=False)
            + "\n"
        )
        return
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]Refused:[/] {escape(error.message)} [dim]\\[{escape(error.reason)}][/]", soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar with bytes, speed and time left on standard error; silent when that is not a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield bar


@contextmanager
def count_bar() -> Iterator[Progress]:
    """A bar with how many of how many and time left on standard error; silent when that is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield bar


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """Shows that something is being waited for; silent when standard error is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(escape(text)):
        yield
