"""Billing's tables and the only queries on them, one file a noun."""

from billing.store import orders, payments, webhooks

__all__ = ["orders", "payments", "webhooks"]
