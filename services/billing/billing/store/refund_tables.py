"""Tables of refunds, disputes and what was accessed, as the migration makes them."""

from __future__ import annotations

import sqlalchemy as sa

from billing.store.tables import TIME, metadata

refund_table = sa.Table(
    "refund",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("order.id"), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("tax_minor", sa.BigInteger, nullable=False),
    sa.Column("fee_minor", sa.BigInteger, nullable=False),
    sa.Column("cooperative_minor", sa.BigInteger, nullable=False),
    sa.Column("receivable_minor", sa.BigInteger, nullable=False),
    sa.Column("rail", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("rail_id", sa.Text, nullable=False),
    sa.Column("settle_time", TIME),
    # When the rail was last asked about it, answer or not.
    sa.Column("ask_time", TIME, nullable=False),
)
dispute_table = sa.Table(
    "dispute",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("order.id"), nullable=False),
    sa.Column("rail_id", sa.Text, nullable=False, unique=True),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("held_minor", sa.BigInteger, nullable=False),
    sa.Column("held_currency", sa.Text, nullable=False),
    sa.Column("frozen_minor", sa.BigInteger, nullable=False),
    sa.Column("evidence_due_time", TIME),
    sa.Column("evidence_time", TIME),
    sa.Column("close_time", TIME),
)
# What left under a license, day by day: what a cooperative can show a bank.
access_day_table = sa.Table(
    "access_day",
    metadata,
    sa.Column("license", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("listed_files", sa.BigInteger, nullable=False),
    sa.Column("sent_bytes", sa.BigInteger, nullable=False),
    sa.Column("first_time", TIME, nullable=False),
    sa.Column("last_time", TIME, nullable=False),
)
