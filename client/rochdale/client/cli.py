"""The `rochdale` command: which commands there are, where they live, and how a failure is said. Each noun has its own file.

A noun's file, and with it gRPC and the contracts, is imported only when it is used; `rochdale --help` needs none of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from rochdale.client.output import refuse, settings
from rochdale.client.refusals import MarketError


@dataclass(frozen=True, slots=True)
class Noun:
    """One entry of the help page; its file is commands/{module}.py."""

    module: str
    help: str
    panel: str


_BELONG, _SELL, _BUY, _RUN = "For members", "For cooperatives", "For buyers", "For everybody"

NOUNS: dict[str, Noun] = {
    "search": Noun("search", "Search what can be licensed.", _BUY),
    "licensee": Noun("licensee", "Register as a licensee; show and attest what you are.", _BUY),
    "quote": Noun("quote", "Ask what a license would cost you.", _BUY),
    "license": Noun("license", "Request, negotiate, list and end licenses.", _BUY),
    "order": Noun("order", "List and pay orders; invoices and refunds.", _BUY),
    "subscription": Noun("subscription", "What is paid again or by use; budgets.", _BUY),
    "token": Noun("token", "Get a short-lived access token for a license.", _BUY),
    "profile": Noun("profile", "Write a Delta Sharing profile file for a license.", _BUY),
    "get": Noun("get", "Download the files of a license.", _BUY),
    "mandate": Noun("mandate", "Ask members for what their rules do not allow yet.", _BUY),
    "deletion": Noun("deletion", "Delete what members withdrew, and attest it.", _BUY),
    "member": Noun("member", "Join, invite, leave; see who received your data.", _BELONG),
    "consent": Noun("consent", "Say what may happen with your own rows.", _BELONG),
    "proposal": Noun("proposal", "Draft, debate, vote, count again, enact.", _BELONG),
    "cooperative": Noun("cooperative", "Found and show cooperatives; charters and signing keys.", _SELL),
    "dataset": Noun("dataset", "Add data; list and show datasets.", _SELL),
    "rule": Noun("rule", "Forbid in an emergency, narrow, end and show sharing rules.", _SELL),
    "offering": Noun("offering", "Publish, close and show offerings.", _SELL),
    "billing": Noun("billing", "The treasury: balances, holds, payouts, books, what does not fit.", _SELL),
    "dividends": Noun("dividends", "What members earn: runs, statements, payments.", _SELL),
    "dispute": Noun("dispute", "Payments a buyer's bank takes back, and what speaks against it.", _SELL),
    "organization": Noun("organization", "Register, verify and show organizations.", _RUN),
    "key": Noun("key", "Create, list and revoke API keys.", _RUN),
    "proof": Noun("proof", "Show what proving every live license again found.", _RUN),
    "status": Noun("status", "Ask every service of the market whether it is well.", _RUN),
}

# Commands other packages bring, and what to install when they are missing.
_PLUGINS = {
    "up": ("rochdale-local", "Run a whole market on this machine."),
    "rehearse": ("rochdale-local", "Move the time of a market that is a rehearsal on."),
}


@cache
def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="rochdale.commands") if entry.name not in NOUNS}


class LazyGroup(TyperGroup):
    """Knows its commands by name and help, and imports one only to run it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*NOUNS, *dict.fromkeys([*_plugins(), *_PLUGINS])]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in with name and help, for the help page and for completion."""
        if cmd_name in NOUNS:
            noun = NOUNS[cmd_name]
            return TyperCommand(cmd_name, help=noun.help, short_help=noun.help, rich_help_panel=noun.panel)
        if cmd_name in _PLUGINS or cmd_name in _plugins():
            _, help = _PLUGINS.get(cmd_name, ("", "Brought by another package."))
            return TyperCommand(cmd_name, help=help, short_help=help, rich_help_panel=_RUN)
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command."""
        name = args[0]
        if name in NOUNS:
            module = import_module(f"rochdale.client.commands.{NOUNS[name].module}")
            command = typer.main.get_command(module.app)
            _unfold(command)
            _add_common_options(command)
        elif entry := _plugins().get(name):
            command = typer.main.get_command(entry.load())
            _unfold(command)
        elif name in _PLUGINS:
            raise MarketError(
                "PLUGIN_MISSING", f"`rochdale {name}` comes with another package: pip install {_PLUGINS[name][0]}."
            )
        else:
            # For "did you mean".
            self.commands = {known: self.get_command(ctx, known) for known in self.list_commands(ctx)}
            return super().resolve_command(ctx, args)
        command.name = name
        return name, command, args[1:]


