"""Invoices and credit notes: their numbers and all that they show. How they look is in documents.py."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from billing.domain.orders import Order
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp

# What a credit note is for, when it is no refund.
CANCELED = "canceled"


@dataclass(frozen=True)
class Invoice:
    """A numbered document. `content` is canonical JSON of all it shows; its PDF is made of that and of nothing else.

    `cause` of a credit note: a refund's id, or CANCELED. Numbers of a seller count from 1 without gaps, and go on over
    the years, whose digits only help people.
    """

    id: str
    order_id: str
    seller: str
    position: int
    kind: pb.InvoiceKind.ValueType
    cause: str
    issue_time: dt.datetime
    amount: Money
    content: str
    pdf_hash: str

    @property
    def name(self) -> str:
        return f"orders/{self.order_id}/invoices/{self.id}"

    @property
    def number(self) -> str:
        return number_of(self.seller, self.position, self.issue_time)

    def resource(self, pdf: bytes = b"") -> pb.Invoice:
        return pb.Invoice(
            name=self.name,
            kind=self.kind,
            number=self.number,
            issue_time=to_timestamp(self.issue_time),
            amount=self.amount,
            pdf_hash=self.pdf_hash,
            pdf=pdf,
        )


def number_of(seller: str, position: int, issue_time: dt.datetime) -> str:
    """Such as valley-health-2026-000017."""
    return f"{seller}-{issue_time.year}-{position:06d}"


def invoice_content(order: Order, number: str, issue_time: dt.datetime) -> str:
    """All that the invoice of an order shows."""
    return _json(
        {
            "kind": "invoice",
            "lines": [
                {
                    "description": line.description,
                    "quantity": line.quantity,
                    "unit_price": line.unit_price,
                    "amount_minor": line.amount.amount_minor,
                }
                for line in order.lines
            ],
            "taxes": [
                {
                    "label": line.label,
                    "rate": line.rate,
                    "base_minor": line.base.amount_minor,
                    "amount_minor": line.amount.amount_minor,
                    "note": line.note,
                }
                for line in order.tax_lines
            ],
            "net_minor": order.net.amount_minor,
            "total_minor": order.amount.amount_minor,
            "due_time": _time(order.due_time),
            "pay_time": _time(order.pay_time),
            **_common(order, number, issue_time),
        }
    )


def credit_content(
    order: Order, number: str, issue_time: dt.datetime, amount_minor: int, tax_minor: int, reason: str
) -> str:
    """All that a credit note about an order's invoice shows. tax_minor is part of amount_minor."""
    return _json(
        {
            "kind": "credit note",
            "invoice": order.invoice_number,
            "reason": reason,
            "net_minor": amount_minor - tax_minor,
            "tax_minor": tax_minor,
            "total_minor": amount_minor,
            **_common(order, number, issue_time),
        }
    )


def _common(order: Order, number: str, issue_time: dt.datetime) -> dict[str, Any]:
    return {
        "number": number,
        "issue_time": _time(issue_time),
        "seller": f"cooperatives/{order.seller}",
        "buyer": f"organizations/{order.buyer}",
        "order": order.name,
        "license": order.license,
        "period_start_time": _time(order.period_start_time),
        "period_end_time": _time(order.period_end_time),
        "currency": order.amount.currency,
        "payment_reference": order.payment_reference,
        "terms_hash": order.terms_hash,
        "quote_hash": order.quote_hash,
    }


def _time(at: dt.datetime | None) -> str:
    """In UTC, whole seconds; empty for none."""
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at is not None else ""


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
