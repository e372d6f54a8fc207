"""Dividends of a cooperative: how members decided to divide, and each month's run from opening to payment.

Members see runs too, once they are shown to them, but nothing that is somebody else's: no largest line, no objection of
another, no names. Their own lines are in member_pages.
"""

from __future__ import annotations

import asyncio
import time

from starlette.responses import Response
from starlette.routing import Route

from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.billing.v1 import treasury_pb2
from rochdale_kit.dividend_words import policy_lines
from rochdale_kit.refusals import Refusal
from storefront.desk import Desk, Show, Visit

_PAGE = 50
# A browser waits this long for a run to be booked; what is left is booked with the next press of the button.
_POST_SECONDS = 8.0
_FORMATS = {"pain-001": treasury_pb2.PAYMENT_FILE_FORMAT_PAIN_001, "csv": treasury_pb2.PAYMENT_FILE_FORMAT_CSV}
_MEDIA = {"pain-001": "application/xml", "csv": "text/csv; charset=utf-8"}
_RUN = "cooperatives/{cooperative}/dividendRuns/{run}"


def routes(desk: Desk) -> list[Route]:
    home = "/cooperatives/{cooperative}/dividends"
    one = home + "/{run}"
    acts: dict[str, Show] = {
        "compute": compute,
        "publish": publish,
        "answer": answer,
        "approve": approve,
        "discard": discard,
        "post": post,
        "pay": pay,
        "settle": settle,
    }
    return [
        desk.show(home, dividends),
        desk.act(home + "/open", home, open_run, dividends),
        desk.show(one, run),
        desk.show(one + "/payments", payments),
        *(desk.act(f"{one}/{word}", one, do, run) for word, do in acts.items()),
    ]


