"""The table of shares, as migration 0003 makes it."""

from __future__ import annotations

import sqlalchemy as sa

from billing.store.tables import TIME, metadata

share_table = sa.Table(
    "share",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("order.id"), nullable=False, unique=True),
    sa.Column("cooperative", sa.Text, nullable=False),
    # As the order was paid: net + tax = amount; the cooperative's part is net - fee.
    sa.Column("net_minor", sa.BigInteger, nullable=False),
    sa.Column("tax_minor", sa.BigInteger, nullable=False),
    sa.Column("fee_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("rail", sa.Text, nullable=False),
    sa.Column("charge_id", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    # Until when it is held at least.
    sa.Column("hold_time", TIME, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    # Of the cooperative's part.
    sa.Column("refunded_minor", sa.BigInteger, nullable=False),
    # Of what was refunded: what the cooperative had no more, and owes.
    sa.Column("owed_minor", sa.BigInteger, nullable=False),
    sa.Column("deliver_time", TIME),
    sa.Column("frozen", sa.Boolean, nullable=False),
    sa.Column("release_time", TIME),
    # What of it is in the rolling reserve now, since when, and until when.
    sa.Column("reserve_minor", sa.BigInteger, nullable=False),
    sa.Column("reserve_time", TIME),
    sa.Column("reserve_release_time", TIME),
    # What came back of it from the cooperative's account at the rail.
    sa.Column("reversed_minor", sa.BigInteger, nullable=False),
)
