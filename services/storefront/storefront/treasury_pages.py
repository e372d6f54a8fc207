"""A cooperative's treasury: balances, holds, where it is paid, payouts, what does not fit. For stewards and operators."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.routing import Route

from rochdale.billing.v1 import treasury_pb2 as pb
from storefront.desk import Desk, Visit
from storefront.money_words import read_money

_PAGE = 50
_FIRST = 10


def routes(desk: Desk) -> list[Route]:
    home = "/cooperatives/{cooperative}/treasury"
    return [
        desk.show(home, treasury),
        desk.show(home + "/shares", shares),
        desk.show(home + "/payouts", payouts),
        desk.show(home + "/breaks", breaks),
        desk.show(home + "/book", book),
        desk.act(home + "/onboarding", home, onboard, treasury),
        desk.act(home + "/bank-account", home, set_bank_account, treasury),
        desk.act(home + "/bank-account/approve", home, approve_bank_account, treasury),
        desk.act(home + "/costs", home, record_cost, treasury),
        desk.act(home + "/months", home, close_month, treasury),
    ]


async def treasury(visit: Visit) -> Response:
    """At a glance, with the first lines of every list."""
    parent = visit.name("cooperatives/{cooperative}")
    found, held, sent, odd = await asyncio.gather(
        visit.treasury("GetTreasury", pb.GetTreasuryRequest(parent=parent)),
        visit.treasury("ListShares", pb.ListSharesRequest(parent=parent, page_size=_FIRST, state=pb.SHARE_STATE_HELD)),
        visit.treasury("ListPayouts", pb.ListPayoutsRequest(parent=parent, page_size=_FIRST)),
        visit.treasury("ListBreaks", pb.ListBreaksRequest(parent=parent, page_size=_FIRST)),
    )
    account = found.payout_account
    return visit.page(
        "treasury.html",
        id=visit.request.path_params["cooperative"],
        treasury=found,
        account=account,
        shares=held.shares,
        payouts=sent.payouts,
        breaks=odd.breaks,
        is_steward=visit.visitor.cooperative == parent,
        waits_for_approval=account.rail == pb.PAYOUT_RAIL_BANK and not account.approved_by,
        is_bank=account.rail == pb.PAYOUT_RAIL_BANK,
        is_stripe=account.rail == pb.PAYOUT_RAIL_STRIPE,
        can_be_paid=account.state == pb.PAYOUT_ACCOUNT_STATE_ACTIVE,
    )


async def shares(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    request = pb.ListSharesRequest(parent=parent, page_size=_PAGE, page_token=visit.asked("page"))
    found = await visit.treasury("ListShares", request)
    return _list(visit, "shares.html", found.next_page_token, shares=found.shares)


async def payouts(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    request = pb.ListPayoutsRequest(parent=parent, page_size=_PAGE, page_token=visit.asked("page"))
    found = await visit.treasury("ListPayouts", request)
    return _list(visit, "payouts.html", found.next_page_token, payouts=found.payouts)


async def breaks(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    request = pb.ListBreaksRequest(parent=parent, all=True, page_size=_PAGE, page_token=visit.asked("page"))
    found = await visit.treasury("ListBreaks", request)
    return _list(visit, "breaks.html", found.next_page_token, breaks=found.breaks)


def _list(visit: Visit, template: str, next_page: str, **values: object) -> Response:
    return visit.page(
        template,
        id=visit.request.path_params["cooperative"],
        next_page=next_page,
        later_page=bool(visit.asked("page")),
        **values,
    )


async def book(visit: Visit) -> Response:
    """The whole book as Beancount's text; its parts after one another are the ledger."""
    return await export_book(visit, visit.name("cooperatives/{cooperative}"))


async def export_book(visit: Visit, parent: str) -> Response:
    """parent: a cooperative, or empty for the market's own book."""
    request, parts = pb.ExportBookRequest(parent=parent), []
    while True:
        part = await visit.treasury("ExportBook", request, patient=True)
        parts.append(part.beancount)
        request.page_token = part.next_page_token
        if not request.page_token:
            break
    name = f"{parent.rpartition('/')[2] or 'market'}.beancount"
    return visit.download(name, "".join(parts).encode(), "text/plain; charset=utf-8")


async def onboard(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    request = pb.StartOnboardingRequest(
        request_id=visit.form.request_id,
        parent=parent,
        country=visit.form.get("country").upper(),
        return_url=visit.return_to(f"/{parent}/treasury"),
    )
    answer = await visit.treasury("StartOnboarding", request, patient=True)
    return visit.elsewhere(
        "Answer Stripe's questions",
        "Stripe asks about the cooperative and its bank account on a page of its own. Come back when you are done.",
        answer.onboarding_url,
        f"/{parent}/treasury",
    )


async def set_bank_account(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    request = pb.SetBankAccountRequest(
        request_id=visit.form.request_id,
        parent=parent,
        iban=visit.form.get("iban"),
        holder=visit.form.get("holder"),
    )
    await visit.treasury("SetBankAccount", request)
    return visit.go(f"/{parent}/treasury", "account-named")


async def approve_bank_account(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    request = pb.ApproveBankAccountRequest(
        request_id=visit.form.request_id, parent=parent, iban_end=visit.form.get("iban_end")
    )
    await visit.treasury("ApproveBankAccount", request)
    return visit.go(f"/{parent}/treasury", "account-approved")


async def record_cost(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    request = pb.RecordCostRequest(
        request_id=visit.form.request_id,
        parent=parent,
        amount=read_money(visit.form.get("cost")),
        description=visit.form.get("description"),
    )
    await visit.treasury("RecordCost", request)
    return visit.go(f"/{parent}/treasury", "cost")


async def close_month(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    request = pb.CloseMonthRequest(request_id=visit.form.request_id, parent=parent, month=visit.form.get("month"))
    await visit.treasury("CloseMonth", request, patient=True)
    return visit.go(f"/{parent}/treasury", "month")
