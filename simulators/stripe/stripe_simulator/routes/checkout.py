"""Checkout Sessions over HTTP. Leaves out the hosted page and what a payment does."""

from stripe.params import checkout

from .. import money, objects, sessions, setup_sessions
from ..errors import Json, invalid, not_modeled
from ..unit import Unit
from .payment_intents import check_types
from .table import Route, listing, merged_metadata, page, retrieving, taking

LEAST_LIFE_SECONDS, MOST_LIFE_SECONDS = 30 * 60, 24 * 3600


def create(unit: Unit, params: Json, _: str) -> Json:
    """A new session in payment or setup mode, whose `url` is the hosted page."""
    if params.get("mode") not in ("payment", "setup"):
        raise _missing("mode") if "mode" not in params else not_modeled(f"mode={params['mode']}", param="mode")
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise not_modeled(f"ui_mode={params['ui_mode']}", param="ui_mode")
    setup = params["mode"] == "setup"
    for name in ("success_url",) if setup else ("success_url", "line_items"):
        if not params.get(name):
            raise _missing(name)
    for name in ("success_url", "cancel_url"):
        if name in params and not params[name].startswith(("http://", "https://")):
            raise invalid("Not a valid URL", param=name, code="url_invalid")
    check_types(params.get("allowed_payment_method_types"))
    if "customer" in params and "customer_creation" in params:
        raise invalid("You may only specify one of these parameters: customer, customer_creation.")
    if "customer" in params and "customer_email" in params:
        raise invalid("You may only specify one of these parameters: customer, customer_email.")
    if "customer" in params:
        unit.need("customer", params["customer"], param="customer", status=400)
    expires_at = params.get("expires_at", unit.now + MOST_LIFE_SECONDS)
    if not LEAST_LIFE_SECONDS <= expires_at - unit.now <= MOST_LIFE_SECONDS:
        raise invalid(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.",
            param="expires_at",
        )
    params["metadata"] = merged_metadata({}, params.get("metadata"))
    if setup:
        return _opened(unit, _setup(unit, params, expires_at))
    if "setup_intent_data" in params:
        raise invalid("You can not pass `setup_intent_data` in `payment` mode.", param="setup_intent_data")
    currency = _currency(params["line_items"])
    items = [_line_item(unit, item, currency, index) for index, item in enumerate(params["line_items"])]
    total = sum(item["amount_total"] for item in items)
    _check_total(total, currency)
    data = params.setdefault("payment_intent_data", {})
    data["metadata"] = merged_metadata({}, data.get("metadata"))
    session = objects.checkout_session(unit, params, currency, total, expires_at)
    session["_line_items"] = items
    return _opened(unit, session)


def _setup(unit: Unit, params: Json, expires_at: int) -> Json:
    for name in ("line_items", "payment_intent_data", "submit_type"):
        if name in params:
            raise invalid(f"You can not pass `{name}` in `setup` mode.", param=name)
    allowed = params.get("allowed_payment_method_types")
    if allowed is None and "currency" not in params:
        raise _missing("currency")
    if allowed is not None and allowed != ["card"]:
        raise not_modeled("other methods than cards in setup mode", param="allowed_payment_method_types")
    data = params.setdefault("setup_intent_data", {})
    data["metadata"] = merged_metadata({}, data.get("metadata"))
    currency = money.checked_currency(params["currency"]) if "currency" in params else None
    return setup_sessions.session(unit, params, currency, expires_at)


def _opened(unit: Unit, session: Json) -> Json:
    unit.set_timer("expire_session", session["id"], due=session["expires_at"])
    return unit.put("checkout.session", session)


def expire(unit: Unit, _: Json, ident: str) -> Json:
    """Ends an open session."""
    return sessions.expire(unit, unit.need("checkout.session", ident, param="session"))


def line_items(unit: Unit, params: Json, ident: str) -> Json:
    """What is being bought."""
    session = unit.need("checkout.session", ident, param="session")
    return page(session["_line_items"], params, f"{_PATH}/{ident}/line_items", "item")


def _missing(name: str) -> Exception:
    return invalid(f"Missing required param: {name}.", param=name, code="parameter_missing")


def _currency(items: list[Json]) -> str:
    for index, item in enumerate(items):
        if "price_data" not in item:
            raise invalid(
                "You must specify either `price` or `price_data` when using prices.", param=f"line_items[{index}]"
            )
    named = {
        money.checked_currency(item["price_data"]["currency"], f"line_items[{index}][price_data][currency]")
        for index, item in enumerate(items)
    }
    if len(named) > 1:
        raise invalid("All prices on a Checkout session must be expressed in the same currency.", param="line_items")
    return named.pop()


def _line_item(unit: Unit, item: Json, currency: str, index: int) -> Json:
    where = f"line_items[{index}]"
    data = item["price_data"]
    for name in ("unit_amount", "product_data"):
        if name not in data:
            raise _missing(f"{where}[price_data][{name}]")
    if data["unit_amount"] < 0:
        raise invalid("Invalid non-negative integer", param=f"{where}[price_data][unit_amount]")
    if "quantity" not in item:
        raise _missing(f"{where}[quantity]")
    if item["quantity"] < 1:
        raise invalid("This value must be greater than or equal to 1.", param=f"{where}[quantity]")
    return objects.line_item(unit, item, currency)


def _check_total(total_minor: int, currency: str) -> None:
    least = money.LEAST_AMOUNT_MINOR.get(currency, 50)
    if total_minor < least:
        raise invalid(
            f"The Checkout Session's total amount due must add up to at least {money.display(least, currency)} {currency}",
            code="amount_too_small",
        )
    money.check_amount(total_minor, currency, "line_items")


_PATH = "/v1/checkout/sessions"
_LINE_ITEM = {
    "quantity": None,
    "price_data": {"currency": None, "unit_amount": None, "product_data": {"name": None, "description": None}},
}
_INTENT_DATA = dict.fromkeys(
    (
        "capture_method",
        "description",
        "metadata",
        "receipt_email",
        "setup_future_usage",
        "statement_descriptor_suffix",
        "transfer_group",
    )
)
ROUTES = (
    Route(
        "POST", _PATH, checkout.SessionCreateParams,
        taking(
            "mode", "success_url", "cancel_url", "metadata", "client_reference_id", "customer", "customer_creation",
            "customer_email",
            "expires_at", "locale", "allowed_payment_method_types", "submit_type", "ui_mode", "origin_context",
            "currency", line_items=_LINE_ITEM, payment_intent_data=_INTENT_DATA,
            setup_intent_data={"description": None, "metadata": None},
        ),
        create,
    ),
    Route("POST", f"{_PATH}/{{id}}/expire", checkout.SessionExpireParams, taking(), expire),
    Route(
        "GET", f"{_PATH}/{{id}}/line_items", checkout.SessionListLineItemsParams,
        taking("limit", "starting_after", "ending_before"), line_items,
    ),
    retrieving("checkout.session", _PATH, checkout.SessionRetrieveParams, param="session"),
    listing("checkout.session", _PATH, checkout.SessionListParams, "customer", "payment_intent", "status"),
)  # fmt: skip
