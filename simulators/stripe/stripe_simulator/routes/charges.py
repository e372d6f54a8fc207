"""Charges and balance transactions over HTTP: reading only, for PaymentIntents and refunds make them."""

from stripe import params as shapes

from ..errors import Json
from .table import listing, retrieving

ROUTES = (
    retrieving("charge", "/v1/charges", shapes.ChargeRetrieveParams),
    listing("charge", "/v1/charges", shapes.ChargeListParams, "customer", "payment_intent"),
    retrieving("balance_transaction", "/v1/balance_transactions", shapes.BalanceTransactionRetrieveParams),
    listing(
        "balance_transaction",
        "/v1/balance_transactions",
        shapes.BalanceTransactionListParams,
        "currency",
        "source",
        "type",
    ),
)


def as_of(row: Json, now: int) -> Json:
    """A balance transaction as it is shown at `now`: pending until its money is available."""
    return row | {"status": "available" if now >= row["available_on"] else "pending"}
