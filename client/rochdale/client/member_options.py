"""Whose membership a command is about, and waiting until a new member's key is known everywhere."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from rochdale.client.market import Market
from rochdale.client.names import in_cooperative, short
from rochdale.client.output import spinner
from rochdale.client.refusals import MarketError
from rochdale.client.terms import MEMBER_STATES, when
from rochdale.governance.v1 import governance_pb2, membership_pb2

OneMember = Annotated[str, typer.Argument(metavar="MEMBER", help="mem_…, as `rochdale member list` shows it.")]
OwnOrMember = Annotated[
    str | None, typer.Argument(metavar="[MEMBER]", help="mem_…; default: the member your key speaks for.")
]

# How long a key may take from governance, which hears of it first, to identity, which knows keys.
_KEY_SECONDS = 15.0
_POLL_SECONDS = 0.2


def member_name(market: Market, text: str | None) -> str:
    """Resource name of a member; without a text the one the key speaks for."""
    return in_cooperative("members", text, lambda: market.organization) if text else market.member


def get_member(market: Market, name: str) -> governance_pb2.Member:
    return market.call(market.membership.GetMember, membership_pb2.GetMemberRequest(name=name))


def member_fields(member: governance_pb2.Member) -> dict[str, str]:
    """A member, as far as the caller may see it."""
    return {
        "member": short(member.name),
        "reference": member.reference,
        "state": MEMBER_STATES.format(member.state),
        "joined" if member.state != governance_pb2.MEMBER_STATE_APPLIED else "applied": when(member, "join_time"),
        "can vote": "yes" if member.has_key else "no: no key of their own yet",
        "steward": "yes" if member.steward else "",
        "notices to": member.email,
        "affiliations": ", ".join(member.affiliations),
        "statement": member.statement,
        "left": when(member, "leave_time"),
    }


def wait_for_key(market: Market) -> bool:
    """Waits until the market's key works; False if it takes longer than it should."""
    deadline = time.monotonic() + _KEY_SECONDS
    with spinner("Waiting until your key is known"):
        while True:
            try:
                return bool(market.session().member)
            except MarketError as error:
                if error.reason != "KEY_INVALID":
                    raise
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
