"""Signing in and out, and the page from which everybody finds what is theirs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from rochdale_kit.refusals import Kind, Refusal
from storefront.desk import Desk, Visit
from storefront.forms import read_form
from storefront.visitors import safe_path


def routes(desk: Desk) -> list[Route]:
    async def sign_in(request: Request) -> Response:
        return _form(desk, request, request.query_params.get("next", ""), "", 200)

    async def signed_in(request: Request) -> Response:
        """A key becomes a session. What is wrong with a key is not said, and the key is kept nowhere."""
        going = ""
        try:
            form = await read_form(request)
            going = form.get("next")
            desk.visitors.check_sign_in(request, form)
            session = await desk.till.issue_session(form.get("key"))
        except Refusal as refusal:
            if refusal.kind is Kind.UNAVAILABLE:
                raise
            message = refusal.message if form_is_foreign(refusal) else "This key is not known here, or not any more."
            return _form(desk, request, going, message, refusal.kind.http_status)
        response = RedirectResponse(safe_path(going), 303, {"cache-control": "no-store"})
        desk.visitors.remember(response, session)
        return response

    async def sign_out(visit: Visit) -> Response:
        response = RedirectResponse("/", 303, {"cache-control": "no-store"})
        desk.visitors.forget(response)
        return response

    return [
        desk.route("/sign-in", "GET", sign_in),
        desk.route("/sign-in", "POST", signed_in),
        desk.act("/sign-out", "/account", sign_out, account),
        desk.show("/account", account),
    ]


def form_is_foreign(refusal: Refusal) -> bool:
    return refusal.reason in ("FORM_FOREIGN", "REQUEST_TOO_LARGE")


async def account(visit: Visit) -> Response:
    return visit.page("account.html")


def _form(desk: Desk, request: Request, going: str, alert: str, status: int) -> Response:
    proof = desk.visitors.proof_for_sign_in(request)
    page = desk.pages.page("sign_in.html", status, proof=proof, next=safe_path(going) if going else "", alert=alert)
    desk.visitors.keep_proof(page, proof)
    return page
