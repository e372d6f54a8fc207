"""Transfers and their reversals over HTTP. Leaves out how the money moves."""

from stripe import params as shapes

from .. import money, transfers
from ..errors import Json, invalid, missing, not_modeled
from ..unit import Unit
from .table import Route, listing, merged_metadata, page, retrieving, taking


def create(unit: Unit, params: Json, _: str) -> Json:
    """A new transfer."""
    currency = money.checked_currency(params["currency"])
    if "amount" not in params:
        raise invalid("Missing required param: amount.", param="amount", code="parameter_missing")
    if params["amount"] < 1:
        raise invalid(
            "This value must be greater than or equal to 1.", param="amount", code="parameter_invalid_integer"
        )
    if params.get("source_type", "card") != "card":
        raise not_modeled("balances by source type", param="source_type")
    params["metadata"] = merged_metadata({}, params.get("metadata"))
    return transfers.send(unit, params["amount"], currency, params)


def update(unit: Unit, params: Json, ident: str) -> Json:
    """Changes what describes a transfer."""
    transfer = unit.need("transfer", ident)
    if "description" in params:
        transfer["description"] = params["description"] or None
    transfer["metadata"] = merged_metadata(transfer["metadata"], params.get("metadata"))
    unit.put("transfer", transfer)
    unit.emit("transfer.updated", transfer)
    return transfer


def reverse(unit: Unit, params: Json, ident: str) -> Json:
    """Takes back a transfer, or a part of it."""
    metadata = merged_metadata({}, params.get("metadata"))
    return transfers.take_back(unit, unit.need("transfer", ident), params.get("amount"), metadata)


def reversals(unit: Unit, params: Json, ident: str) -> Json:
    """The reversals of one transfer, newest first."""
    rows = unit.need("transfer", ident)["reversals"]["data"]
    return page(rows, params, f"{_PATH}/{ident}/reversals", "transfer_reversal")


def reversal(unit: Unit, _: Json, ident: str) -> Json:
    """One reversal of one transfer."""
    transfer, name = ident.split("/")
    found = unit.need("transfer_reversal", name)
    if found["transfer"] != transfer:
        raise missing("transfer_reversal", name, param="id")
    return found


_PATH = "/v1/transfers"
ROUTES = (
    Route(
        "POST", _PATH, shapes.TransferCreateParams,
        taking(
            "amount", "currency", "description", "destination", "metadata", "source_transaction", "source_type",
            "transfer_group",
        ),
        create,
    ),
    Route("POST", f"{_PATH}/{{id}}", shapes.TransferUpdateParams, taking("description", "metadata"), update),
    retrieving("transfer", _PATH, shapes.TransferRetrieveParams),
    listing("transfer", _PATH, shapes.TransferListParams, "destination", "transfer_group"),
    Route(
        "POST", f"{_PATH}/{{id}}/reversals", shapes.TransferReversalCreateParams, taking("amount", "metadata"), reverse
    ),
    Route(
        "GET", f"{_PATH}/{{id}}/reversals", shapes.TransferReversalListParams,
        taking("limit", "starting_after", "ending_before"), reversals,
    ),
    Route("GET", f"{_PATH}/{{id}}/reversals/{{id}}", shapes.TransferReversalRetrieveParams, taking(), reversal),
)  # fmt: skip
