"""A stateful stand-in for Stripe's HTTP API, for laptops, tests and faults."""

from .simulator import StripeSimulator

__all__ = ["StripeSimulator"]
