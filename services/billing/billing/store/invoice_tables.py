"""Tables of invoices, as migration 0003 makes them."""

from __future__ import annotations

import sqlalchemy as sa

from billing.store.tables import TIME, metadata

invoice_counter_table = sa.Table(
    "invoice_counter",
    metadata,
    sa.Column("seller", sa.Text, primary_key=True),
    sa.Column("last", sa.BigInteger, nullable=False),
)
invoice_table = sa.Table(
    "invoice",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("order.id"), nullable=False),
    sa.Column("seller", sa.Text, nullable=False),
    # Counts the seller's documents from 1.
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("number", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("issue_time", TIME, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("pdf_hash", sa.Text, nullable=False),
)
