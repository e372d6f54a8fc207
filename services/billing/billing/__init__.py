"""Billing: orders and their payments. The ledger, refunds on request, payouts and dividends are not here yet."""
