"""Payouts over HTTP, of the platform or of a connected account. Leaves out how they travel."""

from stripe import params as shapes

from .. import money, payouts
from ..errors import Json, invalid, not_modeled
from ..unit import Unit
from .table import Route, listing, merged_metadata, retrieving, taking, time_fits


def create(unit: Unit, params: Json, _: str) -> Json:
    """A payout by hand."""
    currency = money.checked_currency(params["currency"])
    if params["amount"] < 1:
        raise invalid(
            "This value must be greater than or equal to 1.", param="amount", code="parameter_invalid_integer"
        )
    if params.get("method", "standard") != "standard":
        raise not_modeled("instant payouts", param="method")
    if params.get("source_type", "card") != "card":
        raise not_modeled("balances by source type", param="source_type")
    params["metadata"] = merged_metadata({}, params.get("metadata"))
    return payouts.send(unit, params["amount"], currency, params)


def update(unit: Unit, params: Json, ident: str) -> Json:
    """Changes a payout's metadata."""
    payout = unit.need("payout", ident)
    payout["metadata"] = merged_metadata(payout["metadata"], params.get("metadata"))
    unit.put("payout", payout)
    unit.emit("payout.updated", payout)
    return payout


def cancel(unit: Unit, _: Json, ident: str) -> Json:
    """Stops a payout that has not left."""
    return payouts.cancel(unit, unit.need("payout", ident))


def _arrives(row: Json, params: Json) -> bool:
    return time_fits(row["arrival_date"], params.get("arrival_date"))


_PATH = "/v1/payouts"
ROUTES = (
    Route(
        "POST", _PATH, shapes.PayoutCreateParams,
        taking(
            "amount", "currency", "description", "destination", "metadata", "method", "source_type",
            "statement_descriptor",
        ),
        create, connected=True,
    ),
    Route("POST", f"{_PATH}/{{id}}", shapes.PayoutUpdateParams, taking("metadata"), update, connected=True),
    Route("POST", f"{_PATH}/{{id}}/cancel", shapes.PayoutCancelParams, taking(), cancel, connected=True),
    retrieving("payout", _PATH, shapes.PayoutRetrieveParams, connected=True),
    listing(
        "payout", _PATH, shapes.PayoutListParams, "status", "destination",
        keep=_arrives, also=("arrival_date",), connected=True,
    ),
)  # fmt: skip
