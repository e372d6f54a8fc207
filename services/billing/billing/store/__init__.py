"""Billing's tables and the only queries on them, one file a noun."""

from billing.store import journals, ledger, orders, payments, standings, webhooks

__all__ = ["journals", "ledger", "orders", "payments", "standings", "webhooks"]
