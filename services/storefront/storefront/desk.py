"""How a page of money is asked for: who is looking, what a form may do, and how a no is shown where it was asked.

A visit is one request of somebody signed in. A page shows; an act does one thing and sends the browser back to its page,
where a refusal is shown as a sentence above what was typed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from opentelemetry.trace import SpanKind
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from rochdale_kit.refusals import Kind, Refusal, not_found
from rochdale_kit.telemetry import Telemetry
from storefront.forms import Form, new_request_id, read_form
from storefront.pages import Pages
from storefront.till import Till
from storefront.visitors import Visitor, Visitors

# The contract's own shapes, by the name in an address. What does not fit cannot exist, so nobody is even asked.
_SHAPES = {
    "cooperative": r"[a-z][a-z0-9-]{1,38}[a-z0-9]",
    "order": "ord_[0-9A-Z]{26}",
    "payment": "pay_[0-9A-Z]{26}",
    "refund": "rfd_[0-9A-Z]{26}",
    "dispute": "dis_[0-9A-Z]{26}",
    "invoice": "inv_[0-9A-Z]{26}",
    "license": "lic_[0-9A-Z]{26}",
    "payout": "out_[0-9A-Z]{26}",
    "break": "brk_[0-9A-Z]{26}",
    "run": "run_[0-9A-Z]{26}",
    "member": "mem_[0-9A-Z]{26}",
}
# What was done, as the page says it afterwards. An address names one of these and cannot say anything else.
_DONE = {
    "invoiced": "The invoice is issued.",
    "refunded": "The refund is on record; below is where it stands.",
    "refund-paid": "The refund is marked as paid.",
    "confirmed": "The transfer is confirmed.",
    "answered": "The bank has it now, and decides.",
    "budget": "Your cap is set.",
    "canceled": "It ends with this period.",
    "forgotten": "It is forgotten, here and at Stripe.",
    "account-named": "The account is on record. Another steward has to approve it; then it waits three days.",
    "account-approved": "You approved the account.",
    "cost": "The cost is booked; members read it on their statements.",
    "month": "The month is closed: nothing is booked into it any more.",
    "reconciled": "The books were compared with Stripe just now.",
    "resolved": "It is settled, with your note.",
    "payout": "The payout is brought up to date.",
    "opened": "The run is opened and worked out. Look at it before members do.",
    "computed": "It was worked out again, from what is known now.",
    "published": "Members see it now and may object until the window ends.",
    "objection-answered": "Your answer is on record.",
    "approved": "You approved it. It takes two people.",
    "discarded": "The run is given up; its month can be run again.",
    "posted": "Booked as far as it says below; if it is not all, go on.",
    "paid": "Payments are made out. Give the file to your bank, then say what became of them.",
    "settled": "The payments are settled.",
    "objected": "Your objection is on record; the run is not approved before it is answered.",
    "payee": "It is on record where you are paid.",
}
_SHOWN_IN_PLACE = (Kind.INVALID, Kind.STATE, Kind.EXISTS, Kind.FORBIDDEN, Kind.UNAVAILABLE, Kind.TOO_LARGE)


@dataclass
class Visit:
    """One request of somebody who is signed in. typed: what a refused form held, to be shown again."""

    request: Request
    visitor: Visitor
    till: Till
    pages: Pages
    public_url: str
    form: Form = field(default_factory=Form)
    alert: str = ""
    status: int = 200
    typed: dict[str, str] = field(default_factory=dict)

    def name(self, pattern: str) -> str:
        """A resource name such as "orders/{order}" with the ids of this address in it."""
        ids = self.request.path_params
        for part in re.findall(r"\{(\w+)\}", pattern):
            if not re.fullmatch(_SHAPES[part], str(ids.get(part, ""))):
                raise not_found("This page")
        return pattern.format(**ids)

    def asked(self, parameter: str) -> str:
        return self.request.query_params.get(parameter, "")

    async def billing(self, method: str, request: Any, patient: bool = False) -> Any:
        return await self.till.billing(self.visitor.token, method, request, patient)

    async def treasury(self, method: str, request: Any, patient: bool = False) -> Any:
        return await self.till.treasury(self.visitor.token, method, request, patient)

    async def dividends(self, method: str, request: Any, patient: bool = False) -> Any:
        return await self.till.dividends(self.visitor.token, method, request, patient)

    async def licensing(self, method: str, request: Any) -> Any:
        return await self.till.licensing(self.visitor.token, method, request)

    def page(self, template: str, **values: Any) -> Response:
        return self.pages.page(
            template,
            self.status,
            visitor=self.visitor,
            new_request_id=new_request_id,
            alert=self.alert,
            done=_DONE.get(self.asked("done"), "") if self.request.method == "GET" else "",
            typed=self.typed,
            **values,
        )

    def go(self, path: str, done: str = "") -> Response:
        """The browser asks for the page anew, so that a reload repeats nothing."""
        return RedirectResponse(f"{path}?{urlencode({'done': done})}" if done else path, 303)

    def elsewhere(self, title: str, sentence: str, url: str, back: str) -> Response:
        """A page with one link out. A redirect would not do: our own policy stops forms from leaving for another site."""
        if not url.startswith(("https://", "http://")):
            raise Refusal("INTERNAL", "The rail named no page to open.", Kind.INTERNAL)
        return self.page("elsewhere.html", title=title, sentence=sentence, url=url, back=back)

    def return_to(self, path: str) -> str:
        """A full address for a page elsewhere to send the browser back to; empty where nobody said how we are reached."""
        return f"{self.public_url}{path}" if self.public_url else ""

    def download(self, file_name: str, content: bytes, media_type: str) -> Response:
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", file_name).lstrip(".-") or "file"
        headers = {"content-disposition": f'attachment; filename="{plain}"', "cache-control": "no-store"}
        return Response(content, 200, headers, media_type)


Show = Callable[[Visit], Awaitable[Response]]


class Desk:
    """Makes routes of pages and acts."""

    def __init__(self, till: Till, visitors: Visitors, pages: Pages, telemetry: Telemetry, public_url: str) -> None:
        self.till, self.visitors, self.pages, self.public_url = till, visitors, pages, public_url
        self._telemetry = telemetry

    def show(self, path: str, show: Show) -> Route:
        """A page, or a file, for whoever is signed in."""

        async def answer(request: Request) -> Response:
            visitor = await self.visitors.of(request)
            if visitor is None:
                return self.sign_in_first(request.url.path)
            return await show(Visit(request, visitor, self.till, self.pages, self.public_url))

        return self.route(path, "GET", answer)

    def act(self, path: str, back: str, do: Show, show: Show) -> Route:
        """Does what a form asks. back: the address of the page it stands on, which `show` shows again after a refusal."""

        async def answer(request: Request) -> Response:
            visitor = await self.visitors.of(request)
            if visitor is None:
                return self.sign_in_first(back.format(**request.path_params))
            visit = Visit(request, visitor, self.till, self.pages, self.public_url)
            try:
                visit.form = await read_form(request)
                self.visitors.check(request, visit.form, visitor)
                return await do(visit)
            except Refusal as refusal:
                if refusal.kind not in _SHOWN_IN_PLACE:
                    raise
                visit.alert, visit.status, visit.typed = refusal.message, refusal.kind.http_status, visit.form.fields
                return await show(visit)

        return self.route(path, "POST", answer)

    def sign_in_first(self, path: str) -> Response:
        return RedirectResponse(f"/sign-in?next={quote(path)}", 303, {"cache-control": "no-store"})

    def route(self, path: str, method: str, answer: Callable[[Request], Awaitable[Response]]) -> Route:
        """One address inside its span; what is refused outside a page of its own becomes a page that says so."""

        async def endpoint(request: Request) -> Response:
            with self._telemetry.span(
                f"{method} {path}", SpanKind.SERVER, parent=request.headers.get("traceparent", "")
            ):
                try:
                    return await answer(request)
                except Refusal as refusal:
                    return self._refused(request, refusal)

        return Route(path, endpoint, methods=[method])

    def _refused(self, request: Request, refusal: Refusal) -> Response:
        if refusal.kind is Kind.UNAUTHENTICATED:
            return self.sign_in_first(request.url.path if request.method == "GET" else "/account")
        if refusal.kind in (Kind.NOT_FOUND, Kind.UNAVAILABLE, Kind.INTERNAL):
            return self.pages.refused(refusal)
        # Which call it was that the key has no role for tells a reader of pages nothing.
        sentence = (
            "It is for others: your key has no role for it." if refusal.reason == "ROLE_MISSING" else refusal.message
        )
        return self.pages.error(refusal.kind.http_status, "This cannot be shown or done", sentence)
