"""rochdale billing, the part about money that leaves: accounts, payouts, files for a bank."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rochdale.billing.v1 import treasury_pb2
from rochdale.client.names import in_cooperative, short
from rochdale.client.options import Limit, RequestId, collect, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.terms import PAYMENT_FILE_FORMATS, PAYOUT_RAILS, PAYOUT_STATES, price, when
from rochdale.client.treasury_options import OfTreasury, OutputFile, account_fields, keep_payments, own_cooperative

PayoutName = Annotated[str, typer.Argument(metavar="PAYOUT", help='Like "valley-health/out_01J…".')]


def add_to(app: typer.Typer) -> None:
    """Adds its commands."""
    app.command()(onboard)
    app.command("set-bank-account")(set_bank_account)
    app.command("approve-bank-account")(approve_bank_account)
    app.command()(payouts)
    app.command("export-payouts")(export_payouts)
    app.command("confirm-payout")(confirm_payout)
    app.command("return-payout")(return_payout)


def _fields(payout: treasury_pb2.Payout) -> dict[str, str]:
    return {
        "payout": short(payout.name),
        "state": PAYOUT_STATES.format(payout.state),
        "amount": price(payout.amount),
        "by": PAYOUT_RAILS.format(payout.rail),
        "failed because": payout.failure_code,
        "made": when(payout, "create_time"),
        "settled": when(payout, "settle_time"),
        "reference": payout.reference,
    }


def onboard(
    context: typer.Context,
    country: Annotated[
        str, typer.Option("--country", help="Where it is seated, such as NL; only the first time.")
    ] = "",
    return_url: Annotated[str, typer.Option("--return-url", help="Where the browser goes afterwards.")] = "",
    cooperative: OfTreasury = None,
    request_id: RequestId = None,
) -> None:
    """Open a Stripe account for the cooperative, or go on with Stripe's questions.

    [dim]$[/] rochdale billing onboard --country NL
    """
    market = open_market(context)
    request = treasury_pb2.StartOnboardingRequest(
        request_id=request_id_or_new(request_id),
        parent=own_cooperative(market, cooperative),
        country=country.upper(),
        return_url=return_url,
    )
    answer = market.call(market.treasury.StartOnboarding, request)
    document(as_dict(answer))
    fields(account_fields(answer))
    if answer.onboarding_url:
        say(f"Answer the questions on this page: {answer.onboarding_url}")


def set_bank_account(
    context: typer.Context,
    iban: Annotated[str, typer.Argument(help="The IBAN; spaces do not count.")],
    holder: Annotated[str, typer.Option("--holder", help="Whose account it is.")],
    cooperative: OfTreasury = None,
    request_id: RequestId = None,
) -> None:
    """Have the cooperative paid to a bank account. Another steward approves it; then it waits three days.

    [dim]$[/] rochdale billing set-bank-account "NL91 ABNA 0417 1643 00" --holder "Valley Health U.A."
    """
    market = open_market(context)
    request = treasury_pb2.SetBankAccountRequest(
        request_id=request_id_or_new(request_id),
        parent=own_cooperative(market, cooperative),
        iban=iban,
        holder=holder,
    )
    answer = market.call(market.treasury.SetBankAccount, request)
    document(as_dict(answer))
    fields(account_fields(answer))
    note(f"Another steward now: rochdale billing approve-bank-account {answer.iban_end}")


def approve_bank_account(
    context: typer.Context,
    iban_end: Annotated[str, typer.Argument(metavar="LAST-FOUR", help="Last four signs of the IBAN you checked.")],
    cooperative: OfTreasury = None,
    request_id: RequestId = None,
) -> None:
    """Approve the bank account another steward named.

    [dim]$[/] rochdale billing approve-bank-account 4300
    """
    market = open_market(context)
    request = treasury_pb2.ApproveBankAccountRequest(
        request_id=request_id_or_new(request_id), parent=own_cooperative(market, cooperative), iban_end=iban_end
    )
    answer = market.call(market.treasury.ApproveBankAccount, request)
    document(as_dict(answer))
    fields(account_fields(answer))


def payouts(
    context: typer.Context,
    cooperative: OfTreasury = None,
    state: Annotated[
        Any, typer.Option("--state", parser=parser(PAYOUT_STATES.parse), metavar="STATE", help=PAYOUT_STATES.all)
    ] = None,
    limit: Limit = 50,
) -> None:
    """List what was sent to the cooperative; operators see all with --of -.

    [dim]$[/] rochdale billing payouts
    """
    market = open_market(context)
    request = treasury_pb2.ListPayoutsRequest(parent=own_cooperative(market, cooperative), state=state)
    found = collect(market, market.treasury.ListPayouts, request, "payouts", limit)
    found.document("payouts")
    rows = [
        [
            short(each.name),
            PAYOUT_STATES.format(each.state),
            price(each.amount),
            PAYOUT_RAILS.format(each.rail),
            when(each, "create_time"),
            each.failure_code or each.reference,
        ]
        for each in found
    ]
    table(["payout", "state", "amount", "by", "made", "reference"], rows)


def export_payouts(
    context: typer.Context,
    currency: Annotated[str, typer.Option("--currency", help="Such as EUR.")] = "EUR",
    format: Annotated[
        Any,
        typer.Option(
            "--format", parser=parser(PAYMENT_FILE_FORMATS.parse), metavar="FORMAT", help=PAYMENT_FILE_FORMATS.all
        ),
    ] = "pain-001",
    output: OutputFile = None,
) -> None:
    """Write the file with which the market's bank pays cooperatives (operators).

    [dim]$[/] rochdale billing export-payouts --format pain-001
    """
    market = open_market(context)
    request = treasury_pb2.ExportPayoutsRequest(currency=currency.upper(), format=format)
    keep_payments(market.call(market.treasury.ExportPayouts, request), output)


def confirm_payout(
    context: typer.Context,
    payout: PayoutName,
    bank_reference: Annotated[str, typer.Option("--bank-reference", help="The bank's own reference.")],
    request_id: RequestId = None,
) -> None:
    """Say that a payout to a bank arrived (operators).

    [dim]$[/] rochdale billing confirm-payout valley-health/out_01J… --bank-reference 2026-11-25/0042
    """
    market = open_market(context)
    request = treasury_pb2.ConfirmPayoutRequest(
        request_id=request_id_or_new(request_id),
        name=in_cooperative("payouts", payout, lambda: market.organization),
        bank_reference=bank_reference,
    )
    answer = market.call(market.treasury.ConfirmPayout, request)
    document(as_dict(answer))
    fields(_fields(answer))


def return_payout(
    context: typer.Context,
    payout: PayoutName,
    reason: Annotated[str, typer.Option("--reason", help="Why, as the bank says it.")],
    request_id: RequestId = None,
) -> None:
    """Say that a payout did not arrive, or came back (operators). Its money is available again.

    [dim]$[/] rochdale billing return-payout valley-health/out_01J… --reason "account closed"
    """
    market = open_market(context)
    request = treasury_pb2.ReturnPayoutRequest(
        request_id=request_id_or_new(request_id),
        name=in_cooperative("payouts", payout, lambda: market.organization),
        reason=reason,
    )
    answer = market.call(market.treasury.ReturnPayout, request)
    document(as_dict(answer))
    fields(_fields(answer))
