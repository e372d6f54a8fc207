"""A license with what it costs again: its period, use against caps, orders; and what a buyer saved to pay with."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import pricing_pb2
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import describe
from storefront import query, votes
from storefront.desk import Desk, Visit

_METERS = query.words_of(pricing_pb2.Meter, "METER_")
_PAGE = 50


def routes(desk: Desk) -> list[Route]:
    home = "/licenses/{license}"
    return [
        desk.show("/licenses", licenses),
        desk.show(home, license),
        desk.act(home + "/budget", home, set_budget, license),
        desk.act(home + "/cancel", home, cancel, license),
        desk.show("/payment-method", payment_method),
        desk.act("/payment-method/save", "/payment-method", save, payment_method),
        desk.act("/payment-method/forget", "/payment-method", forget, payment_method),
    ]


async def licenses(visit: Visit) -> Response:
    request = licensing_pb2.ListLicensesRequest(page_size=_PAGE, page_token=visit.asked("page"))
    found = await visit.licensing("ListLicenses", request)
    return visit.page(
        "licenses.html",
        licenses=found.licenses,
        next_page=found.next_page_token,
        later_page=bool(request.page_token),
    )


async def license(visit: Visit) -> Response:
    name = visit.name("licenses/{license}")
    found, orders, subscription = await asyncio.gather(
        _or_none(visit.licensing("GetLicense", licensing_pb2.GetLicenseRequest(name=name))),
        visit.billing(
            "ListOrders", pb.ListOrdersRequest(license=name, page_size=_PAGE, page_token=visit.asked("page"))
        ),
        _or_none(visit.billing("GetSubscription", pb.GetSubscriptionRequest(license=name))),
    )
    if found is None and subscription is None and not orders.orders:
        raise Refusal("NOT_FOUND", f"{name} does not exist.", Kind.NOT_FOUND, name=name)
    return visit.page(
        "license.html",
        name=name,
        license=found,
        scope=votes.scope_lines(describe(found.terms.scope)) if found is not None else [],
        orders=orders.orders,
        next_page=orders.next_page_token,
        subscription=subscription,
        meters={number: word for word, number in _METERS.items()},
        ended=subscription is not None and subscription.state == pb.SUBSCRIPTION_STATE_ENDED,
    )


async def _or_none(answer: Any) -> Any:
    """None for what does not exist or cannot be asked now: a page of money does not wait for licensing."""
    try:
        return await answer
    except Refusal as refusal:
        if refusal.kind not in (Kind.NOT_FOUND, Kind.UNAVAILABLE, Kind.FORBIDDEN):
            raise
        return None


async def set_budget(visit: Visit) -> Response:
    name = visit.name("licenses/{license}")
    meter = _METERS.get(visit.form.get("meter"), 0)
    cap = visit.form.get("cap").replace(",", "")
    request = pb.SetBudgetRequest(request_id=visit.form.request_id, license=name, meter=meter, cap=cap)  # type: ignore[arg-type]
    await visit.billing("SetBudget", request)
    return visit.go(f"/{name}", "budget")


async def cancel(visit: Visit) -> Response:
    name = visit.name("licenses/{license}")
    await visit.billing(
        "CancelSubscription", pb.CancelSubscriptionRequest(request_id=visit.form.request_id, license=name)
    )
    return visit.go(f"/{name}", "canceled")


async def payment_method(visit: Visit) -> Response:
    return visit.page(
        "payment_method.html", saved=await visit.billing("GetPaymentMethod", pb.GetPaymentMethodRequest())
    )


async def save(visit: Visit) -> Response:
    request = pb.SetUpPaymentMethodRequest(
        request_id=visit.form.request_id, return_url=visit.return_to("/payment-method")
    )
    answer = await visit.billing("SetUpPaymentMethod", request, patient=True)
    return visit.elsewhere(
        "Save a card or an account",
        "Stripe asks for it on a page of its own; the market never sees its number. Come back when you are done.",
        answer.setup_url,
        "/payment-method",
    )


async def forget(visit: Visit) -> Response:
    await visit.billing("RemovePaymentMethod", pb.RemovePaymentMethodRequest(), patient=True)
    return visit.go("/payment-method", "forgotten")
