"""How money comes in: confirming, authenticating, capturing, settling, failing and canceling a payment.

Every change of state is here, with the event that tells of it. Leaves out giving it back, parameters, pages and HTTP.
"""

from . import disputes, methods, money, objects, payment_methods
from .errors import Json, StripeError, invalid
from .methods import TestMethod
from .unit import Unit, public

CANCELABLE = ("requires_payment_method", "requires_capture", "requires_confirmation", "requires_action", "processing")
CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
AUTHORIZED_FOR_SECONDS = 7 * 86_400


def method_for(unit: Unit, intent: Json, params: Json) -> Json | None:
    """The PaymentMethod that the parameters name, or that the intent was given before; None for none."""
    method = payment_methods.from_params(unit, params)
    if method is None and intent["payment_method"]:
        method = unit.need("payment_method", intent["payment_method"])
    if method is not None:
        payment_methods.check_usable(method, intent["customer"], "PaymentIntent")
    return method


def confirm(unit: Unit, intent: Json, paid_with: Json, *, off_session: bool = False) -> Json:
    """Tries to pay. Returns the intent as it then stands; raises a card error, which stands, when declined."""
    if intent["status"] not in CONFIRMABLE:
        raise unexpected_state(
            intent, f"You cannot confirm this PaymentIntent because it has a status of {intent['status']}."
        )
    # What cannot be authorized first and captured later is not offered for manual capture.
    manual = intent["capture_method"] == "manual"
    allowed = [type_ for type_ in intent["payment_method_types"] if type_ == "card" or not manual]
    if paid_with["type"] not in allowed:
        raise invalid(
            f"The PaymentMethod provided ({paid_with['type']}) is not allowed for this PaymentIntent. Please attach a"
            " PaymentMethod of an allowed type: " + ", ".join(allowed) + ".",
            param="payment_method",
        )
    test = methods.by_name(paid_with["_token"])
    intent |= {"payment_method": paid_with["id"], "last_payment_error": None, "next_action": None}
    if test.authentication and off_session and not _excused(test, paid_with):
        return _declined(unit, intent, paid_with, test, code="authentication_required")
    if test.authentication and not off_session:
        intent |= {"status": "requires_action", "next_action": objects.next_action(unit, intent)}
        unit.put("payment_intent", intent)
        unit.emit("payment_intent.requires_action", intent)
        return intent
    return _charge(unit, intent, paid_with, test)


def authenticate(unit: Unit, intent: Json, *, passed: bool) -> Json:
    """The buyer's answer on the 3-D Secure page; raises a card error, which stands, when the card is then declined."""
    paid_with = unit.need("payment_method", intent["payment_method"])
    intent["next_action"] = None
    if passed:
        return _charge(unit, intent, paid_with, methods.by_name(paid_with["_token"]))
    problem: Json = {
        "code": "payment_intent_authentication_failure",
        "message": "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new"
        " PaymentMethod to attempt to fulfill this PaymentIntent again.",
        "payment_method": public(paid_with),
        "type": "invalid_request_error",
    }
    return _reopened(unit, intent, problem)


def settle(unit: Unit, intent: Json) -> Json:
    """What the bank answered to a debit that was processing: it was paid, or it was not."""
    if intent["status"] != "processing":
        return intent
    paid_with = unit.need("payment_method", intent["payment_method"])
    test = methods.by_name(paid_with["_token"])
    taken = unit.need("charge", intent["latest_charge"])
    if test.decline_code is None:
        return _succeeded(unit, intent, taken, paid_with)
    problem = _failed_charge(unit, taken, test, test.error_code)
    return _reopened(unit, intent, problem | {"payment_method": public(paid_with)})


