"""The pages: each asks the market, turns the answer into words, and fills a template. Words are in views."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from rochdale_kit.refusals import Kind, Refusal, not_found
from storefront import money_words, query, views, votes
from storefront.market import Market
from storefront.query import Query

# The contract's own shapes. What does not fit cannot exist, so the market is not even asked.
_COOPERATIVE = re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]")
_OFFERING = re.compile(r"off_[0-9A-Z]{26}")
_PROPOSAL = re.compile(r"prop_[0-9A-Z]{26}")

_LATEST_PROPOSALS, _PAGE_OF_PROPOSALS = 5, 20


class Pages:
    """Answers with HTML."""

    def __init__(self, market: Market, accounts: bool = False) -> None:
        """accounts: whether people can sign in here."""
        self._market = market
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            # Titles, rationales and samples are written by others: everything is text unless a template says not.
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["accounts"] = accounts
        self._templates.globals["BALANCES"] = money_words.BALANCES
        self._templates.filters.update(money_words.filters())

    async def offerings(self, request: Request) -> Response:
        asked = Query.read(request.query_params)
        found = await self._market.search(asked.request())
        return self.page(
            "offerings.html",
            asked=asked,
            results=views.results(found, asked),
            categories=[(word, views.category(number)) for word, number in query.CATEGORIES.items()],
        )

    async def offering(self, request: Request) -> Response:
        cooperative, id = request.path_params["cooperative"], request.path_params["offering"]
        if not _COOPERATIVE.fullmatch(cooperative) or not _OFFERING.fullmatch(id):
            raise not_found("This offering")
        offering = await self._market.offering(f"cooperatives/{cooperative}/offerings/{id}")
        details, rules, owner = await asyncio.gather(
            self._market.datasets(offering), self._market.rules_of(offering), self._market.cooperative_of(offering)
        )
        return self.page("offering.html", offering=views.offering(offering, details, rules, owner))

    async def cooperative(self, request: Request) -> Response:
        id = request.path_params["cooperative"]
        if not _COOPERATIVE.fullmatch(id):
            raise not_found("This cooperative")
        name = f"cooperatives/{id}"
        found, rules, offerings, proposals = await asyncio.gather(
            self._market.cooperative(name),
            self._market.rules(name, request.query_params.get("rules", "")),
            self._market.offerings(name, request.query_params.get("page", "")),
            self._market.proposals(name, "", _LATEST_PROPOSALS),
        )
        return self.page("cooperative.html", cooperative=views.cooperative(found, rules, offerings, proposals))

    async def proposals(self, request: Request) -> Response:
        id = request.path_params["cooperative"]
        if not _COOPERATIVE.fullmatch(id):
            raise not_found("This cooperative")
        name, token = f"cooperatives/{id}", request.query_params.get("page", "")
        found, page = await asyncio.gather(
            self._market.cooperative(name), self._market.proposals(name, token, _PAGE_OF_PROPOSALS)
        )
        return self.page(
            "proposals.html",
            id=id,
            cooperative=found.display_name,
            proposals=[votes.card(one) for one in page.proposals],
            next_page=page.next_page_token,
            later_page=bool(token),
        )

    async def proposal(self, request: Request) -> Response:
        cooperative, id = request.path_params["cooperative"], request.path_params["proposal"]
        if not _COOPERATIVE.fullmatch(cooperative) or not _PROPOSAL.fullmatch(id):
            raise not_found("This proposal")
        name, token = f"cooperatives/{cooperative}/proposals/{id}", request.query_params.get("board", "")
        found, owner, board, keys = await asyncio.gather(
            self._market.proposal(name),
            self._market.cooperative(f"cooperatives/{cooperative}"),
            self._market.board(name, token),
            self._market.governance_keys(),
        )
        return self.page(
            "proposal.html", proposal=votes.proposal(found, owner.display_name, board, keys, not token), id=cooperative
        )

    def refused(self, refusal: Refusal) -> Response:
        """The page for an answer of no."""
        if refusal.kind is Kind.NOT_FOUND:
            return self.missing()
        if refusal.kind is Kind.UNAVAILABLE:
            sentence = f"{refusal.message} Nothing is lost; this page works again as soon as it is back."
            return self.error(503, "Not available right now", sentence, {"retry-after": "5"})
        if refusal.kind is Kind.INVALID:
            return self.error(400, "This search cannot be answered", refusal.message)
        return self.error(500, "Something went wrong here", "It is our fault, not yours, and the operator can see it.")

    def missing(self) -> Response:
        return self.error(
            404, "This page does not exist", "There is no such offering, cooperative, proposal, order or page here."
        )

    def error(self, status: int, title: str, sentence: str, headers: dict[str, str] | None = None) -> Response:
        return self.page("error.html", status, headers, title=title, sentence=sentence)

    def page(
        self, template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any
    ) -> HTMLResponse:
        # Never cached: a page must not offer what was closed a minute ago.
        return HTMLResponse(
            self._templates.get_template(template).render(**values),
            status,
            {"cache-control": "no-store", **(headers or {})},
        )
