"""PaymentIntents over HTTP: parameters in, the intent out. Leaves out how money moves."""

from stripe import params as shapes

from .. import methods, money, objects, payments, sessions
from ..errors import Json, invalid, not_modeled
from ..unit import Unit
from .table import Route, listing, merged_metadata, retrieving, taking

_PAYING = {"amount", "currency", "customer", "payment_method", "setup_future_usage"}
METHOD_DATA = {"type": None, "sepa_debit": None, "billing_details": None}
_DESCRIBING = ("description", "receipt_email", "statement_descriptor", "statement_descriptor_suffix", "transfer_group")


def create(unit: Unit, params: Json, _: str) -> Json:
    """A new intent; with `confirm` it is paid in the same request."""
    currency = money.checked_currency(params["currency"])
    money.check_amount(params["amount"], currency)
    check_types(params.get("allowed_payment_method_types"))
    check_method(params)
    confirming = params.get("confirm", False)
    if "return_url" in params and not confirming:
        raise invalid(
            "The parameter `return_url` cannot be passed when creating a PaymentIntent unless `confirm` is set to true.",
            param="return_url",
        )
    if "off_session" in params and not confirming:
        raise invalid(
            "The parameter `off_session` cannot be passed when creating a PaymentIntent unless `confirm` is set to"
            " true.",
            param="off_session",
        )
    if "customer" in params:
        unit.need("customer", params["customer"], param="customer", status=400)
    params["metadata"] = merged_metadata({}, params.get("metadata"))
    intent = objects.payment_intent(unit, params["amount"], currency, params)
    paid_with = payments.method_for(unit, intent, params)
    if paid_with is not None:
        intent |= {"payment_method": paid_with["id"], "status": "requires_confirmation"}
    unit.put("payment_intent", intent)
    unit.emit("payment_intent.created", intent)
    if not confirming:
        return intent
    return _confirm(unit, intent, paid_with, params)


def confirm(unit: Unit, params: Json, ident: str) -> Json:
    """Pays an intent with the method given now or before."""
    intent = _need(unit, ident)
    _refuse_checkout(intent, "confirm")
    check_method(params)
    if intent["status"] == "succeeded":
        raise payments.unexpected_state(
            intent,
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed.",
        )
    for name in ("receipt_email", "setup_future_usage"):
        if name in params:
            intent[name] = params[name] or None
    return _confirm(unit, intent, payments.method_for(unit, intent, params), params)


def cancel(unit: Unit, params: Json, ident: str) -> Json:
    """Ends an intent that has not succeeded."""
    intent = _need(unit, ident)
    _refuse_checkout(intent, "cancel")
    return payments.cancel(unit, intent, params.get("cancellation_reason"))


def capture(unit: Unit, params: Json, ident: str) -> Json:
    """Takes what an intent authorized, or a part of it; the rest is free again."""
    if params.get("final_capture") is False:
        raise not_modeled("final_capture=false", param="final_capture")
    intent = _need(unit, ident)
    intent["metadata"] = merged_metadata(intent["metadata"], params.get("metadata"))
    intent = payments.capture(unit, intent, params.get("amount_to_capture"))
    sessions.follow(unit, intent)
    return intent


def update(unit: Unit, params: Json, ident: str) -> Json:
    """Changes what describes an intent, and what and how it pays as long as nothing was paid."""
    intent = _need(unit, ident)
    if _PAYING & set(params):
        if intent["status"] not in ("requires_payment_method", "requires_confirmation"):
            raise payments.unexpected_state(
                intent,
                f"This PaymentIntent's {min(_PAYING & set(params))} could not be updated because it has a status of"
                f" {intent['status']}.",
            )
        currency = money.checked_currency({**intent, **params}["currency"])
        amount = {**intent, **params}["amount"]
        money.check_amount(amount, currency)
        intent |= {"amount": amount, "currency": currency}
        if "customer" in params:
            intent["customer"] = unit.need("customer", params["customer"], param="customer", status=400)["id"]
        if "setup_future_usage" in params:
            intent["setup_future_usage"] = params["setup_future_usage"] or None
        method = payments.method_for(unit, intent, params)
        if method is not None:
            intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    for name in _DESCRIBING:
        if name in params:
            intent[name] = params[name] or None
    intent["metadata"] = merged_metadata(intent["metadata"], params.get("metadata"))
    return unit.put("payment_intent", intent)


