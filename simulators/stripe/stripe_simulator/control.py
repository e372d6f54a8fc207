"""Levers on connected accounts that Stripe has no public endpoint for: what happens to them is decided elsewhere."""

from collections.abc import Callable
from typing import Any

from . import accounts
from .errors import Json, StripeError
from .onboarding import GOOD_ACCOUNT_NUMBER, is_bank_account
from .payouts import FAILURES, RETURNS_AFTER_SECONDS
from .unit import Unit


def account(unit: Unit, ident: str, act: str, **asked: Any) -> Json:
    """Does one of the acts to an account; 404 when there is no such account or act."""
    if act not in ACTS or unit.find("account", ident) is None:
        raise StripeError(404, f"There is no such account or act; the acts are {', '.join(ACTS)}.")
    return ACTS[act](unit, ident, **asked)


def complete(unit: Unit, ident: str, *, external_account: str = GOOD_ACCOUNT_NUMBER) -> Json:
    """The person gives everything that is required, as on the onboarding page."""
    number = external_account.replace(" ", "").upper()
    if not is_bank_account(number):
        raise ValueError(f"{external_account!r} is neither an IBAN nor one of Stripe's test account numbers.")
    account = unit.need("account", ident)
    given = {**dict.fromkeys(account["_needed"], "given"), "external_account": number}
    if "business_type" in given:
        given["business_type"] = "company"
    return accounts.give(unit, account, given)


def require(unit: Unit, ident: str, *, fields: list[str], due_seconds: int = 0) -> Json:
    """Stripe asks for `fields`: the account stops at once, or after `due_seconds` if they are not given by then."""
    if not isinstance(fields, list) or not fields or not all(isinstance(name, str) and name for name in fields):
        raise ValueError("fields is a list of requirements such as individual.verification.document.")
    return accounts.require(unit, ident, fields, _seconds(due_seconds, "due_seconds"))


def disable(unit: Unit, ident: str, *, reason: str = "rejected.fraud") -> Json:
    """Stripe stops the account: no transfers to it, no payouts from it."""
    if reason not in accounts.DISABLED_REASONS:
        raise ValueError(f"reason is one of {', '.join(accounts.DISABLED_REASONS)}, not {reason!r}.")
    return accounts.disable(unit, ident, reason)


def enable(unit: Unit, ident: str) -> Json:
    """Stripe lets a stopped account go on; what is required of it stays required."""
    return accounts.disable(unit, ident, None)


def fail_payout(
    unit: Unit, ident: str, *, failure_code: str = "account_closed", returned_after_seconds: int = RETURNS_AFTER_SECONDS
) -> Json:
    """The next payout of the account comes back so long after it was said to be paid; 0 fails it instead."""
    if failure_code not in FAILURES:
        raise ValueError(f"failure_code is one of {', '.join(FAILURES)}, not {failure_code!r}.")
    seconds = _seconds(returned_after_seconds, "returned_after_seconds")
    asked = {"failure_code": failure_code, "returned_after_seconds": seconds}
    return unit.put("account", unit.need("account", ident) | {"_next_payout_failure": asked})


ACTS: dict[str, Callable[..., Json]] = {
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
