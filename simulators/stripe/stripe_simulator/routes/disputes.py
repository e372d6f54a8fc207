"""Disputes over HTTP. Leaves out how they begin and what a bank decides."""

from stripe import params as shapes

from .. import disputes
from ..errors import Json
from ..unit import Unit
from .table import Route, listing, merged_metadata, retrieving, taking


def update(unit: Unit, params: Json, ident: str) -> Json:
    """Evidence, sent to the bank unless `submit` is false, and metadata."""
    dispute = unit.need("dispute", ident, param="dispute")
    if "metadata" in params:
        dispute["metadata"] = merged_metadata(dispute["metadata"], params["metadata"])
        unit.put("dispute", dispute)
    submit = params.get("submit", "evidence" in params)
    if "evidence" in params or submit:
        return disputes.answer(unit, dispute, params.get("evidence") or {}, submit=submit)
    unit.emit("charge.dispute.updated", dispute)
    return dispute


def close(unit: Unit, _: Json, ident: str) -> Json:
    """Accepts that the money is lost."""
    return disputes.give_up(unit, unit.need("dispute", ident, param="dispute"))


_PATH = "/v1/disputes"
_EVIDENCE = dict.fromkeys(disputes.EVIDENCE_TEXTS)
ROUTES = (
    Route(
        "POST", f"{_PATH}/{{id}}", shapes.DisputeUpdateParams,
        taking("metadata", "submit", evidence=_EVIDENCE), update,
    ),
    Route("POST", f"{_PATH}/{{id}}/close", shapes.DisputeCloseParams, taking(), close),
    retrieving("dispute", _PATH, shapes.DisputeRetrieveParams, param="dispute"),
    listing("dispute", _PATH, shapes.DisputeListParams, "charge", "payment_intent"),
)  # fmt: skip
