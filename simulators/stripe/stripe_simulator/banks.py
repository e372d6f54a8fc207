"""Levers on what a buyer's bank does, which no API decides: it disputes a payment, rules, or sends a refund back.

Leaves out what Stripe's test cards and test evidence bring about by themselves.
"""

from . import disputes, refunds
from .errors import Json
from .unit import Unit


def dispute(
    unit: Unit, *, charge: str, amount: int | None = None, reason: str = "fraudulent", inquiry: bool = False
) -> Json:
    """The bank takes a payment back, or as an inquiry only asks about it.

    `amount` may exceed the charge, as it does when currencies move; without one it is what was not refunded.
    """
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
    """The bank rules, whatever evidence there is; a dispute that is won brings its fee back, unless `return_fee` is false."""
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
