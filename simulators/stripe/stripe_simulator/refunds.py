"""Money given back: at once, later, or not at all because the buyer's bank would not have it. Leaves out HTTP."""

from . import disputes, methods, money, objects
from .errors import Json, StripeError, invalid
from .unit import Unit

FAILURE_REASONS = (
    "charge_for_pending_refund_disputed",
    "declined",
    "expired_or_canceled_card",
    "insufficient_funds",
    "lost_or_stolen_card",
    "merchant_request",
    "unknown",
)


def refund(unit: Unit, paid: Json, amount_minor: int, params: Json) -> Json:
    """A Refund that went through at once, as most card refunds do in test mode."""
    return {
        "id": unit.new_id("re"),
        "object": "refund",
        "amount": amount_minor,
        "balance_transaction": None,
        "charge": paid["id"],
        "created": unit.now,
        "currency": paid["currency"],
        "customer": paid["customer"],
        "customer_account": None,
        "destination_details": {"type": paid["payment_method_details"]["type"]},
        "failure_balance_transaction": None,
        "metadata": params.get("metadata") or {},
        "payment_intent": paid["payment_intent"],
        "payment_method": paid["payment_method"],
        "pending_reason": None,
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }


def give_back(unit: Unit, paid: Json, amount_minor: int | None, params: Json) -> Json:
    """Refunds a charge in full or in part; never more than is left of it, and nothing that its bank took back."""
    left = paid["amount"] - paid["amount_refunded"]
    if paid["status"] != "succeeded" or not paid["captured"]:
        raise invalid(f"Charge {paid['id']} has not been paid and cannot be refunded.", param="charge")
    if disputes.holding(unit, paid["id"]) is not None:
        raise invalid(f"Charge {paid['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    if left == 0:
        raise invalid(f"Charge {paid['id']} has already been refunded.", code="charge_already_refunded")
    amount = left if amount_minor is None else amount_minor
    if amount < 1:
        raise invalid("Invalid positive integer", param="amount", code="parameter_invalid_integer")
    if amount > left:
        currency = paid["currency"]
        raise invalid(
            f"Refund amount ({money.display(amount, currency)}) is greater than unrefunded amount on charge"
            f" ({money.display(left, currency)})",
            param="amount",
        )
    given = refund(unit, paid, amount, params)
    # Stripe keeps the fee of the charge when it is refunded.
    given["balance_transaction"] = _moved(unit, given, _type(paid), -amount)
    fate = methods.by_name(unit.need("payment_method", paid["payment_method"])["_token"]).refund
    if fate == "later":
        given |= {"status": "pending", "pending_reason": "processing"}
    unit.put("refund", given)
    _count(unit, paid, amount)
    unit.emit("refund.created", given)
    if fate != "now":
        unit.set_timer("end_refund", given["id"], due=unit.now + unit.processing_seconds)
    if amount == left:
        disputes.settle_inquiry(unit, paid["id"])
    return given


def end(unit: Unit, ident: str) -> None:
    """What the buyer's bank says to a refund after a while."""
    given = unit.need("refund", ident)
    fate = methods.by_name(unit.need("payment_method", given["payment_method"])["_token"]).refund
    if fate == "fails":
        fail(unit, given)
    elif given["status"] == "pending":
        given |= {"status": "succeeded", "pending_reason": None}
        unit.put("refund", given)
        _tell(unit, given)


def fail(unit: Unit, given: Json, reason: str = "expired_or_canceled_card") -> Json:
    """The money of a refund comes back, and may be refunded again; a refund fails once at most."""
    if given["status"] not in ("pending", "succeeded"):
        raise StripeError(400, f"Refund {given['id']} is {given['status']} and cannot fail.")
    paid = unit.need("charge", given["charge"])
    given |= {
        "failure_balance_transaction": _moved(unit, given, "refund_failure", given["amount"]),
        "failure_reason": reason,
        "pending_reason": None,
        "status": "failed",
    }
    unit.put("refund", given)
    _count(unit, paid, -given["amount"])
    _tell(unit, given)
    unit.emit("refund.failed", given)
    return given


def _type(paid: Json) -> str:
    return "refund" if paid["payment_method_details"]["type"] == "card" else "payment_refund"


def _moved(unit: Unit, given: Json, type_: str, amount_minor: int) -> str:
    moved = objects.balance_transaction(unit, type_, given["id"], amount_minor, 0, given["currency"], unit.now)
    return str(unit.put("balance_transaction", moved)["id"])


def _count(unit: Unit, paid: Json, amount_minor: int) -> None:
    before = {"amount_refunded": paid["amount_refunded"], "refunded": paid["refunded"]}
    paid["amount_refunded"] += amount_minor
    paid["refunded"] = paid["amount_refunded"] == paid["amount"]
    unit.put("charge", paid)
    unit.emit("charge.refunded" if amount_minor > 0 else "charge.updated", paid, previous=before)


def _tell(unit: Unit, given: Json) -> None:
    unit.emit("refund.updated", given)
    unit.emit("charge.refund.updated", given)
