"""The first schema of a data gateway."""

import sqlalchemy as sa
from alembic import op

from rochdale_kit.database import create_kit_tables

revision = "0001"
down_revision = None

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_kit_tables(op.get_bind())
    op.create_table(
        "ingestion",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("format", sa.SmallInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("member_column", sa.Text, nullable=False),
        sa.Column("broken_rows", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("processed_bytes", sa.BigInteger, nullable=False),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("rejected_row_count", sa.BigInteger, nullable=False),
        sa.Column("failure_reason", sa.Text, nullable=False),
        sa.Column("failure_message", sa.Text, nullable=False),
        sa.Column("version", sa.LargeBinary),
        sa.Column("delta_schema", sa.Text),
        sa.Column("create_time", Time, nullable=False),
    )
    op.create_index("ingestion_processing", "ingestion", ["id"], postgresql_where=sa.text("state = 2"))
    op.create_table(
        "dataset_number",
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("last_number", sa.Integer, nullable=False),
    )
    op.create_table(
        "version",
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("ingestion_id", sa.Text, sa.ForeignKey("ingestion.id"), nullable=False, unique=True),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("delta_schema", sa.Text, nullable=False),
        sa.Column("approve_time", Time, nullable=False),
        sa.CheckConstraint("number >= 1", name="number_from_one"),
    )
    op.create_table(
        "served_grant",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("license", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("state_reason", sa.Text, nullable=False),
        sa.Column("chain", sa.LargeBinary, nullable=False),
        sa.Column("hear_time", Time, nullable=False),
        sa.CheckConstraint("state IN ('OPEN', 'CLOSED', 'REFUSED')", name="grant_state"),
    )
    op.create_table(
        "revocation",
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.SmallInteger, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("revoke_time", Time, nullable=False),
        sa.Column("forget_time", Time),
    )
    op.create_table(
        "feed_position",
        # One row: the last number up to which nothing was missed.
        sa.Column("id", sa.SmallInteger, primary_key=True),
        sa.Column("applied_sequence", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id = 1", name="one_feed"),
    )
    op.execute("INSERT INTO feed_position (id, applied_sequence) VALUES (1, 0)")
