"""Subscriptions, usage, saved payment methods, and how licenses stand."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _standing()


def _standing() -> None:
    op.create_table(
        "standing",
        sa.Column("license", sa.Text, primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("change_time", TIME, nullable=False),
    )
    op.create_table(
        "standing_cause",
        sa.Column("license", sa.Text, sa.ForeignKey("standing.license"), primary_key=True),
        sa.Column("cause", sa.Text, primary_key=True),
        sa.Column("add_time", TIME, nullable=False),
    )
