"""rochdale billing: the treasury at a glance. How money leaves is in billing_payouts.py, the books in billing_books.py."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rochdale.billing.v1 import treasury_pb2
from rochdale.client.commands import billing_books, billing_payouts
from rochdale.client.money import format_money
from rochdale.client.names import short
from rochdale.client.options import Limit, RequestId, collect, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.terms import PAYOUT_ACCOUNT_STATES, PAYOUT_RAILS, SHARE_STATES, left_until, money, price, when
from rochdale.client.treasury_options import OfTreasury, account_fields, own_cooperative, treasury_of
from rochdale.type.v1 import money_pb2

app = typer.Typer(help="The treasury: balances, holds, payouts, books, what does not fit.", invoke_without_command=True)
billing_payouts.add_to(app)
billing_books.add_to(app)

# What a treasurer asks first, in this order; what is zero in every currency is left out.
_BALANCES = {
    "held": "held_minor",
    "frozen by disputes": "frozen_minor",
    "available": "available_minor",
    "rolling reserve": "market_reserve_minor",
    "on its way": "in_transit_minor",
    "owed to the market": "owed_minor",
    "bank": "bank_minor",
    "surplus": "surplus_minor",
    "reserve": "reserve_minor",
    "commons": "commons_minor",
    "solidarity": "solidarity_minor",
    "owed to members": "members_payable_minor",
    "unclaimed": "unclaimed_minor",
}


@app.callback()
def overview(context: typer.Context, cooperative: OfTreasury = None) -> None:
    """Show balances, what is held and until when, the next payout, and what does not fit.

    [dim]$[/] rochdale billing

    [dim]$[/] rochdale billing --of market --key-file operator.key      [dim]# the market's own[/]
    """
    if context.invoked_subcommand is not None:
        return
    market = open_market(context)
    request = treasury_pb2.GetTreasuryRequest(parent=treasury_of(market, cooperative))
    treasury = market.call(market.treasury.GetTreasury, request)
    document(as_dict(treasury))
    rows = [
        [label, *(format_money(getattr(one, field), one.currency) for one in treasury.balances)]
        for label, field in _BALANCES.items()
        if any(getattr(one, field) for one in treasury.balances)
    ]
    table(["", *(one.currency for one in treasury.balances)], rows, empty="No money yet.")
    account = treasury.payout_account
    next_payout = ", ".join(price(amount) for amount in treasury.next_payout)
    fields(
        {
            "next hold ends": when(treasury, "next_release_time"),
            "next payout": f"{next_payout} {left_until(treasury.next_payout_time)}" if next_payout else "",
            "paid to": f"{PAYOUT_RAILS.format(account.rail)}, {PAYOUT_ACCOUNT_STATES.format(account.state)}"
            if account.rail
            else "",
            "why not": account.reason,
            "closed until": treasury.closed_month,
        }
    )
    if request.parent and not account.rail:
        note("Nobody can be paid yet: rochdale billing onboard, or rochdale billing set-bank-account.")
    if treasury.open_break_count:
        say(f"{treasury.open_break_count} things do not fit: rochdale billing breaks")


@app.command()
def shares(
    context: typer.Context,
    cooperative: OfTreasury = None,
    state: Annotated[
        Any, typer.Option("--state", parser=parser(SHARE_STATES.parse), metavar="STATE", help=SHARE_STATES.all)
    ] = None,
    limit: Limit = 50,
) -> None:
    """List what paid orders brought, what is held of it, why, and until when.

    [dim]$[/] rochdale billing shares --state held
    """
    market = open_market(context)
    request = treasury_pb2.ListSharesRequest(parent=own_cooperative(market, cooperative), state=state)
    found = collect(market, market.treasury.ListShares, request, "shares", limit)
    found.document("shares")
    rows = [
        [
            short(each.order),
            SHARE_STATES.format(each.state),
            price(each.net),
            price(each.fee),
            price(each.amount),
            each.hold_reason.lower().replace("_", " "),
            when(each, "hold_time"),
            when(each, "release_time"),
        ]
        for each in found
    ]
    table(["order", "state", "net", "fee", "share", "held because", "held until", "free since"], rows)


@app.command()
def account(context: typer.Context, cooperative: OfTreasury = None) -> None:
    """Show where the cooperative is paid.

    [dim]$[/] rochdale billing account
    """
    market = open_market(context)
    request = treasury_pb2.GetPayoutAccountRequest(parent=own_cooperative(market, cooperative))
    answer = market.call(market.treasury.GetPayoutAccount, request)
    document(as_dict(answer))
    fields(account_fields(answer))


@app.command()
def cost(
    context: typer.Context,
    amount: Annotated[
        money_pb2.Money, typer.Argument(parser=parser(money), metavar="AMOUNT", help='Like "120.00 EUR".')
    ],
    description: Annotated[str, typer.Argument(help="For what; members read it on their statements.")],
    cooperative: OfTreasury = None,
    request_id: RequestId = None,
) -> None:
    """Book what the cooperative spent from its bank.

    [dim]$[/] rochdale billing cost "120.00 EUR" "Printing of consent forms"
    """
    market = open_market(context)
    request = treasury_pb2.RecordCostRequest(
        request_id=request_id_or_new(request_id),
        parent=own_cooperative(market, cooperative),
        amount=amount,
        description=description,
    )
    answer = market.call(market.treasury.RecordCost, request)
    document(as_dict(answer))
    say(f"Booked {price(amount)}: {description}.")
