"""Checkout Sessions in setup mode: a card is kept for later on the hosted page. Leaves out parameters, pages and HTTP."""

from . import objects, payment_methods, setup_intents
from .errors import Json, invalid
from .methods import TestMethod
from .unit import Unit


def session(unit: Unit, params: Json, currency: str | None, expires_at: int) -> Json:
    """An open session with its SetupIntent, which exists from the start."""
    made = objects.checkout_session(unit, params, currency or "usd", 0, expires_at)
    given = {**params.get("setup_intent_data", {}), "customer": params.get("customer"), "usage": "off_session"}
    intent = setup_intents.setup_intent(unit, {**given, "allowed_payment_method_types": ["card"]})
    intent |= {"_session": made["id"], "_return_url": f"{unit.base_url}/c/pay/{made['id']}"}
    unit.put("setup_intent", intent)
    unit.emit("setup_intent.created", intent)
    return made | {
        "amount_subtotal": None,
        "amount_total": None,
        "currency": currency,
        "mode": "setup",
        "payment_method_collection": "always",
        "payment_method_types": ["card"],
        "payment_status": "no_payment_required",
        "setup_intent": intent["id"],
        "_line_items": [],
    }


def keep(unit: Unit, session: Json, test: TestMethod, buyer: Json) -> Json:
    """Keeps a card on an open session's page; a declined one raises a card error and leaves the session open."""
    if session["status"] != "open":
        raise invalid(f"This Checkout Session is {session['status']}.", param="session")
    session["_buyer"] = buyer
    unit.put("checkout.session", session)
    method = payment_methods.payment_method(unit, test, None, {key: buyer[key] for key in ("email", "name")})
    unit.put("payment_method", method)
    intent = setup_intents.confirm(unit, unit.need("setup_intent", session["setup_intent"]), method)
    return follow(unit, intent) or session


def follow(unit: Unit, intent: Json) -> Json | None:
    """Draws the session after its SetupIntent; returns the session, or None when the intent has none."""
    if intent.get("_session") is None:
        return None
    session = unit.need("checkout.session", intent["_session"])
    if intent["status"] == "succeeded" and session["status"] == "open":
        details = objects.customer_details(session["_buyer"])
        session |= {"status": "complete", "url": None, "customer_details": details}
        unit.put("checkout.session", session)
        unit.emit("checkout.session.completed", session)
    return session
