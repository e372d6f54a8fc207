"""Levers on connected accounts that Stripe has no public endpoint for: what happens to them is decided elsewhere.

Leaves out faults, the clock and the state, which the simulator itself answers.
"""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from . import accounts
from .errors import Json, StripeError
from .onboarding import GOOD_ACCOUNT_NUMBER, is_bank_account
from .payouts import FAILURES, RETURNS_AFTER_SECONDS
from .unit import Unit, public


class Control:
    """`POST /_simulator/accounts/{id}/{act}` with JSON; the answer is the account as it then stands."""

    def __init__(self, new_unit: Callable[[Request], Unit], announce: Callable[[list[Json]], None]) -> None:
        self._new_unit = new_unit
        self._announce = announce

    async def account(self, request: Request) -> Response:
        """Does one of the acts; 400 says what was wrong with it, 404 that there is no such account or act."""
        # JSON only: a foreign web page may post a form to this machine, but not JSON.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "Send application/json."}, 415)
        act = ACTS.get(request.path_params["act"])
        unit = self._new_unit(request)
        ident = request.path_params["id"]
        if act is None or unit.find("account", ident) is None:
            return JSONResponse({"error": f"There is no such account or act; the acts are {', '.join(ACTS)}."}, 404)
        try:
            act(unit, ident, **await request.json())
        except (TypeError, ValueError, StripeError) as problem:
            return JSONResponse({"error": str(problem)}, 400)
        self._announce(unit.commit())
        return JSONResponse(public(unit.need("account", ident)))


def complete(unit: Unit, ident: str, *, external_account: str = GOOD_ACCOUNT_NUMBER) -> None:
    """The person gives everything that is required, as on the onboarding page."""
    number = external_account.replace(" ", "").upper()
    if not is_bank_account(number):
        raise ValueError(f"{external_account!r} is neither an IBAN nor one of Stripe's test account numbers.")
    account = unit.need("account", ident)
    given = {**dict.fromkeys(account["_needed"], "given"), "external_account": number}
    if "business_type" in given:
        given["business_type"] = "company"
    accounts.give(unit, account, given)


def require(unit: Unit, ident: str, *, fields: list[str], due_seconds: int = 0) -> None:
    """Stripe asks for `fields`: the account stops at once, or after `due_seconds` if they are not given by then."""
    if not isinstance(fields, list) or not fields or not all(isinstance(name, str) and name for name in fields):
        raise ValueError("fields is a list of requirements such as individual.verification.document.")
    accounts.require(unit, ident, fields, _seconds(due_seconds, "due_seconds"))


def disable(unit: Unit, ident: str, *, reason: str = "rejected.fraud") -> None:
    """Stripe stops the account: no transfers to it, no payouts from it."""
    if reason not in accounts.DISABLED_REASONS:
        raise ValueError(f"reason is one of {', '.join(accounts.DISABLED_REASONS)}, not {reason!r}.")
    accounts.disable(unit, ident, reason)


def enable(unit: Unit, ident: str) -> None:
    """Stripe lets a stopped account go on; what is required of it stays required."""
    accounts.disable(unit, ident, None)


def fail_payout(
    unit: Unit, ident: str, *, failure_code: str = "account_closed", returned_after_seconds: int = RETURNS_AFTER_SECONDS
) -> None:
    """The next payout of the account comes back so long after it was said to be paid; 0 fails it instead."""
    if failure_code not in FAILURES:
        raise ValueError(f"failure_code is one of {', '.join(FAILURES)}, not {failure_code!r}.")
    seconds = _seconds(returned_after_seconds, "returned_after_seconds")
    asked = {"failure_code": failure_code, "returned_after_seconds": seconds}
    unit.put("account", unit.need("account", ident) | {"_next_payout_failure": asked})


ACTS: dict[str, Callable[..., Any]] = {
    "complete": complete,
    "require": require,
    "disable": disable,
    "enable": enable,
    "fail_payout": fail_payout,
}


def _seconds(value: object, name: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is a whole number from 0, not {value!r}.")
    return value
