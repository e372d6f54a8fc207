"""What a member sees of their own data: what they contributed, who received it, and what they were told."""

from __future__ import annotations

from typing import Annotated

import typer

from rochdale.client.names import short
from rochdale.client.options import Limit, collect, open_market
from rochdale.client.output import note, say, settings, table
from rochdale.client.terms import NOTICE_KINDS, price, when
from rochdale.governance.v1 import membership_pb2


def _version(name: str) -> str:
    """ "randhie, version 2" of a version's resource name."""
    parts = name.split("/")
    return f"{parts[3]}, version {parts[5]}" if len(parts) == 6 else name


def uses(context: typer.Context, limit: Limit = 50) -> None:
    """Show who received your rows, when, under which vote, and for how much.

    [dim]$[/] rochdale member uses --key-file me.key
    """
    market = open_market(context)
    request = membership_pb2.ListUsesRequest(parent=market.member)
    found = collect(market, market.membership.ListUses, request, "uses", limit)
    found.document("uses")
    rows = [
        [
            short(each.recipient),
            _version(each.version),
            f"{each.row_count:,}",
            when(each, "first_time"),
            when(each, "last_time"),
            price(each.price),
            ", ".join(each.purposes),
            short(each.proposal) or "-",
            f"attested {when(each, 'attest_time')}"
            if each.HasField("attest_time")
            else ("asked for" if each.deletion_notice else "-"),
        ]
        for each in found
    ]
    columns = ["who", "data", "rows", "first", "last", "license cost", "what for", "vote", "deletion"]
    table(columns, rows, empty="Nobody has received your data.")


def contributions(context: typer.Context, limit: Limit = 50) -> None:
    """Show what you have in each version of your cooperative's datasets: counts and hashes, not the data.

    [dim]$[/] rochdale member contributions --key-file me.key
    """
    market = open_market(context)
    request = membership_pb2.ListContributionsRequest(parent=market.member)
    found = collect(market, market.membership.ListContributions, request, "contributions", limit)
    found.document("contributions")
    rows = [
        [_version(each.version), f"{each.row_count:,}", when(each, "record_time"), each.rows_hash] for each in found
    ]
    table(["data", "rows", "recorded", "hash of the rows"], rows, empty="No version holds rows of yours.")


def notices(
    context: typer.Context,
    unread: Annotated[bool, typer.Option("--unread", help="Only those you have not read.")] = False,
    mark_read: Annotated[bool, typer.Option("--mark-read", help="Afterwards, all count as read.")] = False,
    limit: Limit = 20,
) -> None:
    """Read what you were told: votes, uses of your data, money, your membership.

    [dim]$[/] rochdale member notices --unread --mark-read --key-file me.key
    """
    market = open_market(context)
    request = membership_pb2.ListNoticesRequest(parent=market.member, unread_only=unread)
    found = collect(market, market.membership.ListNotices, request, "notices", limit)
    found.document("notices")
    if not found:
        say("Nothing new." if unread else "Nothing yet.")
    rows = [
        [
            when(each, "create_time"),
            NOTICE_KINDS.format(each.kind),
            each.subject,
            "" if each.HasField("read_time") else "new",
        ]
        for each in found
    ]
    if rows and not settings.machine:
        table(["when", "about", "subject", ""], rows)
        for each in found:
            if not each.HasField("read_time"):
                say(f"{each.subject}\n{each.text}\n")
    if mark_read:
        read = market.call(market.membership.ReadNotices, membership_pb2.ReadNoticesRequest(parent=market.member))
        note(f"{read.read_count} marked as read.")