async def dividends(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    request = pb.ListDividendRunsRequest(parent=parent, page_size=_PAGE, page_token=visit.asked("page"))
    policies, found = await asyncio.gather(
        visit.dividends("ListDividendPolicies", pb.ListDividendPoliciesRequest(parent=parent)),
        visit.dividends("ListDividendRuns", request),
    )
    return visit.page(
        "dividends.html",
        id=visit.request.path_params["cooperative"],
        policies=[(one, policy_lines(one.policy)) for one in reversed(policies.policies)],
        runs=found.dividend_runs,
        next_page=found.next_page_token,
        later_page=bool(request.page_token),
        is_steward=visit.visitor.cooperative == parent,
    )


async def run(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    found = await visit.dividends("GetDividendRun", pb.GetDividendRunRequest(name=visit.name(_RUN)))
    is_steward = visit.visitor.cooperative == parent
    own = [one for one in found.objections if is_steward or one.member == visit.visitor.member]
    return visit.page(
        "run.html",
        id=visit.request.path_params["cooperative"],
        run=found,
        policy=policy_lines(found.policy.policy) if found.HasField("policy") else [],
        objections=own,
        is_steward=is_steward,
        can=_possible(found.state) if is_steward else frozenset(),
        home=f"/{parent}/dividends/{visit.request.path_params['run']}",
    )


def _possible(state: int) -> frozenset[str]:
    """Which acts a run's state allows; billing decides, this only spares people buttons that would be refused."""
    steps: dict[int, tuple[str, ...]] = {
        pb.RUN_STATE_DRAFT: ("compute", "discard"),
        pb.RUN_STATE_COMPUTED: ("compute", "publish", "discard"),
        pb.RUN_STATE_OBJECTION: ("answer", "approve", "discard"),
        pb.RUN_STATE_APPROVED: ("post", "discard"),
        pb.RUN_STATE_POSTING: ("post",),
        pb.RUN_STATE_POSTED: ("pay",),
        pb.RUN_STATE_PAYING: ("file", "settle"),
        pb.RUN_STATE_CLOSED: ("settle",),
    }
    return frozenset(steps.get(state, ()))


def _back(visit: Visit, done: str, run_name: str = "") -> Response:
    parent, id = visit.name("cooperatives/{cooperative}"), run_name.rpartition("/")[2]
    return visit.go(f"/{parent}/dividends/{id or visit.request.path_params['run']}", done)


async def open_run(visit: Visit) -> Response:
    request = pb.CreateDividendRunRequest(
        request_id=visit.form.request_id,
        parent=visit.name("cooperatives/{cooperative}"),
        month=visit.form.get("month"),
        currency=visit.form.get("currency").upper(),
    )
    made = await visit.dividends("CreateDividendRun", request)
    try:
        await visit.dividends("ComputeDividendRun", pb.ComputeDividendRunRequest(name=made.name), patient=True)
    except Refusal as refusal:
        # It is open all the same: its page says how far it is, and can have it worked out again.
        visit.request.path_params["run"] = made.name.rpartition("/")[2]
        visit.alert, visit.status = refusal.message, refusal.kind.http_status
        return await run(visit)
    return _back(visit, "opened", made.name)


async def compute(visit: Visit) -> Response:
    await visit.dividends("ComputeDividendRun", pb.ComputeDividendRunRequest(name=visit.name(_RUN)), patient=True)
    return _back(visit, "computed")


async def publish(visit: Visit) -> Response:
    await visit.dividends("OpenObjections", pb.OpenObjectionsRequest(name=visit.name(_RUN)))
    return _back(visit, "published")


async def answer(visit: Visit) -> Response:
    request = pb.AnswerObjectionRequest(
        request_id=visit.form.request_id,
        name=visit.name(_RUN),
        number=visit.form.number("number"),
        answer=visit.form.get("answer"),
    )
    await visit.dividends("AnswerObjection", request)
    return _back(visit, "objection-answered")


async def approve(visit: Visit) -> Response:
    """Of the inputs this page was shown with, which the form carries: nobody approves what they have not seen."""
    request = pb.ApproveDividendRunRequest(
        request_id=visit.form.request_id, name=visit.name(_RUN), inputs_hash=visit.form.get("inputs_hash")
    )
    await visit.dividends("ApproveDividendRun", request)
    return _back(visit, "approved")


async def discard(visit: Visit) -> Response:
    request = pb.DiscardDividendRunRequest(request_id=visit.form.request_id, name=visit.name(_RUN))
    await visit.dividends("DiscardDividendRun", request)
    return _back(visit, "discarded")


async def post(visit: Visit) -> Response:
    """Part by part, for as long as a browser waits. Safe to stop, to repeat and to do in two windows."""
    request, deadline = pb.PostDividendRunRequest(name=visit.name(_RUN)), time.monotonic() + _POST_SECONDS
    while True:
        found = await visit.dividends("PostDividendRun", request, patient=True)
        going_on = found.state in (pb.RUN_STATE_APPROVED, pb.RUN_STATE_POSTING)
        if not going_on or time.monotonic() > deadline:
            return _back(visit, "posted")


async def pay(visit: Visit) -> Response:
    await visit.dividends("PayDividendRun", pb.PayDividendRunRequest(name=visit.name(_RUN)), patient=True)
    return _back(visit, "paid")


async def payments(visit: Visit) -> Response:
    """The file for the cooperative's bank: the same payments always give the same bytes."""
    format = visit.asked("format")
    if format not in _FORMATS:
        raise Refusal("REQUEST_INVALID", "The file is either pain-001 or csv.")
    request = pb.ExportDividendPaymentsRequest(name=visit.name(_RUN), format=_FORMATS[format])
    file = await visit.dividends("ExportDividendPayments", request, patient=True)
    return visit.download(file.file_name, file.content, _MEDIA[format])


async def settle(visit: Visit) -> Response:
    parent = visit.name("cooperatives/{cooperative}")
    returned = [one if "/" in one else f"{parent}/members/{one}" for one in visit.form.get("returned").split()]
    request = pb.SettleDividendPaymentsRequest(
        request_id=visit.form.request_id,
        name=visit.name(_RUN),
        bank_reference=visit.form.get("bank_reference"),
        returned_members=returned,
    )
    await visit.dividends("SettleDividendPayments", request, patient=True)
    return _back(visit, "settled")
