"""The market's own treasury, for operators: balances, breaks and their notes, reconciliation, bank statements, payouts."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.routing import Route

from rochdale.billing.v1 import billing_pb2
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit.refusals import Refusal
from storefront.desk import Desk, Visit
from storefront.forms import parts_of, read_credits
from storefront.treasury_pages import export_book

_PAGE = 50
_FORMATS = {"pain-001": pb.PAYMENT_FILE_FORMAT_PAIN_001, "csv": pb.PAYMENT_FILE_FORMAT_CSV}
_MEDIA = {"pain-001": "application/xml", "csv": "text/csv; charset=utf-8"}


def routes(desk: Desk) -> list[Route]:
    return [
        desk.show("/treasury", treasury),
        desk.show("/treasury/book", book),
        desk.show("/treasury/payouts", payouts),
        desk.act("/treasury/reconcile", "/treasury", reconcile, treasury),
        desk.act("/treasury/months", "/treasury", close_month, treasury),
        desk.act("/treasury/breaks/{break}", "/treasury", resolve_break, treasury),
        desk.act("/treasury/bank-statement", "/treasury", import_statement, treasury),
        desk.act("/treasury/payouts/file", "/treasury/payouts", export_payouts, payouts),
        desk.act("/treasury/payouts/{cooperative}/{payout}/confirm", "/treasury/payouts", confirm_payout, payouts),
        desk.act("/treasury/payouts/{cooperative}/{payout}/return", "/treasury/payouts", return_payout, payouts),
    ]


async def treasury(visit: Visit) -> Response:
    every = bool(visit.asked("settled"))
    found, odd = await asyncio.gather(
        visit.treasury("GetTreasury", pb.GetTreasuryRequest()),
        visit.treasury("ListBreaks", pb.ListBreaksRequest(all=every, page_size=_PAGE, page_token=visit.asked("page"))),
    )
    return visit.page(
        "market_treasury.html",
        treasury=found,
        breaks=odd.breaks,
        next_page=odd.next_page_token,
        later_page=bool(visit.asked("page")),
        every=every,
    )


async def book(visit: Visit) -> Response:
    return await export_book(visit, "")


async def reconcile(visit: Visit) -> Response:
    await visit.treasury("Reconcile", pb.ReconcileRequest(), patient=True)
    return visit.go("/treasury", "reconciled")


async def close_month(visit: Visit) -> Response:
    request = pb.CloseMonthRequest(request_id=visit.form.request_id, month=visit.form.get("month"))
    await visit.treasury("CloseMonth", request, patient=True)
    return visit.go("/treasury", "month")


async def resolve_break(visit: Visit) -> Response:
    request = pb.ResolveBreakRequest(
        request_id=visit.form.request_id, name=visit.name("breaks/{break}"), note=visit.form.get("note")
    )
    await visit.treasury("ResolveBreak", request)
    return visit.go("/treasury", "resolved")


async def import_statement(visit: Visit) -> Response:
    """Books a file of credits, as many at once as the contract takes; sent again, the same file books nothing twice."""
    content = visit.form.files.get("statement", b"")
    if not content:
        raise Refusal("REQUEST_INVALID", "Choose the file of the bank statement first.")
    credits, matches = read_credits(content), []
    for number, part in enumerate(parts_of(credits)):
        request = billing_pb2.ImportBankTransfersRequest(request_id=f"{visit.form.request_id}-{number}", transfers=part)
        answer = await visit.billing("ImportBankTransfers", request, patient=True)
        matches += answer.matches
    return visit.page("bank_statement.html", rows=list(zip(credits, matches, strict=True)))


async def payouts(visit: Visit) -> Response:
    request = pb.ListPayoutsRequest(parent="cooperatives/-", page_size=_PAGE, page_token=visit.asked("page"))
    found = await visit.treasury("ListPayouts", request)
    return visit.page(
        "market_payouts.html",
        payouts=found.payouts,
        next_page=found.next_page_token,
        later_page=bool(request.page_token),
        IN_TRANSIT=pb.PAYOUT_STATE_IN_TRANSIT,
        BANK=pb.PAYOUT_RAIL_BANK,
    )


async def export_payouts(visit: Visit) -> Response:
    """A form and not a link: from then on the payouts are on their way."""
    format = visit.form.get("format")
    request = pb.ExportPayoutsRequest(
        currency=visit.form.get("currency").upper(),
        format=_FORMATS.get(format, pb.PAYMENT_FILE_FORMAT_UNSPECIFIED),
    )
    file = await visit.treasury("ExportPayouts", request, patient=True)
    return visit.download(file.file_name, file.content, _MEDIA[format])


async def confirm_payout(visit: Visit) -> Response:
    request = pb.ConfirmPayoutRequest(
        request_id=visit.form.request_id,
        name=visit.name("cooperatives/{cooperative}/payouts/{payout}"),
        bank_reference=visit.form.get("bank_reference"),
    )
    await visit.treasury("ConfirmPayout", request)
    return visit.go("/treasury/payouts", "payout")


async def return_payout(visit: Visit) -> Response:
    request = pb.ReturnPayoutRequest(
        request_id=visit.form.request_id,
        name=visit.name("cooperatives/{cooperative}/payouts/{payout}"),
        reason=visit.form.get("reason"),
    )
    await visit.treasury("ReturnPayout", request)
    return visit.go("/treasury/payouts", "payout")
