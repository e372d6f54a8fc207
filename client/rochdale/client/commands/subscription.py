"""rochdale subscription: what is paid again or by use, and the buyer's own caps."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rochdale.billing.v1 import billing_pb2
from rochdale.client.names import in_collection, short
from rochdale.client.options import RequestId, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.terms import METERS, SUBSCRIPTION_STATES, price, when

app = typer.Typer(help="What is paid again or by use; budgets.", no_args_is_help=True)

License = Annotated[str, typer.Argument(metavar="LICENSE", help="lic_…")]


def _show(subscription: billing_pb2.Subscription) -> None:
    fields(
        {
            "license": short(subscription.license),
            "state": SUBSCRIPTION_STATES.format(subscription.state),
            "period": f"{when(subscription, 'period_start_time')} to {when(subscription, 'period_end_time')}",
            "next price": price(subscription.price),
            "ends": "with this period" if subscription.cancel_at_period_end else "",
            "overdue": short(subscription.overdue_order) if subscription.overdue_order else "",
            "access stops": when(subscription, "suspend_time"),
            "license ends": when(subscription, "terminate_time"),
        }
    )
    rows = [
        [
            METERS.format(one.meter),
            one.used or "0",
            one.included or "-",
            one.cap or "-",
            price(one.amount),
            "cap reached" if one.HasField("reach_time") else "80 % reached" if one.HasField("warn_time") else "",
        ]
        for one in subscription.usage
    ]
    if rows:
        table(["meter", "used", "included", "cap", "costs", ""], rows)


@app.command()
def show(context: typer.Context, license: License) -> None:
    """Show how a license's periods stand, and what was used.

    [dim]$[/] rochdale subscription show lic_01J…
    """
    market = open_market(context)
    request = billing_pb2.GetSubscriptionRequest(license=in_collection("licenses", license))
    answer = market.call(market.billing.GetSubscription, request)
    document(as_dict(answer))
    _show(answer)
    if answer.overdue_order:
        note(f"Pay it: rochdale order pay {short(answer.overdue_order)}")


@app.command()
def cancel(context: typer.Context, license: License, request_id: RequestId = None) -> None:
    """End a subscription with its current period.

    [dim]$[/] rochdale subscription cancel lic_01J…
    """
    market = open_market(context)
    request = billing_pb2.CancelSubscriptionRequest(
        request_id=request_id_or_new(request_id), license=in_collection("licenses", license)
    )
    answer = market.call(market.billing.CancelSubscription, request)
    document(as_dict(answer))
    say(f"It ends on {when(answer, 'period_end_time')}.")


@app.command()
def budget(
    context: typer.Context,
    license: License,
    meter: Annotated[Any, typer.Argument(parser=parser(METERS.parse), metavar="METER", help=METERS.all)],
    cap: Annotated[str, typer.Argument(help='Units of a period, like 100 or 0.5; "" for the contract\'s cap alone.')],
    request_id: RequestId = None,
) -> None:
    """Set your own cap. Access stops when it is reached, until the next period or a higher cap.

    [dim]$[/] rochdale subscription budget lic_01J… gigabyte 100
    """
    market = open_market(context)
    request = billing_pb2.SetBudgetRequest(
        request_id=request_id_or_new(request_id), license=in_collection("licenses", license), meter=meter, cap=cap
    )
    answer = market.call(market.billing.SetBudget, request)
    document(as_dict(answer))
    _show(answer)
