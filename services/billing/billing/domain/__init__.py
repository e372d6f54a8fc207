"""What an order and a payment are, and when the answer is no. No clock, no ids, no connection."""

from billing.domain import orders, payments

__all__ = ["orders", "payments"]
