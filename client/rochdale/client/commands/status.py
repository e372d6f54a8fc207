"""rochdale status: the health of every service of the market, as each says itself."""

from __future__ import annotations

import time
from typing import Annotated

import grpc
import httpx
import typer

from rochdale.client.market import open_channel, read_addresses
from rochdale.client.options import flat, open_market
from rochdale.client.output import document, settings, table

app = typer.Typer()

_TIMEOUT_SECONDS = 3.0
# grpc.health.v1.HealthCheckResponse has one field, an enum; reading it needs no package of its own.
_WORDS = {b"\x08\x01": "serving", b"\x08\x02": "not serving"}


@app.command()
def status(
    context: typer.Context,
    cooperative: Annotated[
        list[str] | None,
        typer.Option("--cooperative", metavar="ID", help="Ask this cooperative's gateway too; repeat."),
    ] = None,
) -> None:
    """Ask every service of the market whether it can do its work. Exit code 1 if one cannot.

    A gateway belongs to its cooperative and is asked only when that is named.

    [dim]$[/] rochdale status --cooperative valley-health

    [dim]$[/] rochdale status --json
    """
    addresses = read_addresses(settings.market_file)
    found = [(name, address, *_health(address)) for name, address in addresses.services.items()]
    for each in flat(cooperative):
        address = open_market(context).gateway(each).control_address
        found.append((f"gateway of {each}", address, *_health(address)))
    if addresses.storefront:
        found.append(("storefront", addresses.storefront, *_page(addresses.storefront)))
    well = all(state == "serving" for _, _, state, _ in found)
    document(
        {
            "market": str(addresses.file),
            "serving": well,
            "services": [
                {"service": name, "address": address, "state": state, "answer_ms": round(milliseconds, 1)}
                for name, address, state, milliseconds in found
            ],
        }
    )
    rows = [[name, address, state, f"{milliseconds:.0f} ms"] for name, address, state, milliseconds in found]
    table(["service", "address", "state", "answered in"], rows)
    if not well:
        raise typer.Exit(1)


def _health(address: str) -> tuple[str, float]:
    started = time.perf_counter()
    with open_channel(address) as channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            state = _WORDS.get(check(b"", timeout=_TIMEOUT_SECONDS), "unknown")
        except grpc.RpcError as error:
            unreachable = error.code() == grpc.StatusCode.UNAVAILABLE
            state = "unreachable" if unreachable else str(error.code().name).lower()
    return state, (time.perf_counter() - started) * 1000


def _page(url: str) -> tuple[str, float]:
    started = time.perf_counter()
    try:
        state = "serving" if httpx.get(url, timeout=_TIMEOUT_SECONDS).status_code < 500 else "not serving"
    except httpx.TransportError:
        state = "unreachable"
    return state, (time.perf_counter() - started) * 1000
