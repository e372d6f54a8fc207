"""Whose treasury a command is about, and how a payout account and a file of payments are shown."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from rochdale.billing.v1 import treasury_pb2
from rochdale.client.market import Market
from rochdale.client.names import in_collection
from rochdale.client.output import document, note, say
from rochdale.client.terms import PAYOUT_ACCOUNT_STATES, PAYOUT_RAILS, count, price, when

OfTreasury = Annotated[
    str | None,
    typer.Option("--of", metavar="ID", help='Of which cooperative; "market" for the market\'s own. Default: yours.'),
]
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it. Default: its own name, here.")
]


def own_cooperative(market: Market, text: str | None) -> str:
    """Resource name of a cooperative; without a text the caller's own."""
    return in_collection("cooperatives", text or market.organization)


def treasury_of(market: Market, text: str | None) -> str:
    """Of the cooperative, or empty for the market itself, which is whose operators work for."""
    if text == "market" or (text is None and "operator" in market.session().roles):
        return ""
    return own_cooperative(market, text)


def account_fields(account: treasury_pb2.PayoutAccount) -> dict[str, str]:
    return {
        "paid by": PAYOUT_RAILS.format(account.rail),
        "state": PAYOUT_ACCOUNT_STATES.format(account.state),
        "why not": account.reason,
        "account": f"…{account.iban_end}, {account.holder}" if account.iban_end else "",
        "named by": account.set_by,
        "approved by": account.approved_by,
        "used from": when(account, "usable_time"),
        "still asked": ", ".join(account.requirements),
        "questions": account.onboarding_url,
    }


def keep_file(name: str, content: bytes, output: Path | None) -> Path | None:
    """Writes a file where the caller wants it, never over another; "-" is standard output. Where it lies.

    name: as the market says it, which decides no more than what the file is called. Only its owner can read it: there may
    be people's accounts in it.
    """
    if str(output) == "-":
        sys.stdout.buffer.write(content)
        return None
    path = (
        output.expanduser()
        if output is not None
        else Path(re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".-") or "file")
    )
    if path.exists() and path.read_bytes() == content:
        return path
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
    return path


def keep_payments(file: treasury_pb2.PaymentFile, output: Path | None) -> None:
    """The file for a bank, and what is in it."""
    path = keep_file(file.file_name, file.content, output)
    document(
        {
            "file": str(path) if path else "-",
            "content_hash": file.content_hash,
            "payment_count": file.payment_count,
            "total": {"amount_minor": str(file.total.amount_minor), "currency": file.total.currency},
        }
    )
    if path is not None:
        say(f"{path}: {count(file.payment_count, 'payment')}, {price(file.total)} in all.")
        note(f"SHA-256 {file.content_hash}. The same payments always give the same file.")
