"""What buyers save to be charged with later, and the pages on which they save it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale_kit.refusals import Kind, Refusal


@dataclass(frozen=True)
class SavedMethod:
    """A payment method as the rail knows it. `customer_id` is the rail's id of the organization."""

    method_id: str
    customer_id: str
    organization: str
    type: str
    label: str
    expire_month: str


@dataclass(frozen=True)
class Setup:
    """A page on which a buyer saves one. Every parameter the rail is asked with is written down here first."""

    id: str
    organization: str
    request_id: str
    success_url: str
    cancel_url: str
    create_time: dt.datetime
    session_id: str = ""
    url: str = ""

    @property
    def idempotency_key(self) -> str:
        """Under which the rail is asked for the page, however often."""
        return f"setup:{self.id}"


def resource(organization: str, method: SavedMethod | None, setup_url: str = "") -> pb.SavedPaymentMethod:
    """As the contract shows it; with no type when none is saved."""
    name = f"organizations/{organization}/paymentMethod"
    if method is None:
        return pb.SavedPaymentMethod(name=name, setup_url=setup_url)
    return pb.SavedPaymentMethod(
        name=name, type=method.type, label=method.label, expire_month=method.expire_month, setup_url=setup_url
    )


def missing(organization: str) -> Refusal:
    return Refusal(
        "PAYMENT_METHOD_MISSING",
        f"organizations/{organization} has saved no payment method.",
        Kind.STATE,
        organization=f"organizations/{organization}",
    )


def rail_unavailable(enabled: bool) -> Refusal:
    return Refusal(
        "RAIL_UNAVAILABLE",
        "Stripe does not answer; try again." if enabled else "Cards are not accepted here.",
        Kind.UNAVAILABLE if enabled else Kind.STATE,
        rail="stripe",
    )
