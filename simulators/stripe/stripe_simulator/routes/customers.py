"""Customers over HTTP: made and read. Leaves out their payment methods, taxes and balances."""

from stripe import params as shapes

from .. import objects
from ..errors import Json
from ..unit import Unit
from .table import Route, merged_metadata, retrieving, taking


def create(unit: Unit, params: Json, _: str) -> Json:
    """A new customer."""
    params["metadata"] = merged_metadata({}, params.get("metadata"))
    made = unit.put("customer", objects.customer(unit, params))
    unit.emit("customer.created", made)
    return made


_PATH = "/v1/customers"
_TAKEN = taking("address", "description", "email", "metadata", "name", "phone", "preferred_locales")
ROUTES = (
    Route("POST", _PATH, shapes.CustomerCreateParams, _TAKEN, create),
    retrieving("customer", _PATH, shapes.CustomerRetrieveParams),
)
