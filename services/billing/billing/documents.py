"""Invoices and credit notes as PDF: one content, one sequence of bytes. What is in them is in domain/invoices.py.

A sign the font cannot show becomes "?" here; the content itself keeps every sign.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from reportlab.lib import colors
from reportlab.lib.units import mm
from reportlab.platypus import Spacer, Table

from billing.pdf import WIDTH, a4, pairs, text
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import format_money


def pdf_of(content: str) -> bytes:
    """The document of a content (domain/invoices.py). The same content gives the same bytes."""
    facts: dict[str, Any] = json.loads(content)
    title = "Credit note" if facts["kind"] == "credit note" else "Invoice"
    parts = [
        text(f"{title} {facts['number']}", bold=True, size=16),
        Spacer(1, 6 * mm),
        pairs(_who(facts)),
        Spacer(1, 6 * mm),
        _amounts(facts),
        Spacer(1, 4 * mm),
        *(text(f"{tax['label']}: {tax['note']}") for tax in facts.get("taxes", ()) if tax["note"]),
        Spacer(1, 4 * mm),
        pairs(_proof(facts), size=7),
    ]
    return a4(f"{title} {facts['number']}", facts["seller"], parts)


def _who(facts: dict[str, Any]) -> list[tuple[str, str]]:
    period = f"{facts['period_start_time']} to {facts['period_end_time']}" if facts["period_start_time"] else ""
    found = [
        ("Seller", facts["seller"]),
        ("Buyer", facts["buyer"]),
        ("Issued", facts["issue_time"]),
        ("License", facts["license"]),
        ("Period", period),
        ("Payment reference", facts["payment_reference"]),
        ("Paid", facts.get("pay_time", "")),
        ("Due", "" if facts.get("pay_time") else facts.get("due_time", "")),
        ("Credits invoice", facts.get("invoice", "")),
        ("Reason", facts.get("reason", "")),
    ]
    return [(name, value) for name, value in found if value]


def _proof(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """By which anybody holds this document against the order and the license."""
    found = [("Order", facts["order"]), ("Terms SHA-256", facts["terms_hash"]), ("Quote SHA-256", facts["quote_hash"])]
    return [(name, value) for name, value in found if value]


def _amounts(facts: dict[str, Any]) -> Table:
    currency = facts["currency"]

    def money(amount_minor: int) -> str:
        return format_money(Money(amount_minor=amount_minor, currency=currency))

    rows: list[tuple[str, str, str, str]] = []
    for line in facts.get("lines", ()):
        rows.append((line["description"], line["quantity"], line["unit_price"], money(line["amount_minor"])))
    rows.append(("Net", "", "", money(facts["net_minor"])))
    for tax in facts.get("taxes", ()):
        rate = f" {Decimal(tax['rate'])} %" if tax["rate"] else ""
        rows.append((f"{tax['label']}{rate} on {money(tax['base_minor'])}", "", "", money(tax["amount_minor"])))
    if facts.get("tax_minor"):
        rows.append(("Tax", "", "", money(facts["tax_minor"])))
    head = ("Description", "Quantity", f"Unit price, minor units of {currency}", "Amount")
    total = ("Total", "", "", money(facts["total_minor"]))
    table = Table(
        [
            [text(cell, bold=True) for cell in head],
            *([text(cell) for cell in row] for row in rows),
            [text(cell, bold=True) for cell in total],
        ],
        colWidths=[WIDTH * part for part in (0.46, 0.14, 0.18, 0.22)],
        repeatRows=1,
    )
    table.setStyle(
        [
            ("LINEBELOW", (0, 0), (-1, 0), 0.8, colors.black),
            ("LINEABOVE", (0, -1), (-1, -1), 0.8, colors.black),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ]
    )
    return table
