"""Billing: orders and payments, the ledger, refunds and disputes, the treasury, subscriptions, dividends."""
