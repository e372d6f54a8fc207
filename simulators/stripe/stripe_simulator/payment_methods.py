"""Payment methods: made from test tokens, kept for a customer, given up. Leaves out paying with them."""

from . import methods
from .errors import Json, StripeError, invalid
from .methods import TestMethod
from .unit import Unit, public

_BILLING_DETAILS: Json = {
    "address": {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None},
    "email": None,
    "name": None,
    "phone": None,
    "tax_id": None,
}


def payment_method(unit: Unit, method: TestMethod, customer: str | None, billing_details: Json | None) -> Json:
    """A PaymentMethod with its own id; a test token makes a new one each time, as at Stripe."""
    return {
        "id": unit.new_id("pm"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {**_BILLING_DETAILS, **(billing_details or {})},
        "created": unit.now,
        "customer": customer,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "type": method.type,
        method.type: method.details,
        "_token": method.token,
    }


def from_params(unit: Unit, params: Json) -> Json | None:
    """The method that the parameters of an intent name: a test token, one made earlier, a test IBAN; None for none."""
    if data := params.get("payment_method_data"):
        test = methods.by_iban(data.get("sepa_debit", {}).get("iban", ""))
        return unit.put("payment_method", payment_method(unit, test, None, data.get("billing_details")))
    return named(unit, params["payment_method"]) if "payment_method" in params else None


def named(unit: Unit, name: str, *, param: str = "payment_method", status: int = 400) -> Json:
    """The method of that id, or a new one of a test token."""
    test = methods.by_token(name)
    if test is None:
        return unit.need("payment_method", name, param=param, status=status)
    return unit.put("payment_method", payment_method(unit, test, None, None))


def check_usable(method: Json, customer: str | None, noun: str) -> None:
    """Refuses a method that is somebody else's, or that was used up without ever being kept."""
    owner = method["customer"]
    if owner is None and method.get("_used_up"):
        raise invalid(
            "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, shared"
            " with a connected account without Customer attachment, or was detached from a Customer. It may not be used"
            " again. To use a PaymentMethod multiple times, you must attach it to a Customer first.",
            param="payment_method",
        )
    if owner is None or owner == customer:
        return
    if customer is None:
        raise invalid(
            f"The payment method supplied ({method['id']}) belongs to the Customer {owner}. Please include the Customer"
            f" in the `customer` parameter on the {noun}.",
            param="payment_method",
        )
    raise invalid(
        f"The PaymentMethod {method['id']} does not belong to the Customer you supplied {customer}. Please use this"
        " PaymentMethod with the Customer that it belongs to instead.",
        param="payment_method",
    )


def attach(unit: Unit, method: Json, customer: str) -> Json:
    """Keeps a method for a customer; a card that its bank declines cannot be kept, which is a card error."""
    if method["customer"] == customer:
        return method
    if method["customer"] is not None:
        raise invalid("The payment method you provided has already been attached to a customer.")
    if method.get("_used_up"):
        raise invalid(
            "This PaymentMethod was previously used without being attached to a Customer or was detached from a"
            " Customer, and may not be used again."
        )
    test = methods.by_name(method["_token"])
    if not test.saves:
        raise StripeError(
            402,
            methods.decline_message(test),
            kind="card_error",
            code=test.error_code,
            decline_code=test.decline_code,
        )
    return _kept(unit, method, customer)


def keep(unit: Unit, method: Json, customer: str | None, usage: str | None) -> None:
    """What a successful payment or setup does to its method: kept when asked for (`usage`), used up when not.

    `usage` is "off_session" or "on_session", or None for a payment that keeps nothing.
    """
    if usage == "off_session":
        # The holder agreed to later payments and, where the bank asks, showed who they are.
        method["_set_up"] = True
    if usage is None:
        method["_used_up"] = True
    if usage is not None and customer is not None and method["customer"] is None:
        _kept(unit, method, customer)
    else:
        unit.put("payment_method", method)


def detach(unit: Unit, method: Json) -> Json:
    """Gives a method up for good."""
    if method["customer"] is None:
        raise invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible.",
        )
    before = {"customer": method["customer"]}
    owner = unit.find("customer", method["customer"])
    if owner is not None and owner["invoice_settings"]["default_payment_method"] == method["id"]:
        owner["invoice_settings"]["default_payment_method"] = None
        unit.put("customer", owner)
    method |= {"customer": None, "_used_up": True}
    unit.put("payment_method", method)
    unit.emit("payment_method.detached", method, previous=before)
    return method


def problem(method: Json, test: TestMethod, code: str, message: str) -> Json:
    """A card error as a SetupIntent shows it in `last_setup_error`."""
    return {
        "code": code,
        "decline_code": test.decline_code or code,
        "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}",
        "message": message,
        "payment_method": public(method),
        "type": "card_error",
    }


def _kept(unit: Unit, method: Json, customer: str) -> Json:
    method["customer"] = customer
    unit.put("payment_method", method)
    unit.emit("payment_method.attached", method)
    return method
