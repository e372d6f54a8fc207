"""The tables of licenses' standing, as migration 0006 makes them."""

from __future__ import annotations

import sqlalchemy as sa

from billing.store.tables import TIME, metadata

# A license without a row is in good standing and was never told of.
standing_table = sa.Table(
    "standing",
    metadata,
    sa.Column("license", sa.Text, primary_key=True),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("change_time", TIME, nullable=False),
)
standing_cause_table = sa.Table(
    "standing_cause",
    metadata,
    sa.Column("license", sa.Text, sa.ForeignKey("standing.license"), primary_key=True),
    sa.Column("cause", sa.Text, primary_key=True),
    sa.Column("add_time", TIME, nullable=False),
)
standing_change_table = sa.Table(
    "standing_change",
    metadata,
    sa.Column("license", sa.Text, sa.ForeignKey("standing.license"), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("change_time", TIME, nullable=False),
)
