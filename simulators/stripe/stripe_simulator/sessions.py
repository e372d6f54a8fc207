"""A Checkout Session's life: opened, paid, completed or expired. Leaves out parameters, pages and HTTP."""

from . import customers, methods, objects, payment_methods, payments, setup_intents
from .errors import Json, StripeError, invalid
from .methods import TestMethod
from .unit import Unit


def pay(unit: Unit, session: Json, test: TestMethod, buyer: Json) -> Json:
    """Pays an open session with a test method; returns the session as it then stands.

    `buyer` holds `email` and `name`. A declined card raises a card error, which stands: the session stays open and
    its PaymentIntent waits for another card.
    """
    if session["status"] != "open":
        raise invalid(f"This Checkout Session is {session['status']}.", param="session")
    session["_buyer"] = buyer
    keeps = session["_intent_data"].get("setup_future_usage")
    if session["customer"] is None and (keeps or session["customer_creation"] == "always"):
        made = unit.put("customer", customers.customer(unit, buyer))
        unit.emit("customer.created", made)
        session["customer"] = made["id"]
    intent = _intent(unit, session)
    paid_with = payment_methods.payment_method(unit, test, None, {key: buyer[key] for key in ("email", "name")})
    unit.put("payment_method", paid_with)
    unit.put("checkout.session", session)
    return follow(unit, payments.confirm(unit, intent, paid_with)) or session


def follow(unit: Unit, intent: Json) -> Json | None:
    """Draws the session after its PaymentIntent; returns the session, or None when the intent has none."""
    if intent["_session"] is None:
        return None
    session = unit.need("checkout.session", intent["_session"])
    was_open = session["status"] == "open"
    if intent["status"] in ("succeeded", "processing", "requires_capture"):
        if intent["status"] == "succeeded":
            session["payment_status"] = "paid"
        if was_open:
            details = objects.customer_details(session["_buyer"])
            session |= {"status": "complete", "url": None, "customer_details": details}
        unit.put("checkout.session", session)
        if was_open:
            unit.emit("checkout.session.completed", session)
        elif intent["status"] == "succeeded" and intent["capture_method"] != "manual":
            unit.emit("checkout.session.async_payment_succeeded", session)
    elif not was_open and session["status"] == "complete":
        unit.emit("checkout.session.async_payment_failed", session)
    return session


def expire(unit: Unit, session: Json) -> Json:
    """Ends an open session; its PaymentIntent, if a buyer had begun one, is canceled."""
    if session["status"] != "open":
        raise invalid(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of'
            f" {session['status']}.",
            param="session",
        )
    if session["payment_intent"]:
        intent = unit.need("payment_intent", session["payment_intent"])
        if intent["status"] in payments.CANCELABLE:
            payments.cancel(unit, intent, "automatic")
    if session["setup_intent"]:
        setup = unit.need("setup_intent", session["setup_intent"])
        if setup["status"] in setup_intents.CANCELABLE:
            setup_intents.cancel(unit, setup, None)
    session |= {"status": "expired", "url": None}
    unit.put("checkout.session", session)
    unit.emit("checkout.session.expired", session)
    return session


def _intent(unit: Unit, session: Json) -> Json:
    # As at Stripe, the PaymentIntent comes into being when a buyer first tries to pay, and is kept for further tries.
    if session["payment_intent"]:
        return unit.need("payment_intent", session["payment_intent"])
    data = session["_intent_data"]
    params = {**data, "customer": session["customer"], "allowed_payment_method_types": session["payment_method_types"]}
    intent = objects.payment_intent(unit, session["amount_total"], session["currency"], params)
    intent |= {"_session": session["id"], "_return_url": f"{unit.base_url}/c/pay/{session['id']}"}
    session["payment_intent"] = intent["id"]
    unit.put("payment_intent", intent)
    unit.emit("payment_intent.created", intent)
    return intent


def chosen_method(choice: Json) -> TestMethod:
    """The method a buyer chose on the page: `card_number`, or `pay_with` naming a bank debit."""
    bank = {
        ("bank", "usd"): "pm_usBankAccount_success",
        ("bank_fails", "usd"): "pm_usBankAccount_insufficientFunds",
        ("bank", "eur"): "AT611904300234573201",
        ("bank_fails", "eur"): "AT861904300235473202",
    }.get((choice["pay_with"], choice["currency"]))
    if bank is not None:
        return methods.by_name(bank)
    number = "4000000000000002" if choice["pay_with"] == "declined_card" else choice["card_number"]
    card = methods.by_card_number(number)
    if card is None:
        raise StripeError(
            402, "Your card number is not one of Stripe's test cards.", kind="card_error", code="incorrect_number"
        )
    return card
