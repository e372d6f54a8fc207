"""`rochdale up`: starts the market on this machine and keeps it up until Ctrl-C."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
import re
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import httpx
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from rochdale.client.market import market_file
from rochdale.client.terms import duration
from rochdale_kit.telemetry import configure_logging
from rochdale_local.market import Market
from rochdale_local.processes import CannotStart
from rochdale_local.rooms import Options

DEFAULT_HOME = Path("~/.rochdale")

app = typer.Typer(add_completion=False)
log = logging.getLogger(__name__)


@app.command(name="up")
def up(
    home: Annotated[Path, typer.Option(envvar="ROCHDALE_HOME", help="Folder that keeps everything.")] = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON when everything is healthy.")] = False,
    own_processes: Annotated[
        bool, typer.Option("--own-processes", help="Run each service as a process of its own, restarted when it falls.")
    ] = False,
    otlp: Annotated[str, typer.Option(help="gRPC address of an OpenTelemetry collector that gets the traces.")] = "",
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "WARNING",
    withdrawal_version_seconds: Annotated[
        int,
        typer.Option(
            min=0,
            max=30 * 86_400,
            help="How long after a withdrawal gateways publish a version without the member's rows. They are not served "
            "from the withdrawal on.",
        ),
    ] = 259_200,
    rehearsal: Annotated[
        bool,
        typer.Option("--rehearsal", help="A market whose time `rochdale rehearse` moves on, to live through a year."),
    ] = False,
) -> None:
    """Start a market on this machine: PostgreSQL, NATS, a Stripe simulator, every service, a gateway per cooperative.

    It needs no Docker, no root and no network, keeps its state in --home and goes on where it was when started again.
    Ctrl-C stops everything. With STRIPE_TEST_KEY set to a key of Stripe's test mode (sk_test_…), that is used instead
    of the simulator; Stripe cannot reach a laptop's webhook by itself, so run `stripe listen` beside it.
    """
    key = os.environ.get("STRIPE_TEST_KEY", "")
    if key and not key.startswith("sk_test_"):
        raise typer.BadParameter("STRIPE_TEST_KEY must be a key of Stripe's test mode, sk_test_…")
    if rehearsal and (key or own_processes):
        raise typer.BadParameter("A rehearsal needs the simulator and one process: time moves for both together.")
    if log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise typer.BadParameter("--log-level is DEBUG, INFO, WARNING or ERROR")
    if otlp and not re.fullmatch(r"(https?://)?[^\s/]+:\d{1,5}", otlp):
        raise typer.BadParameter("--otlp is host:port, such as 127.0.0.1:4317")
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Started without it; the next thing we open, a socket perhaps, would be in its place and get our lines.
            os.open(os.devnull, os.O_RDWR)
    configure_logging(None, log_level)
    console = Console(stderr=True)
    options = Options(
        stripe_test_key=key,
        otlp_endpoint=otlp,
        log_level=log_level,
        withdrawal_version_seconds=withdrawal_version_seconds,
        rehearsal=rehearsal,
    )
    try:
        uvloop.run(_up(home.expanduser(), options, own_processes, as_json, console))
    except CannotStart as error:
        console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except Exception:
        # Through the log, because what Python itself prints is neither one line nor free of secrets.
        log.critical("the market ends", exc_info=True)
        raise typer.Exit(1) from None


rehearse_app = typer.Typer(add_completion=False)


@rehearse_app.command(name="rehearse")
def rehearse(
    by: Annotated[str, typer.Argument(metavar="TIME", help="How far, such as 31d, 12h or 15m.")],
    market: Annotated[
        Path | None, typer.Option(envvar="ROCHDALE_MARKET", help="The market.json. Default: ~/.rochdale/market.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")] = False,
) -> None:
    """Move the time of a market started with `rochdale up --rehearsal` on. It never goes back.

    Everything that falls due on the way falls due: periods end, holds end, payouts arrive.
    """
    try:
        seconds = duration(by)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    document = json.loads(market_file(market).read_text())
    if not document.get("rehearsal"):
        raise typer.BadParameter("This market is no rehearsal; start one with `rochdale up --rehearsal`.")
    answer = httpx.post(f"{document['stripe']}/_simulator/clock", json={"advance_seconds": seconds}, timeout=60)
    answer.raise_for_status()
    at = dt.datetime.fromtimestamp(answer.json()["now"], dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    print(json.dumps({"now": at}) if as_json else f"It is {at} now.")  # noqa: T201


async def _up(home: Path, options: Options, own_processes: bool, as_json: bool, console: Console) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # `nohup` has it ignored, and means it.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with console.status("Starting …") as status:
        market = Market(
            home, options, own_processes=own_processes, on_progress=lambda part: status.update(f"Starting {part} …")
        )
        starting = asyncio.create_task(market.start())
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        starting.result()
    ended = asyncio.create_task(market.wait())
    try:
        # A reader that went away, as `head` does, or a closed terminal is no reason to end. Rich makes the one SystemExit.
        with suppress(OSError, SystemExit):
            _announce(market, as_json)
        await asyncio.wait([ended, stop], return_when=asyncio.FIRST_COMPLETED)
        if not as_json:
            with suppress(OSError, SystemExit):
                console.print("Stopping …")
    finally:
        failed = ended.done()
        if not failed:
            ended.cancel()
        await market.stop()
    if failed:
        ended.result()


def _announce(market: Market, as_json: bool) -> None:
    document = json.loads(market.market_file.read_text())
    if as_json:
        print(json.dumps({"home": str(market.home), "market": str(market.market_file), **document}), flush=True)  # noqa: T201
        return
    console = Console(file=sys.stdout)
    table = Table(title="The market is up", title_justify="left")
    table.add_column("part")
    table.add_column("gRPC")
    table.add_column("HTTP")
    table.add_row("storefront", "", document["storefront"])
    for room in [*market.rooms, *market.gateways.values()]:
        if room.name != "storefront":
            table.add_row(room.name, room.grpc_address, f"http://{room.http_address}" if room.http_address else "")
    if document["stripe"]:
        table.add_row("Stripe simulator", "", document["stripe"])
    table.add_row("PostgreSQL", "", f"127.0.0.1:{market.postgres.port}")
    table.add_row("NATS", "", f"127.0.0.1:{market.nats.port}")
    console.print(table)
    console.print(f"In a browser: {document['storefront']}", highlight=False)
    console.print(
        f"In another terminal: export ROCHDALE_MARKET={shlex.quote(str(market.market_file))} "
        f"ROCHDALE_KEY_FILE={shlex.quote(document['operator_key_file'])}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    console.print("Ctrl-C stops everything.")
