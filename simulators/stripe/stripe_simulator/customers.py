"""Customers: their shape, what they prefer, and their end. Leaves out the methods they pay with."""

from . import payment_methods
from .errors import Json, invalid
from .unit import Unit


def customer(unit: Unit, params: Json) -> Json:
    """A Customer without payment methods."""
    return {
        "id": unit.new_id("cus"),
        "object": "customer",
        "address": params.get("address"),
        "balance": 0,
        "business_name": None,
        "created": unit.now,
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": params.get("description"),
        "discount": None,
        "email": params.get("email"),
        "individual_name": None,
        "invoice_prefix": None,
        "invoice_settings": {
            "custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None,
        },
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "name": params.get("name"),
        "next_invoice_sequence": 1,
        "phone": params.get("phone"),
        "preferred_locales": params.get("preferred_locales") or [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }  # fmt: skip


def set_preferences(unit: Unit, customer: Json, settings: Json) -> None:
    """Sets `invoice_settings`; the default method has to be the customer's own."""
    if "default_payment_method" in settings:
        name = settings["default_payment_method"] or None
        method = unit.find("payment_method", name) if name else None
        if name and (method is None or method["customer"] != customer["id"]):
            raise invalid(
                f"The customer does not have a payment method with the ID {name}. The payment method must be attached"
                " to the customer.",
                param="invoice_settings[default_payment_method]",
                code="resource_missing",
            )
        customer["invoice_settings"]["default_payment_method"] = name


def delete(unit: Unit, customer: Json) -> Json:
    """Forgets a customer and gives up their methods; only the fact that they were one stays readable."""
    for method in list(unit.rows_now("payment_method")):
        if method["customer"] == customer["id"]:
            payment_methods.detach(unit, unit.need("payment_method", method["id"]))
    unit.delete("customer", customer["id"])
    unit.emit("customer.deleted", customer)
    return unit.put("deleted_customer", {"id": customer["id"], "object": "customer", "deleted": True})
