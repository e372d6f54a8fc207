"""Money comes in: orders are paid, Stripe lets us use it, and what pays nothing waits."""

from __future__ import annotations

import datetime as dt

from billing.domain.ledger import PLATFORM, Journal, lines
from billing.domain.postings.facts import Movement, Sale, moved_journals
from rochdale.type.v1.money_pb2 import Money


def charge(sale: Sale, charge_id: str, transaction: str, processing_minor: int, at: dt.datetime) -> list[Journal]:
    """A card paid an order. Stripe keeps its fee before the money is ours."""
    return [
        Journal(
            PLATFORM,
            "charge",
            f"charge:{charge_id}",
            sale.currency,
            lines(
                ("stripe:pending", sale.gross_minor - processing_minor),
                ("processing_fees", processing_minor),
                *_earned(sale),
            ),
            at,
            transaction,
        )
    ]


def exchanged_charge(
    sale: Sale,
    charge_id: str,
    transaction: str,
    brought_minor: int,
    processing_minor: int,
    brought_currency: str,
    at: dt.datetime,
) -> list[Journal]:
    """A card paid an order, and Stripe keeps the money in another currency. What is owed stays in the order's own; the
    exchange account of each currency shows what became of which, by the transaction's rate."""
    return [
        Journal(
            PLATFORM,
            "charge",
            f"charge:{charge_id}",
            sale.currency,
            lines(("fx", sale.gross_minor), *_earned(sale)),
            at,
        ),
        Journal(
            PLATFORM,
            "charge_exchanged",
            f"exchange:{charge_id}",
            brought_currency,
            lines(
                ("stripe:pending", brought_minor - processing_minor),
                ("processing_fees", processing_minor),
                ("fx", -brought_minor),
            ),
            at,
            transaction,
        ),
    ]


def bank_payment(sale: Sale, bank_reference: str, at: dt.datetime) -> list[Journal]:
    """A bank transfer paid an order."""
    return [
        Journal(
            PLATFORM,
            "bank_payment",
            f"order:{sale.order_id}",
            sale.currency,
            lines(("bank", sale.gross_minor), *_earned(sale)),
            at,
            bank_reference,
        )
    ]


def _earned(sale: Sale) -> list[tuple[str, int]]:
    return [
        (f"coop:{sale.cooperative}:pending", -sale.share_minor),
        ("fee_revenue", -sale.fee_minor),
        ("tax:payable", -sale.tax_minor),
    ]


def available(transaction: str, net_minor: int, currency: str, at: dt.datetime) -> list[Journal]:
    """Stripe lets us use what a balance transaction brought."""
    return [
        Journal(
            PLATFORM,
            "available",
            f"available:{transaction}",
            currency,
            lines(("stripe:available", net_minor), ("stripe:pending", -net_minor)),
            at,
        )
    ]


def unexpected_charge(
    charge_id: str, transaction: str, gross_minor: int, processing_minor: int, currency: str, at: dt.datetime
) -> list[Journal]:
    """A card brought money that pays no order. It waits in suspense and goes back."""
    return [
        Journal(
            PLATFORM,
            "unexpected_charge",
            f"charge:{charge_id}",
            currency,
            lines(
                ("stripe:pending", gross_minor - processing_minor),
                ("processing_fees", processing_minor),
                ("suspense", -gross_minor),
            ),
            at,
            transaction,
        )
    ]


def unexpected_charge_returned(refund_id: str, waited: Money, moved: Movement, at: dt.datetime) -> list[Journal]:
    """What waited in suspense went back to its card. What the rail kept in another currency than was charged goes back at
    another rate than it came; the difference is exchange."""
    return moved_journals(
        "unexpected_charge_returned",
        f"refund:{refund_id}",
        ("suspense", waited.amount_minor),
        waited.currency,
        moved,
        at,
    )


def unmatched_transfer(bank_reference: str, amount_minor: int, currency: str, at: dt.datetime) -> list[Journal]:
    """A credit at the bank that pays no order."""
    return [
        Journal(
            PLATFORM,
            "unmatched_transfer",
            f"bank:{bank_reference}",
            currency,
            lines(("bank", amount_minor), ("suspense", -amount_minor)),
            at,
            bank_reference,
        )
    ]


def matched_from_suspense(sale: Sale, bank_reference: str, at: dt.datetime) -> list[Journal]:
    """A credit that waited in suspense pays an order after all."""
    return [
        Journal(
            PLATFORM,
            "matched_from_suspense",
            f"order:{sale.order_id}",
            sale.currency,
            lines(("suspense", sale.gross_minor), *_earned(sale)),
            at,
        )
    ]


def swept(transaction: str, net_minor: int, currency: str, at: dt.datetime) -> list[Journal]:
    """Stripe paid the market's own balance to its bank (net_minor below zero), or got money from there."""
    parts = lines(("stripe:available", net_minor), ("bank", -net_minor))
    return [Journal(PLATFORM, "swept", f"swept:{transaction}", currency, parts, at, transaction)]


def stripe_fee(transaction: str, net_minor: int, currency: str, at: dt.datetime) -> list[Journal]:
    """Stripe took a fee that belongs to no charge (net_minor below zero), or gave one back."""
    parts = lines(("stripe:available", net_minor), ("processing_fees", -net_minor))
    return [Journal(PLATFORM, "stripe_fee", f"stripe_fee:{transaction}", currency, parts, at, transaction)]
