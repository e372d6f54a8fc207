"""The --signing-key option: where a cooperative's signing key lies, and that it is the one that signs now."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.client.authority import SigningKey, flaw_of_keys, read_signing_key
from rochdale.client.market import Market
from rochdale.client.names import in_collection
from rochdale.client.output import note, settings
from rochdale.client.refusals import MarketError
from rochdale.client.terms import now
from rochdale.governance.v1 import governance_pb2

SigningKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--signing-key",
        metavar="FILE",
        envvar="ROCHDALE_SIGNING_KEY",
        help="The cooperative's private signing key. Default: ID.signing.key beside the key file.",
    ),
]

# A new key has to begin about now; a file made at most so long ago belongs to a command that is being said again.
_JUST_MADE_SECONDS = 240


def signing_key_path(market: Market, given: Path | None) -> Path:
    """What was given, else "{cooperative}.signing.key" beside the key file, or beside the keys of market.json."""
    if given is not None:
        return given.expanduser()
    named = settings.key_file or os.environ.get("ROCHDALE_KEY_FILE")
    folder = Path(named).expanduser().parent if named else market.addresses.file.parent / "keys"
    return folder / f"{market.organization}.signing.key"


def get_cooperative(market: Market, cooperative: str) -> governance_pb2.Cooperative:
    """A cooperative by its id or resource name. Refuses with COOPERATIVE_KEY_INVALID if its keys do not hold together."""
    name = in_collection("cooperatives", cooperative)
    found = market.call(market.governance.GetCooperative, governance_pb2.GetCooperativeRequest(name=name))
    if flaw := flaw_of_keys(name, found.signing_keys):
        raise MarketError("COOPERATIVE_KEY_INVALID", flaw, {"cooperative": name})
    return found


def current_signing_key(market: Market, given: Path | None, cooperative: governance_pb2.Cooperative) -> SigningKey:
    """The key in the file. Refuses with SIGNING_KEY_NOT_CURRENT unless it is the cooperative's latest."""
    path = signing_key_path(market, given)
    key = read_signing_key(path)
    latest = cooperative.signing_keys[-1].key_id if cooperative.signing_keys else ""
    if key.key_id != latest:
        told = f"the key of {cooperative.name} is {latest}" if latest else f"{cooperative.name} has no key yet"
        raise MarketError(
            "SIGNING_KEY_NOT_CURRENT",
            f"{path} holds the key {key.key_id}, but {told}. Nothing was signed.",
            {"path": str(path), "key": key.key_id, "current": latest},
        )
    return key


def begin_of(path: Path) -> Timestamp:
    """From when a key that was just written signs: when its file was made, so that saying it again says the same."""
    made = path.stat().st_mtime
    if not 0 <= time.time() - made < _JUST_MADE_SECONDS:
        return now()
    stamp = Timestamp()
    stamp.FromMilliseconds(int(made * 1000))
    return stamp


def say_keep(path: Path) -> None:
    """What becomes of a cooperative that loses its signing key."""
    note(
        f"Back up {path} where only stewards get at it: it is the only copy, and without it nothing that members decide "
        "can take effect. Nobody else, the market's operator included, has it or can make it again."
    )