def _need(unit: Unit, ident: str) -> Json:
    return unit.need("payment_intent", ident, param="intent")


def _refuse_checkout(intent: Json, verb: str) -> None:
    if intent["_session"] is not None:
        raise invalid(
            f"You cannot {verb} this PaymentIntent because it belongs to the Checkout Session {intent['_session']}.",
            code="payment_intent_unexpected_state",
        )


def check_method(params: Json) -> None:
    """Refuses method data of types that this simulator cannot pay with."""
    if "payment_method_data" in params and params["payment_method_data"]["type"] != "sepa_debit":
        type_ = params["payment_method_data"]["type"]
        raise not_modeled(f"payment_method_data of type {type_}", param="payment_method_data[type]")


def check_types(types: list[str] | None) -> None:
    """Refuses method types that this simulator cannot pay with."""
    for type_ in types or ():
        if type_ not in methods.TYPES:
            raise not_modeled(f"the payment method type {type_}", param="allowed_payment_method_types")


def check_way_back(intent: Json, params: Json, noun: str = "PaymentIntent") -> None:
    """Keeps the `return_url`, and refuses to confirm without one what might send the buyer away."""
    intent["_return_url"] = params.get("return_url")
    automatic = intent["automatic_payment_methods"]
    # None of the types that can be allowed here redirects, so an intent that names its types needs no way back.
    may_redirect = automatic["allow_redirects"] == "always" and intent["allowed_payment_method_types"] is None
    if may_redirect and not intent["_return_url"]:
        raise invalid(
            f"This {noun} is configured to accept payment methods enabled in your Dashboard. Because some of"
            " these payment methods might redirect your customer off of your page, you must provide a `return_url`."
            " If you don't want to accept redirect-based payment methods, set `automatic_payment_methods[enabled]` to"
            " `true` and `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and"
            " Payment Intents.",
        )


def _confirm(unit: Unit, intent: Json, paid_with: Json | None, params: Json) -> Json:
    if paid_with is None:
        raise invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the"
            " PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a"
            " payment method or ConfirmationToken.",
            code="payment_intent_unexpected_state",
        )
    check_way_back(intent, params)
    return payments.confirm(unit, intent, paid_with, off_session=params.get("off_session", False) is not False)


_PATH = "/v1/payment_intents"
_CONFIRMING = ("payment_method", "return_url", "off_session", "mandate_data")
ROUTES = (
    Route(
        "POST", _PATH, shapes.PaymentIntentCreateParams,
        taking(
            "amount", "currency", "automatic_payment_methods", "capture_method", "confirm", "customer", "metadata",
            "allowed_payment_method_types", "setup_future_usage", *_CONFIRMING, *_DESCRIBING, payment_method_data=METHOD_DATA,
        ),
        create,
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/confirm", shapes.PaymentIntentConfirmParams,
        taking(*_CONFIRMING, "receipt_email", "setup_future_usage", payment_method_data=METHOD_DATA), confirm,
    ),
    Route("POST", f"{_PATH}/{{id}}/cancel", shapes.PaymentIntentCancelParams, taking("cancellation_reason"), cancel),
    Route(
        "POST", f"{_PATH}/{{id}}", shapes.PaymentIntentUpdateParams,
        taking(*_PAYING, "metadata", *_DESCRIBING), update,
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/capture", shapes.PaymentIntentCaptureParams,
        taking("amount_to_capture", "final_capture", "metadata"), capture,
    ),
    retrieving("payment_intent", _PATH, shapes.PaymentIntentRetrieveParams, param="intent"),
    listing("payment_intent", _PATH, shapes.PaymentIntentListParams, "customer"),
)  # fmt: skip
