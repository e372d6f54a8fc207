"""Invoices and credit notes as PDF: one content, one sequence of bytes. What is in them is in domain/invoices.py.

The font is Bitstream Vera, which comes with reportlab and knows Latin letters: what it cannot show becomes "?". The
content itself keeps every sign.
"""

from __future__ import annotations

import functools
import io
import json
import unicodedata
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import reportlab
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import format_money

_REGULAR, _BOLD = "Vera", "VeraBd"
_MARGIN = 20 * mm
_WIDTH = A4[0] - 2 * _MARGIN


@functools.cache
def _signs() -> frozenset[int]:
    """What both fonts can show; they are registered with the first use."""
    known: list[set[int]] = []
    for name in (_REGULAR, _BOLD):
        font = TTFont(name, str(Path(reportlab.__file__).parent / "fonts" / f"{name}.ttf"))
        pdfmetrics.registerFont(font)
        known.append(set(font.face.charToGlyph))
    return frozenset(known[0] & known[1])


def shown(text: str) -> str:
    """A text as the font can show it, fit for a paragraph."""
    signs = _signs()
    composed = unicodedata.normalize("NFC", text)
    return escape("".join(sign if ord(sign) in signs and sign.isprintable() else "?" for sign in composed))


def pdf_of(content: str) -> bytes:
    """The document of a content (domain/invoices.py). The same content gives the same bytes."""
    facts: dict[str, Any] = json.loads(content)
    title = "Credit note" if facts["kind"] == "credit note" else "Invoice"
    parts = [
        _text(f"{title} {facts['number']}", bold=True, size=16),
        Spacer(1, 6 * mm),
        _pairs(_who(facts)),
        Spacer(1, 6 * mm),
        _amounts(facts),
        Spacer(1, 4 * mm),
        *(_text(f"{tax['label']}: {tax['note']}") for tax in facts.get("taxes", ()) if tax["note"]),
        Spacer(1, 4 * mm),
        _pairs(_proof(facts), size=7),
    ]
    out = io.BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=f"{title} {facts['number']}",
        author=facts["seller"],
        creator="Rochdale",
        lang="en",
    )
    document.build(parts, canvasmaker=_canvas)
    return out.getvalue()


def _canvas(*arguments: Any, **named: Any) -> Canvas:
    """Without time, random ids and compression, all of which would make other bytes of the same content elsewhere."""
    return Canvas(*arguments, **(named | {"invariant": 1, "pageCompression": 0}))


def _who(facts: dict[str, Any]) -> list[tuple[str, str]]:
    period = f"{facts['period_start_time']} to {facts['period_end_time']}" if facts["period_start_time"] else ""
    pairs = [
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
    return [(name, value) for name, value in pairs if value]


def _proof(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """By which anybody holds this document against the order and the license."""
    pairs = [("Order", facts["order"]), ("Terms SHA-256", facts["terms_hash"]), ("Quote SHA-256", facts["quote_hash"])]
    return [(name, value) for name, value in pairs if value]


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
            [_text(cell, bold=True) for cell in head],
            *([_text(cell) for cell in row] for row in rows),
            [_text(cell, bold=True) for cell in total],
        ],
        colWidths=[_WIDTH * part for part in (0.46, 0.14, 0.18, 0.22)],
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


def _pairs(pairs: list[tuple[str, str]], size: float = 9) -> Table:
    rows = [[_text(name, bold=True, size=size), _text(value, size=size)] for name, value in pairs]
    return Table(rows, colWidths=[_WIDTH * 0.25, _WIDTH * 0.75], style=[("VALIGN", (0, 0), (-1, -1), "TOP")])


def _text(text: str, bold: bool = False, size: float = 9) -> Paragraph:
    said = shown(text)
    return Paragraph(said, _style(bold, size))


@functools.cache
def _style(bold: bool, size: float) -> ParagraphStyle:
    return ParagraphStyle(
        f"{bold} {size}", fontName=_BOLD if bold else _REGULAR, fontSize=size, leading=size * 1.3, splitLongWords=1
    )
