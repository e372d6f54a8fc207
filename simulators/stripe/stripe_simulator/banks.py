"""Levers on what a buyer's bank does, which no API decides: it disputes a payment, rules, or sends a refund back.

Leaves out what Stripe's test cards and test evidence bring about by themselves.
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from . import disputes, refunds
from .errors import Json, StripeError
from .expansion import render
from .unit import Unit


class Banks:
    """Each takes JSON and answers the dispute or refund as it then stands; 400 says what was wrong, 404 what is not."""

    def __init__(self, new_unit: Callable[[Request], Unit], announce: Callable[[list[Json]], None]) -> None:
        self._new_unit = new_unit
        self._announce = announce

    async def dispute(self, request: Request) -> Response:
        """`{charge, amount?, reason?, inquiry?}`: the amount may exceed the charge, as it does when currencies move."""
        return await self._done(request, dispute)

    async def decide(self, request: Request) -> Response:
        """`{outcome, return_fee?}` with `won` or `lost`; the fee goes back with a dispute that is won unless false."""
        return await self._done(request, decide)

    async def fail_refund(self, request: Request) -> Response:
        """`{reason?}`: the money of a refund comes back."""
        return await self._done(request, fail_refund)

    async def _done(self, request: Request, act: Callable[..., Json]) -> Response:
        # JSON only: a foreign web page may post a form to this machine, but not JSON.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "Send application/json."}, 415)
        unit = self._new_unit(request)
        try:
            done = act(unit, *request.path_params.values(), **await request.json())
        except StripeError as problem:
            return JSONResponse({"error": str(problem)}, problem.status)
        except (TypeError, ValueError) as problem:
            return JSONResponse({"error": str(problem)}, 400)
        self._announce(unit.commit())
        return JSONResponse(render(unit, done, []))


def dispute(
    unit: Unit, *, charge: str, amount: int | None = None, reason: str = "fraudulent", inquiry: bool = False
) -> Json:
    """The bank takes a payment back, or as an inquiry only asks about it."""
    if reason not in disputes.REASONS:
        raise ValueError(f"reason is one of {', '.join(disputes.REASONS)}, not {reason!r}.")
    if type(inquiry) is not bool:
        raise ValueError(f"inquiry is true or false, not {inquiry!r}.")
    paid = unit.need("charge", charge)
    if not paid["captured"]:
        raise ValueError(f"{charge} was never paid.")
    if any(row["charge"] == charge and row["status"] in disputes.OPEN for row in unit.rows("dispute")):
        raise ValueError(f"{charge} is already disputed.")
    if amount is None:
        amount = paid["amount"] - paid["amount_refunded"]
    if type(amount) is not int or amount < 1:
        raise ValueError(f"amount is a whole number of minor units from 1, not {amount!r}.")
    return disputes.open_dispute(unit, paid, amount, reason, inquiry=inquiry)


def decide(unit: Unit, ident: str, *, outcome: str, return_fee: bool = True) -> Json:
    """The bank rules, whatever evidence there is."""
    if outcome not in ("won", "lost"):
        raise ValueError(f"outcome is won or lost, not {outcome!r}.")
    if type(return_fee) is not bool:
        raise ValueError(f"return_fee is true or false, not {return_fee!r}.")
    return disputes.decide(unit, unit.need("dispute", ident), won=outcome == "won", return_fee=return_fee)


def fail_refund(unit: Unit, ident: str, *, reason: str = "expired_or_canceled_card") -> Json:
    """The bank would not have the money."""
    if reason not in refunds.FAILURE_REASONS:
        raise ValueError(f"reason is one of {', '.join(refunds.FAILURE_REASONS)}, not {reason!r}.")
    return refunds.fail(unit, unit.need("refund", ident), reason)