def capture(unit: Unit, intent: Json, amount_minor: int | None) -> Json:
    """Takes the money that was authorized, or a part of it; what is not taken is free again."""
    if intent["status"] != "requires_capture":
        raise unexpected_state(
            intent,
            f"This PaymentIntent could not be captured because it has a status of {intent['status']}. Only a"
            " PaymentIntent with one of the following statuses may be captured: requires_capture.",
        )
    amount = intent["amount_capturable"] if amount_minor is None else amount_minor
    if amount < 1:
        raise invalid("Invalid positive integer", param="amount_to_capture", code="parameter_invalid_integer")
    if amount > intent["amount_capturable"]:
        raise invalid(
            "The payment could not be captured because the requested capture amount is greater than the amount you can"
            " capture for this charge.",
            param="amount_to_capture",
            code="amount_too_large",
            payment_intent=public(intent),
        )
    taken = unit.need("charge", intent["latest_charge"])
    # As at Stripe, what is not captured reads as refunded, although it never moved.
    taken["amount_refunded"] = taken["amount"] - amount
    unit.delete("timer", f"authorization_ends:{intent['id']}")
    return _captured(unit, intent, taken, unit.need("payment_method", intent["payment_method"]), "charge.captured")


def authorization_ends(unit: Unit, intent: Json) -> Json:
    """What was never captured in a week is free again."""
    if intent["status"] != "requires_capture":
        return intent
    unit.emit("charge.expired", unit.need("charge", intent["latest_charge"]))
    return cancel(unit, intent, "automatic")


def cancel(unit: Unit, intent: Json, reason: str | None) -> Json:
    """Ends the intent for good; refused once it succeeded or was canceled."""
    if intent["status"] not in CANCELABLE:
        raise unexpected_state(
            intent,
            f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}. Only a PaymentIntent"
            f" with one of the following statuses may be canceled: {', '.join(CANCELABLE)}.",
        )
    if intent["status"] == "processing":
        taken = unit.need("charge", intent["latest_charge"])
        unit.put("charge", taken | {"status": "failed", "failure_message": "The payment was canceled."})
    if intent["status"] == "requires_capture":
        taken = unit.need("charge", intent["latest_charge"])
        taken |= {"amount_refunded": taken["amount"], "refunded": True}
        unit.put("charge", taken)
        unit.delete("timer", f"authorization_ends:{intent['id']}")
        unit.emit("charge.refunded", taken, previous={"amount_refunded": 0, "refunded": False})
    intent |= {
        "amount_capturable": 0,
        "canceled_at": unit.now,
        "cancellation_reason": reason,
        "next_action": None,
        "processing": None,
        "status": "canceled",
    }
    unit.put("payment_intent", intent)
    unit.emit("payment_intent.canceled", intent)
    return intent


def unexpected_state(intent: Json, message: str) -> StripeError:
    """The intent has gone too far, or not far enough, for what was asked."""
    return invalid(message, code="payment_intent_unexpected_state", payment_intent=public(intent))


def _charge(unit: Unit, intent: Json, paid_with: Json, test: TestMethod) -> Json:
    if test.settles == "now" and test.decline_code:
        return _declined(unit, intent, paid_with, test, code=test.error_code)
    taken = objects.charge(unit, intent, paid_with, test)
    intent["latest_charge"] = taken["id"]
    payment_methods.keep(unit, paid_with, intent["customer"], intent["setup_future_usage"])
    if test.settles == "now" and intent["capture_method"] == "manual":
        return _authorized(unit, intent, taken)
    if test.settles == "now":
        return _succeeded(unit, intent, taken, paid_with)
    unit.put("charge", taken)
    intent["status"] = "processing"
    unit.put("payment_intent", intent)
    if test.settles == "later":
        unit.set_timer("settle_payment", intent["id"], due=unit.now + unit.processing_seconds)
    unit.emit("charge.pending", taken)
    unit.emit("payment_intent.processing", intent)
    return intent


def _authorized(unit: Unit, intent: Json, taken: Json) -> Json:
    _approve(unit, taken)
    unit.put("charge", taken)
    intent |= {"amount_capturable": taken["amount"], "status": "requires_capture"}
    unit.put("payment_intent", intent)
    unit.set_timer("authorization_ends", intent["id"], due=unit.now + AUTHORIZED_FOR_SECONDS)
    unit.emit("charge.succeeded", taken)
    unit.emit("payment_intent.amount_capturable_updated", intent)
    return intent


