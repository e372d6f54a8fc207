"""Charges and balance transactions over HTTP: reading only, for payments, refunds and transfers make them."""

from stripe import params as shapes

from ..errors import Json, invalid
from ..unit import Unit
from .table import Route, listing, retrieving

_MOVED = "/v1/balance_transactions"


def _in_payout(row: Json, params: Json) -> bool:
    return "payout" not in params or row.get("_payout") == params["payout"]


_listed = listing(
    "balance_transaction", _MOVED, shapes.BalanceTransactionListParams, "currency", "source", "type",
    keep=_in_payout, also=("payout",),
)  # fmt: skip


def moved(unit: Unit, params: Json, ident: str) -> Json:
    """Balance transactions; with `payout`, those that an automatic payout was made of, and its own."""
    if "payout" in params:
        payout = unit.need("payout", params["payout"], param="payout", status=400)
        if not payout["automatic"]:
            raise invalid(
                "Balance transaction history can only be filtered on automatic transfers, not manual.", param="payout"
            )
    return _listed.handler(unit, params, ident)


ROUTES = (
    retrieving("charge", "/v1/charges", shapes.ChargeRetrieveParams, connected=True),
    listing(
        "charge", "/v1/charges", shapes.ChargeListParams, "customer", "payment_intent", "transfer_group", connected=True
    ),
    retrieving("balance_transaction", _MOVED, shapes.BalanceTransactionRetrieveParams, connected=True),
    Route("GET", _MOVED, shapes.BalanceTransactionListParams, _listed.modeled, moved, connected=True),
)


def as_of(row: Json, now: int) -> Json:
    """A balance transaction as it is shown at `now`: pending until its money is available."""
    return row | {"status": "available" if now >= row["available_on"] else "pending"}
