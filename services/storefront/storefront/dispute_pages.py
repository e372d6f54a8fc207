"""Disputes: which payments a buyer's bank takes back, what the market has that speaks against it, and the answer."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale_kit.refusals import Kind, Refusal, not_found
from storefront.desk import Desk, Visit

_PAGE = 50
# A page of one dispute looks through this many pages of the list, because the contract names no way to ask for one.
_MOST_PAGES = 20


def routes(desk: Desk) -> list[Route]:
    home = "/orders/{order}/disputes/{dispute}"
    return [
        desk.show("/disputes", disputes),
        desk.show(home, dispute),
        desk.act(home + "/answer", home, answer, dispute),
    ]


async def disputes(visit: Visit) -> Response:
    request = pb.ListDisputesRequest(
        page_size=_PAGE, page_token=visit.asked("page"), open_only=not visit.asked("decided")
    )
    found = await visit.billing("ListDisputes", request)
    return visit.page(
        "disputes.html",
        disputes=found.disputes,
        next_page=found.next_page_token,
        later_page=bool(request.page_token),
        open_only=request.open_only,
    )


async def dispute(visit: Visit) -> Response:
    name = visit.name("orders/{order}/disputes/{dispute}")
    found = await _find(visit, name)
    try:
        evidence = (await visit.billing("GetEvidence", pb.GetEvidenceRequest(name=name))).text
    except Refusal as refusal:
        if refusal.kind not in (Kind.FORBIDDEN, Kind.NOT_FOUND):
            raise
        evidence = ""
    can_answer = found.state == pb.DISPUTE_STATE_NEEDS_RESPONSE and not visit.visitor.is_buyer
    return visit.page("dispute.html", dispute=found, evidence=evidence, can_answer=can_answer)


async def _find(visit: Visit, name: str) -> pb.Dispute:
    request = pb.ListDisputesRequest(page_size=1000)
    for _ in range(_MOST_PAGES):
        page = await visit.billing("ListDisputes", request)
        for one in page.disputes:
            if one.name == name:
                found: pb.Dispute = one
                return found
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    raise not_found(name)


async def answer(visit: Visit) -> Response:
    name = visit.name("orders/{order}/disputes/{dispute}")
    request = pb.SubmitEvidenceRequest(
        request_id=visit.form.request_id, name=name, statement=visit.form.get("statement")
    )
    await visit.billing("SubmitEvidence", request, patient=True)
    return visit.go(f"/{name}", "answered")
