"""Every endpoint of the API that exists here; what is not in the table answers "Unrecognized request URL"."""

from . import (
    accounts,
    balance,
    charges,
    checkout,
    customers,
    disputes,
    events,
    payment_intents,
    payouts,
    refunds,
    setup_intents,
    transfers,
    webhook_endpoints,
)
from .table import Route

ROUTES: tuple[Route, ...] = (
    *payment_intents.ROUTES,
    *charges.ROUTES,
    *refunds.ROUTES,
    *customers.ROUTES,
    *setup_intents.ROUTES,
    *disputes.ROUTES,
    *checkout.ROUTES,
    *events.ROUTES,
    *webhook_endpoints.ROUTES,
    *accounts.ROUTES,
    *transfers.ROUTES,
    *payouts.ROUTES,
    *balance.ROUTES,
)
