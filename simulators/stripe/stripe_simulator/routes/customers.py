"""Customers and their saved payment methods over HTTP. Leaves out taxes, credit balances and sources."""

from stripe import params as shapes

from .. import customers, payment_methods
from ..errors import Json, missing
from ..unit import Unit
from .table import Route, listing, merged_metadata, page, taking


def create(unit: Unit, params: Json, _: str) -> Json:
    """A new customer, also with a first payment method."""
    params["metadata"] = merged_metadata({}, params.get("metadata"))
    made = unit.put("customer", customers.customer(unit, params))
    if "payment_method" in params:
        payment_methods.attach(unit, payment_methods.named(unit, params["payment_method"]), made["id"])
    customers.set_preferences(unit, made, params.get("invoice_settings") or {})
    unit.emit("customer.created", made)
    return made


def update(unit: Unit, params: Json, ident: str) -> Json:
    """Changes what is known of a customer; an empty value unsets it."""
    customer = need(unit, ident)
    before = {name: customer[name] for name in _DESCRIBING if name in params}
    for name in before:
        customer[name] = params[name] or None
    customer["metadata"] = merged_metadata(customer["metadata"], params.get("metadata"))
    customers.set_preferences(unit, customer, params.get("invoice_settings") or {})
    unit.put("customer", customer)
    unit.emit("customer.updated", customer, previous=before)
    return customer


def retrieve(unit: Unit, _: Json, ident: str) -> Json:
    """One customer; of a deleted one only that they are."""
    return unit.find("deleted_customer", ident) or need(unit, ident)


def delete(unit: Unit, _: Json, ident: str) -> Json:
    """Ends a customer for good."""
    return customers.delete(unit, need(unit, ident))


def methods_of(unit: Unit, params: Json, ident: str) -> Json:
    """The payment methods kept for one customer, newest first."""
    need(unit, ident)
    return _methods(unit, params, ident, f"{_PATH}/{ident}/payment_methods")


def method_of(unit: Unit, _: Json, ident: str) -> Json:
    """One payment method of one customer."""
    customer, name = ident.split("/")
    need(unit, customer)
    found = unit.need("payment_method", name, param="payment_method")
    if found["customer"] != customer:
        raise missing("payment_method", name, param="payment_method")
    return found


def methods(unit: Unit, params: Json, _: str) -> Json:
    """The payment methods kept for the customer that the parameters name."""
    if "customer" not in params:
        return page([], params, _METHODS, "payment_method")
    unit.need("customer", params["customer"], param="customer", status=400)
    return _methods(unit, params, params["customer"], _METHODS)


def method(unit: Unit, _: Json, ident: str) -> Json:
    """One payment method."""
    return unit.need("payment_method", ident, param="payment_method")


def attach(unit: Unit, params: Json, ident: str) -> Json:
    """Keeps a method, or a new one of a test token, for a customer."""
    found = payment_methods.named(unit, ident, status=404)
    if "customer" not in params:
        raise missing("customer", "", param="customer", status=400)
    owner = unit.need("customer", params["customer"], param="customer", status=400)
    return payment_methods.attach(unit, found, owner["id"])


def detach(unit: Unit, _: Json, ident: str) -> Json:
    """Gives a method up for good."""
    return payment_methods.detach(unit, unit.need("payment_method", ident, param="payment_method"))


def change(unit: Unit, params: Json, ident: str) -> Json:
    """Changes what describes a method."""
    found = unit.need("payment_method", ident, param="payment_method")
    found["metadata"] = merged_metadata(found["metadata"], params.get("metadata"))
    found["billing_details"] = {**found["billing_details"], **(params.get("billing_details") or {})}
    unit.put("payment_method", found)
    unit.emit("payment_method.updated", found)
    return found


def need(unit: Unit, ident: str) -> Json:
    """The customer that the path names."""
    return unit.need("customer", ident)


def _methods(unit: Unit, params: Json, customer: str, url: str) -> Json:
    wanted = [
        row
        for row in unit.rows("payment_method")
        if row["customer"] == customer and params.get("type", row["type"]) == row["type"]
    ]
    return page(wanted[::-1], params, url, "payment_method")


_PATH, _METHODS = "/v1/customers", "/v1/payment_methods"
_DESCRIBING = ("address", "description", "email", "name", "phone", "preferred_locales")
_SETTINGS = {"default_payment_method": None}
_PAGED = taking("limit", "starting_after", "ending_before", "type")
ROUTES = (
    Route(
        "POST", _PATH, shapes.CustomerCreateParams,
        taking(*_DESCRIBING, "metadata", "payment_method", invoice_settings=_SETTINGS), create,
    ),
    Route(
        "POST", f"{_PATH}/{{id}}", shapes.CustomerUpdateParams,
        taking(*_DESCRIBING, "metadata", invoice_settings=_SETTINGS), update,
    ),
    Route("GET", f"{_PATH}/{{id}}", shapes.CustomerRetrieveParams, taking(), retrieve),
    Route("DELETE", f"{_PATH}/{{id}}", shapes.CustomerDeleteParams, taking(), delete),
    listing("customer", _PATH, shapes.CustomerListParams, "email"),
    Route("GET", f"{_PATH}/{{id}}/payment_methods", shapes.CustomerPaymentMethodListParams, _PAGED, methods_of),
    Route(
        "GET", f"{_PATH}/{{id}}/payment_methods/{{id}}", shapes.CustomerPaymentMethodRetrieveParams, taking(), method_of
    ),
    Route("GET", _METHODS, shapes.PaymentMethodListParams, {**_PAGED, "customer": None}, methods),
    Route("GET", f"{_METHODS}/{{id}}", shapes.PaymentMethodRetrieveParams, taking(), method),
    Route(
        "POST", f"{_METHODS}/{{id}}", shapes.PaymentMethodUpdateParams, taking("billing_details", "metadata"), change
    ),
    Route("POST", f"{_METHODS}/{{id}}/attach", shapes.PaymentMethodAttachParams, taking("customer"), attach),
    Route("POST", f"{_METHODS}/{{id}}/detach", shapes.PaymentMethodDetachParams, taking(), detach),
)  # fmt: skip