app = typer.Typer(
    name="rochdale",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _set_market(value: Path | None) -> None:
    settings.market_file = value or settings.market_file


def _set_key_file(value: Path | None) -> None:
    settings.key_file = value or settings.key_file


def _set_machine(value: bool) -> None:
    settings.machine = value or settings.machine


_COMMON = "Common options"


# The callbacks do the work: an option counts wherever it stands, before the command or after it.
def _common(
    market: Annotated[
        Path | None,
        typer.Option(
            "--market",
            metavar="FILE",
            envvar="ROCHDALE_MARKET",
            callback=_set_market,
            expose_value=False,
            rich_help_panel=_COMMON,
            help="The market.json of the market. Default: ~/.rochdale/market.json.",
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            metavar="FILE",
            envvar="ROCHDALE_KEY_FILE",
            callback=_set_key_file,
            expose_value=False,
            rich_help_panel=_COMMON,
            help="The file with the API key of your organization.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            callback=_set_machine,
            expose_value=False,
            rich_help_panel=_COMMON,
            help="Print one JSON document, for programs.",
        ),
    ] = False,
) -> None:
    """Rochdale: data cooperatives license what their members agreed to share.

    [bold]Examples[/]

    [dim]$[/] rochdale up                          [dim]# a whole market on this machine[/]

    [dim]$[/] rochdale search "health insurance"

    [dim]$[/] rochdale proposal vote prop_01J… yes --key-file me.key

    [dim]$[/] rochdale license request valley-health/off_01J… --key-file lab.key

    [dim]$[/] rochdale get lic_01J…

    Exit codes: 0 done, 1 refused (the sentence and the reason are on standard error), 2 wrong usage.
    """


app.callback()(_common)


def _unfold(command: Any) -> None:
    """Help as the terminal is wide: Typer keeps the line breaks inside a docstring's paragraphs. Completion belongs to
    the command as a whole and is not offered by its parts."""
    command.params = [param for param in command.params if param.name not in ("install_completion", "show_completion")]
    paragraphs = (" ".join(paragraph.split("\n")) for paragraph in (command.help or "").split("\n\n"))
    command.help = "\n\n".join(paragraphs)
    for child in getattr(command, "commands", {}).values():
        _unfold(child)


def _add_common_options(command: Any) -> None:
    commands = getattr(command, "commands", None)
    if commands is not None:
        for child in commands.values():
            _add_common_options(child)
        # A noun that says something by itself takes them too.
        if not command.invoke_without_command:
            return
    donor = typer.Typer(add_completion=False)
    donor.command()(_common)
    for param in typer.main.get_command(donor).params:
        # The environment was read before the command; here it would win over an option given there.
        param.envvar = None
        command.params.append(param)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    # gRPC's core writes its own lines to standard error, which are of no use to the reader of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    settings.__init__()  # type: ignore[misc]  # a second run in one process starts from nothing
    try:
        app(args=arguments, prog_name="rochdale")
    except MarketError as error:
        refuse(error)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        refuse(MarketError("FILE_SYSTEM", f"{name}{error.strerror or error}.", {"path": str(error.filename or "")}))
    except Exception as error:
        if os.environ.get("ROCHDALE_DEBUG"):
            raise
        refuse(
            MarketError(
                "CLIENT_FAULT",
                f"The command failed on something it did not expect ({type(error).__name__}: {error}). "
                "ROCHDALE_DEBUG=1 shows where.",
            )
        )
    sys.exit(1)