def _succeeded(unit: Unit, intent: Json, taken: Json, paid_with: Json) -> Json:
    _approve(unit, taken)
    return _captured(unit, intent, taken, paid_with, "charge.succeeded")


def _captured(unit: Unit, intent: Json, taken: Json, paid_with: Json, told_as: str) -> Json:
    test = methods.by_name(paid_with["_token"])
    amount = taken["amount"] - taken["amount_refunded"]
    wait = 0 if test.token == "pm_card_bypassPending" else objects.FUNDS_WAIT_SECONDS  # noqa: S105 - a test card
    fee = money.fee_minor(amount, taken["currency"])
    kind = "charge" if test.type == "card" else "payment"
    moved = objects.balance_transaction(unit, kind, taken["id"], amount, fee, taken["currency"], unit.now + wait)
    unit.put("balance_transaction", moved)
    taken |= {"amount_captured": amount, "balance_transaction": moved["id"], "captured": True}
    unit.put("charge", taken)
    intent |= {"amount_capturable": 0, "amount_received": amount, "processing": None, "status": "succeeded"}
    unit.put("payment_intent", intent)
    unit.emit(told_as, taken)
    disputes.follow_payment(unit, taken, paid_with)
    unit.emit("payment_intent.succeeded", intent)
    return intent


def _approve(unit: Unit, taken: Json) -> None:
    taken |= {
        "outcome": _outcome("authorized", None),
        "paid": True,
        "receipt_url": f"{unit.base_url}/receipts/{taken['id']}",
        "status": "succeeded",
    }


def _excused(test: TestMethod, paid_with: Json) -> bool:
    """Whether the bank lets a payment pass that its absent holder cannot confirm."""
    return test.asks_off_session == "never" or (
        test.asks_off_session == "unless_set_up" and paid_with.get("_set_up", False)
    )


def _declined(unit: Unit, intent: Json, paid_with: Json, test: TestMethod, *, code: str) -> Json:
    taken = objects.charge(unit, intent, paid_with, test)
    intent["latest_charge"] = taken["id"]
    problem = _failed_charge(unit, taken, test, code)
    problem["payment_method"] = public(paid_with)
    _reopened(unit, intent, problem)
    raise StripeError(
        402,
        problem["message"],
        kind="card_error",
        code=code,
        commits=True,
        charge=taken["id"],
        decline_code=problem["decline_code"],
        payment_intent=public(intent),
        payment_method=problem["payment_method"],
    )


def _failed_charge(unit: Unit, taken: Json, test: TestMethod, code: str) -> Json:
    message = methods.decline_message(test)
    decline_code = test.decline_code
    if code == "authentication_required":
        message = "Your card was declined. This transaction requires authentication."
        decline_code = "authentication_required"
    taken |= {
        "failure_code": code,
        "failure_message": message,
        "outcome": _outcome("issuer_declined", decline_code),
        "status": "failed",
    }
    unit.put("charge", taken)
    unit.emit("charge.failed", taken)
    return {
        "charge": taken["id"],
        "code": code,
        "decline_code": decline_code,
        "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}",
        "message": message,
        "type": "card_error",
    }


def _reopened(unit: Unit, intent: Json, problem: Json) -> Json:
    """The attempt failed; the intent waits for another payment method."""
    intent |= {
        "last_payment_error": problem,
        "next_action": None,
        "payment_method": None,
        "processing": None,
        "status": "requires_payment_method",
    }
    unit.put("payment_intent", intent)
    unit.emit("payment_intent.payment_failed", intent)
    return intent


def _outcome(type_: str, reason: str | None) -> Json:
    good = type_ == "authorized"
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "approved_by_network" if good else "declined_by_network",
        "reason": reason,
        "risk_level": "normal",
        "seller_message": "Payment complete." if good else "The bank did not return any further details.",
        "type": type_,
    }
