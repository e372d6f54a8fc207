"""What one member earns: statements with their arithmetic, files to keep, objections, where the member is paid.

Asked with the member's own session. A steward may look at a member's statements, as at the counter of a cooperative, but
never at where they are paid. Of other members nothing is here but totals.
"""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.routing import Route

from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale_kit.dividend_words import policy_lines
from rochdale_kit.refusals import Refusal
from storefront.desk import Desk, Visit

_PAGE = 50
_MEMBER = "cooperatives/{cooperative}/members/{member}"
_STATEMENT = _MEMBER + "/statements/{run}"
_FORMATS = {
    "pdf": (pb.STATEMENT_FORMAT_PDF, "application/pdf"),
    "csv": (pb.STATEMENT_FORMAT_CSV, "text/csv; charset=utf-8"),
    "json": (pb.STATEMENT_FORMAT_JSON, "application/json"),
}


def routes(desk: Desk) -> list[Route]:
    member, one = "/" + _MEMBER, "/" + _STATEMENT
    return [
        desk.show(member + "/statements", statements),
        desk.show(one, statement),
        desk.show(one + "/file", file),
        desk.act(one + "/objections", one, object_to_run, statement),
        desk.show(member + "/payee", payee),
        desk.act(member + "/payee", member + "/payee", set_payee, payee),
    ]


async def statements(visit: Visit) -> Response:
    parent = visit.name(_MEMBER)
    request = pb.ListStatementsRequest(parent=parent, page_size=_PAGE, page_token=visit.asked("page"))
    found = await visit.dividends("ListStatements", request)
    return visit.page(
        "statements.html",
        member=parent,
        is_own=visit.visitor.member == parent,
        cooperative=visit.name("cooperatives/{cooperative}"),
        statements=found.statements,
        payable=found.payable,
        next_page=found.next_page_token,
        later_page=bool(request.page_token),
    )


async def statement(visit: Visit) -> Response:
    name, member = visit.name(_STATEMENT), visit.name(_MEMBER)
    run_name = visit.name("cooperatives/{cooperative}/dividendRuns/{run}")
    found, run = await asyncio.gather(
        visit.dividends("GetStatement", pb.GetStatementRequest(name=name)),
        visit.dividends("GetDividendRun", pb.GetDividendRunRequest(name=run_name)),
    )
    is_own = visit.visitor.member == member
    return visit.page(
        "statement.html",
        name=name,
        member=member,
        is_own=is_own,
        statement=found,
        run=run,
        policy=policy_lines(run.policy.policy) if run.HasField("policy") else [],
        objections=[one for one in run.objections if one.member == member],
        may_object=is_own and found.state == pb.RUN_STATE_OBJECTION,
        is_final=found.state in (pb.RUN_STATE_POSTED, pb.RUN_STATE_PAYING, pb.RUN_STATE_CLOSED),
    )


async def file(visit: Visit) -> Response:
    """The JSON has all that is needed to work the statement out again."""
    format = visit.asked("format")
    if format not in _FORMATS:
        raise Refusal("REQUEST_INVALID", "The file is one of pdf, csv and json.")
    number, media_type = _FORMATS[format]
    request = pb.ExportStatementRequest(name=visit.name(_STATEMENT), format=number)
    answer = await visit.dividends("ExportStatement", request)
    return visit.download(answer.file_name, answer.content, media_type)


async def object_to_run(visit: Visit) -> Response:
    request = pb.ObjectToDividendRunRequest(
        request_id=visit.form.request_id,
        name=visit.name("cooperatives/{cooperative}/dividendRuns/{run}"),
        text=visit.form.get("objection"),
    )
    await visit.dividends("ObjectToDividendRun", request)
    return visit.go("/" + visit.name(_STATEMENT), "objected")


async def payee(visit: Visit) -> Response:
    member = visit.name(_MEMBER)
    found, profile = await asyncio.gather(
        visit.dividends("GetPayee", pb.GetPayeeRequest(parent=member)),
        visit.dividends("GetTaxProfile", pb.GetTaxProfileRequest(parent=member)),
    )
    return visit.page("payee.html", member=member, payee=found, profile=profile)


async def set_payee(visit: Visit) -> Response:
    member = visit.name(_MEMBER)
    forget = visit.form.get("forget") == "yes"
    iban = "" if forget else visit.form.get("iban")
    if not forget and not iban:
        raise Refusal("REQUEST_INVALID", "Write the IBAN of the account, or say that you want to be paid no more.")
    request = pb.SetPayeeRequest(
        request_id=visit.form.request_id,
        parent=member,
        iban=iban,
        holder="" if forget else visit.form.get("holder"),
    )
    await visit.dividends("SetPayee", request)
    return visit.go(f"/{member}/payee", "payee")
