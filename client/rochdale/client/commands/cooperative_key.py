"""rochdale cooperative key: add, show and rotate the key with which a cooperative signs what its members decided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rochdale.client.authority import introduce, read_signing_key, signing_key_for
from rochdale.client.market import Market
from rochdale.client.names import short
from rochdale.client.options import open_market
from rochdale.client.output import as_dict, document, note, say, table
from rochdale.client.signing_options import (
    SigningKeyFile,
    begin_of,
    current_signing_key,
    get_cooperative,
    say_keep,
    signing_key_path,
)
from rochdale.client.terms import when
from rochdale.governance.v1 import governance_pb2

app = typer.Typer(help="The key with which a cooperative signs: add, show, rotate.", no_args_is_help=True)


def keys_table(cooperative: governance_pb2.Cooperative) -> None:
    """A cooperative's keys, first to latest."""
    latest = len(cooperative.signing_keys) - 1
    rows = []
    for number, key in enumerate(cooperative.signing_keys):
        compromised = number < latest and cooperative.signing_keys[number + 1].previous_compromised
        state = "signs" if number == latest else ("in other hands: nothing holds" if compromised else "earlier")
        rows.append([key.key_id, when(key, "begin_time"), state, key.previous_key_id or "-"])
    empty = "It has no key yet, so nothing can be enacted: rochdale cooperative key add"
    table(["key", "since", "state", "introduced by"], rows, empty=empty)


def _add(market: Market, key: governance_pb2.CooperativeKey) -> governance_pb2.Cooperative:
    answer = market.call(market.governance.AddCooperativeKey, governance_pb2.AddCooperativeKeyRequest(key=key))
    document(as_dict(answer))
    keys_table(answer)
    return answer


@app.command()
def add(context: typer.Context, signing_key: SigningKeyFile = None) -> None:
    """Make the first signing key of your cooperative and make its public half known. Again changes nothing.

    [dim]$[/] rochdale cooperative key add

    [dim]$[/] rochdale cooperative key add --signing-key /media/safe/valley-health.signing.key
    """
    market = open_market(context)
    cooperative = get_cooperative(market, market.organization)
    path = signing_key_path(market, signing_key)
    key = signing_key_for(path)
    if cooperative.signing_keys and cooperative.signing_keys[-1].key_id == key.key_id:
        document(as_dict(cooperative))
        keys_table(cooperative)
        return
    _add(market, introduce(cooperative.name, key, begin_of(path)))
    say_keep(path)


@app.command()
def show(
    context: typer.Context,
    cooperative: Annotated[
        str | None, typer.Argument(metavar="[COOPERATIVE]", help="Its id. Default: your own.")
    ] = None,
) -> None:
    """Show a cooperative's public keys, after checking that each introduced the next.

    [dim]$[/] rochdale cooperative key show valley-health
    """
    market = open_market(context)
    found = get_cooperative(market, cooperative or market.organization)
    document({"cooperative": found.name, "signing_keys": [as_dict(key) for key in found.signing_keys]})
    keys_table(found)
    if found.signing_keys:
        say(f"Each key is introduced by the one before it. A gateway of {short(found.name)} pins one of them.")


@app.command()
def rotate(
    context: typer.Context,
    save_key: Annotated[Path, typer.Option("--save-key", metavar="FILE", help="Where to keep the new key.")],
    previous_compromised: Annotated[
        bool,
        typer.Option(
            "--previous-compromised",
            help="The key so far may be in other hands: nothing it signed holds from now on.",
        ),
    ] = False,
    signing_key: SigningKeyFile = None,
) -> None:
    """Make the next signing key, introduced by the one so far. From then on only the new one signs.

    [dim]$[/] rochdale cooperative key rotate --save-key 2027.signing.key

    [dim]$[/] rochdale cooperative key rotate --save-key new.signing.key --previous-compromised
    """
    market = open_market(context)
    cooperative = get_cooperative(market, market.organization)
    if save_key.exists() and cooperative.signing_keys[-1:]:
        again = read_signing_key(save_key)
        if again.key_id == cooperative.signing_keys[-1].key_id:
            document(as_dict(cooperative))
            keys_table(cooperative)
            return
    previous = current_signing_key(market, signing_key, cooperative)
    key = signing_key_for(save_key)
    _add(market, introduce(cooperative.name, key, begin_of(save_key), previous, previous_compromised))
    say_keep(save_key)
    note(f"From now on sign with it: --signing-key {save_key}, or ROCHDALE_SIGNING_KEY.")
    if previous_compromised:
        note(
            "Nothing signed before holds any more: rules and offerings in force have to be decided and published again."
        )
