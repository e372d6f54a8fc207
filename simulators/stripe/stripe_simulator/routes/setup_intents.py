"""SetupIntents over HTTP: parameters in, the intent out. Leaves out what setting up does."""

from stripe import params as shapes

from .. import setup_intents
from ..errors import Json, missing
from ..unit import Unit
from .payment_intents import METHOD_DATA, check_method, check_types, check_way_back
from .table import Route, listing, merged_metadata, taking


def create(unit: Unit, params: Json, _: str) -> Json:
    """A new intent; with `confirm` the method is set up in the same request."""
    check_types(params.get("allowed_payment_method_types"))
    check_method(params)
    if "customer" in params:
        unit.need("customer", params["customer"], param="customer", status=400)
    params["metadata"] = merged_metadata({}, params.get("metadata"))
    setup = setup_intents.setup_intent(unit, params)
    method = setup_intents.method_for(unit, setup, params)
    if method is not None:
        setup |= {"payment_method": method["id"], "status": "requires_confirmation"}
    unit.put("setup_intent", setup)
    unit.emit("setup_intent.created", setup)
    return _confirm(unit, setup, method, params) if params.get("confirm", False) else setup


def confirm(unit: Unit, params: Json, ident: str) -> Json:
    """Sets up the method given now or before."""
    check_method(params)
    setup = need(unit, ident)
    return _confirm(unit, setup, setup_intents.method_for(unit, setup, params), params)


def update(unit: Unit, params: Json, ident: str) -> Json:
    """Changes what describes an intent and, until it succeeded, the method and the customer."""
    setup = need(unit, ident)
    if {"payment_method", "customer"} & set(params) and setup["status"] not in setup_intents.CANCELABLE:
        text = "it has already succeeded" if setup["status"] == "succeeded" else "it has been canceled"
        raise setup_intents.unexpected_state(setup, f"You cannot update this SetupIntent because {text}.")
    if "customer" in params:
        setup["customer"] = unit.need("customer", params["customer"], param="customer", status=400)["id"]
    if "payment_method" in params:
        method = setup_intents.method_for(unit, setup, params)
        if method is not None:
            setup |= {"payment_method": method["id"], "status": "requires_confirmation"}
    if "description" in params:
        setup["description"] = params["description"] or None
    setup["metadata"] = merged_metadata(setup["metadata"], params.get("metadata"))
    return unit.put("setup_intent", setup)


def cancel(unit: Unit, params: Json, ident: str) -> Json:
    """Ends an intent that has not succeeded."""
    return setup_intents.cancel(unit, need(unit, ident), params.get("cancellation_reason"))


def retrieve(unit: Unit, _: Json, ident: str) -> Json:
    """One intent."""
    return need(unit, ident)


def need(unit: Unit, ident: str) -> Json:
    """The intent that the path names; Stripe writes its noun as one word here."""
    found = unit.find("setup_intent", ident)
    if found is None:
        raise missing("setupintent", ident, param="intent")
    return found


def _confirm(unit: Unit, setup: Json, method: Json | None, params: Json) -> Json:
    if method is None:
        raise setup_intents.unexpected_state(
            setup,
            "You cannot confirm this SetupIntent because it's missing a payment method. You can either update the"
            " SetupIntent with a payment method and then confirm it again, or confirm it again directly with a payment"
            " method or ConfirmationToken.",
        )
    check_way_back(setup, params, "SetupIntent")
    return setup_intents.confirm(unit, setup, method)


_PATH = "/v1/setup_intents"
_CONFIRMING = ("payment_method", "return_url", "mandate_data")
ROUTES = (
    Route(
        "POST", _PATH, shapes.SetupIntentCreateParams,
        taking(
            "allowed_payment_method_types", "automatic_payment_methods", "confirm", "customer", "description",
            "metadata", "usage", *_CONFIRMING, payment_method_data=METHOD_DATA,
        ),
        create,
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/confirm", shapes.SetupIntentConfirmParams,
        taking(*_CONFIRMING, payment_method_data=METHOD_DATA), confirm,
    ),
    Route("POST", f"{_PATH}/{{id}}/cancel", shapes.SetupIntentCancelParams, taking("cancellation_reason"), cancel),
    Route(
        "POST", f"{_PATH}/{{id}}", shapes.SetupIntentUpdateParams,
        taking("customer", "description", "metadata", "payment_method"), update,
    ),
    Route("GET", f"{_PATH}/{{id}}", shapes.SetupIntentRetrieveParams, taking(), retrieve),
    listing("setup_intent", _PATH, shapes.SetupIntentListParams, "customer", "payment_method"),
)  # fmt: skip
