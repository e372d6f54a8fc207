"""Refunds, disputes, and what was accessed under a license."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "refund",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("order_id", sa.Text, sa.ForeignKey("order.id"), nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("tax_minor", sa.BigInteger, sa.CheckConstraint("tax_minor >= 0"), nullable=False),
        sa.Column("fee_minor", sa.BigInteger, sa.CheckConstraint("fee_minor >= 0"), nullable=False),
        sa.Column("cooperative_minor", sa.BigInteger, sa.CheckConstraint("cooperative_minor >= 0"), nullable=False),
        sa.Column("receivable_minor", sa.BigInteger, nullable=False),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("rail_id", sa.Text, nullable=False),
        sa.Column("settle_time", TIME),
        sa.Column("ask_time", TIME, nullable=False),
        sa.CheckConstraint("receivable_minor BETWEEN 0 AND cooperative_minor", "refund_receivable"),
    )
    op.create_index("refund_of_order", "refund", ["order_id", "id"])
    op.create_index("refund_to_ask", "refund", ["ask_time"], postgresql_where=sa.text("state = 1"))
    op.create_index("one_refund_at_rail", "refund", ["rail_id"], unique=True, postgresql_where=sa.text("rail_id <> ''"))
    op.create_table(
        "dispute",
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
    op.create_index("dispute_of_order", "dispute", ["order_id", "id"])
    op.create_index("dispute_open", "dispute", ["evidence_due_time"], postgresql_where=sa.text("state IN (1, 2)"))
    op.create_table(
        "access_day",
        sa.Column("license", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("listed_files", sa.BigInteger, nullable=False),
        sa.Column("sent_bytes", sa.BigInteger, nullable=False),
        sa.Column("first_time", TIME, nullable=False),
        sa.Column("last_time", TIME, nullable=False),
    )
