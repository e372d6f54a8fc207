"""Refunds over HTTP. Leaves out how money goes back."""

from stripe import params as shapes

from .. import refunds
from ..errors import Json, invalid
from ..unit import Unit
from .table import Route, listing, merged_metadata, retrieving, taking


def create(unit: Unit, params: Json, _: str) -> Json:
    """Refunds a charge, named itself or by its PaymentIntent."""
    if ("charge" in params) == ("payment_intent" in params):
        raise invalid(
            "One of the following params should be provided for this request: payment_intent or charge."
            if "charge" not in params
            else "You may only specify one of these parameters: charge, payment_intent."
        )
    params["metadata"] = merged_metadata({}, params.get("metadata"))
    charge_id = params.get("charge")
    if charge_id is None:
        ident = params["payment_intent"]
        intent = unit.need("payment_intent", ident, param="payment_intent", status=400)
        if intent["status"] != "succeeded":
            raise invalid(f"This PaymentIntent ({ident}) does not have a successful charge to refund.")
        charge_id = intent["latest_charge"]
    paid = unit.need("charge", charge_id, param="charge", status=400)
    return refunds.give_back(unit, paid, params.get("amount"), params)


def update(unit: Unit, params: Json, ident: str) -> Json:
    """Changes a refund's metadata, which is all that can be changed."""
    given = unit.need("refund", ident)
    given["metadata"] = merged_metadata(given["metadata"], params.get("metadata"))
    unit.put("refund", given)
    unit.emit("refund.updated", given)
    return given


ROUTES = (
    Route("POST", "/v1/refunds/{id}", shapes.RefundUpdateParams, taking("metadata"), update),
    Route(
        "POST",
        "/v1/refunds",
        shapes.RefundCreateParams,
        taking("amount", "charge", "payment_intent", "reason", "metadata"),
        create,
    ),
    retrieving("refund", "/v1/refunds", shapes.RefundRetrieveParams),
    listing("refund", "/v1/refunds", shapes.RefundListParams, "charge", "payment_intent"),
)
