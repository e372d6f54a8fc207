"""SetupIntents: a method is kept for later without paying now. Leaves out parameters, pages and HTTP."""

from . import methods, objects, payment_methods
from .errors import Json, StripeError, invalid
from .methods import TestMethod
from .unit import Unit, public

CANCELABLE = ("requires_payment_method", "requires_confirmation", "requires_action")


def setup_intent(unit: Unit, params: Json) -> Json:
    """A SetupIntent that waits for a payment method."""
    ident = unit.new_id("seti")
    allowed = params.get("allowed_payment_method_types")
    return {
        "id": ident,
        "object": "setup_intent",
        "allowed_payment_method_types": allowed,
        "application": None,
        "automatic_payment_methods": {
            "allow_redirects": "always", "enabled": True, **params.get("automatic_payment_methods", {}),
        },
        "cancellation_reason": None,
        "client_secret": unit.new_id(f"{ident}_secret"),
        "created": unit.now,
        "customer": params.get("customer"),
        "customer_account": None,
        "description": params.get("description"),
        "excluded_payment_method_types": None,
        "flow_directions": None,
        "last_setup_error": None,
        "latest_attempt": None,
        "livemode": False,
        "managed_payments": None,
        "mandate": None,
        "metadata": params.get("metadata") or {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": [type_ for type_ in methods.TYPES if allowed is None or type_ in allowed],
        "single_use_mandate": None,
        "status": "requires_payment_method",
        "usage": params.get("usage", "off_session"),
        "_return_url": None,
    }  # fmt: skip


def method_for(unit: Unit, setup: Json, params: Json) -> Json | None:
    """The PaymentMethod that the parameters name, or that the intent was given before; None for none."""
    method = payment_methods.from_params(unit, params)
    if method is None and setup["payment_method"]:
        method = unit.need("payment_method", setup["payment_method"])
    if method is not None:
        payment_methods.check_usable(method, setup["customer"], "SetupIntent")
    return method


def confirm(unit: Unit, setup: Json, method: Json) -> Json:
    """Tries to set the method up; raises a card error, which stands, when its bank declines."""
    if setup["status"] not in CANCELABLE:
        text = "it has already succeeded" if setup["status"] == "succeeded" else "it has been canceled"
        raise unexpected_state(setup, f"You cannot confirm this SetupIntent because {text}.")
    if method["type"] not in setup["payment_method_types"]:
        raise invalid(
            f"The PaymentMethod provided ({method['type']}) is not allowed for this SetupIntent. Please attach a"
            " PaymentMethod of an allowed type: " + ", ".join(setup["payment_method_types"]) + ".",
            param="payment_method",
        )
    test = methods.by_name(method["_token"])
    setup |= {"payment_method": method["id"], "last_setup_error": None, "next_action": None}
    if not test.authentication:
        return _finish(unit, setup, method, test)
    setup |= {"status": "requires_action", "next_action": objects.next_action(unit, setup)}
    unit.put("setup_intent", setup)
    unit.emit("setup_intent.requires_action", setup)
    return setup


def authenticate(unit: Unit, setup: Json, *, passed: bool) -> Json:
    """The holder's answer on the 3-D Secure page; raises a card error, which stands, when the card is then declined."""
    method = unit.need("payment_method", setup["payment_method"])
    setup["next_action"] = None
    if passed:
        return _finish(unit, setup, method, methods.by_name(method["_token"]))
    problem: Json = {
        "code": "setup_intent_authentication_failure",
        "message": "The latest attempt to set up the payment method has failed because authentication failed.",
        "payment_method": public(method),
        "type": "invalid_request_error",
    }
    return _failed(unit, setup, problem)


def cancel(unit: Unit, setup: Json, reason: str | None) -> Json:
    """Ends the intent for good; refused once it succeeded or was canceled."""
    if setup["status"] == "canceled":
        raise unexpected_state(setup, "You cannot cancel this SetupIntent because it is already canceled.")
    if setup["status"] not in CANCELABLE:
        raise unexpected_state(
            setup,
            f"You cannot cancel this SetupIntent because it has a status of {setup['status']}. Only a SetupIntent with"
            " one of the following statuses may be canceled: `requires_payment_method`, `requires_confirmation`, or"
            " `requires_action`.",
        )
    setup |= {"cancellation_reason": reason, "next_action": None, "status": "canceled"}
    unit.put("setup_intent", setup)
    unit.emit("setup_intent.canceled", setup)
    return setup


def unexpected_state(setup: Json, message: str) -> StripeError:
    """The intent has gone too far, or not far enough, for what was asked."""
    return invalid(message, code="setup_intent_unexpected_state", setup_intent=public(setup))


def _finish(unit: Unit, setup: Json, method: Json, test: TestMethod) -> Json:
    if not test.saves:
        problem = payment_methods.problem(method, test, test.error_code, methods.decline_message(test))
        _failed(unit, setup, problem)
        raise StripeError(
            402,
            problem["message"],
            kind="card_error",
            code=problem["code"],
            commits=True,
            decline_code=problem["decline_code"],
            payment_method=problem["payment_method"],
            setup_intent=public(setup),
        )
    payment_methods.keep(unit, method, setup["customer"], setup["usage"])
    setup |= {"last_setup_error": None, "status": "succeeded"}
    unit.put("setup_intent", setup)
    unit.emit("setup_intent.succeeded", setup)
    return setup


def _failed(unit: Unit, setup: Json, problem: Json) -> Json:
    setup |= {"last_setup_error": problem, "payment_method": None, "status": "requires_payment_method"}
    unit.put("setup_intent", setup)
    unit.emit("setup_intent.setup_failed", setup)
    return setup
