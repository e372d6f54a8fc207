"""Billing's tables and the only queries on them, one file a noun."""

from billing.store import (
    dividend_inputs,
    dividend_lines,
    dividend_policies,
    dividend_runs,
    invoices,
    journals,
    ledger,
    members,
    orders,
    payees,
    payments,
    shares,
    standings,
    transfers,
    webhooks,
    weights,
)

__all__ = [
    "dividend_inputs",
    "dividend_lines",
    "dividend_policies",
    "dividend_runs",
    "invoices",
    "journals",
    "ledger",
    "members",
    "orders",
    "payees",
    "payments",
    "shares",
    "standings",
    "transfers",
    "webhooks",
    "weights",
]
