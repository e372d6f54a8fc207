"""Rules remembered, members and their consents, whose rows are where, and what was delivered to whom."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("ingestion", sa.Column("derived_from", sa.Text))
    op.add_column("served_grant", sa.Column("signed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("version", sa.Column("contributions_time", Time))
    op.add_column("version", sa.Column("purge_count", sa.Integer, nullable=False, server_default="0"))
    op.add_column("version", sa.Column("stored_files", sa.Text))
    op.add_column("version", sa.Column("purged", sa.Text))
    op.create_table(
        "known_rule",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("rule_hash", sa.Text, primary_key=True),
        sa.Column("rule", sa.LargeBinary, nullable=False),
        sa.Column("hear_time", Time, nullable=False),
    )
    op.create_table(
        "member",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("pseudonym", sa.Text, nullable=False, index=True),
        sa.Column("hear_time", Time, nullable=False),
        sa.Column("erase_time", Time),
    )
    op.create_table(
        "consent",
        sa.Column("member", sa.Text, sa.ForeignKey("member.name"), primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("end_time", Time),
        sa.Column("consent", sa.LargeBinary, nullable=False),
        sa.Column("hear_time", Time, nullable=False),
    )
    op.create_table(
        "contribution",
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("pseudonym", sa.Text, primary_key=True),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("rows_hash", sa.Text, nullable=False),
        sa.Column("positions", sa.LargeBinary, nullable=False),
        sa.Column("told_member", sa.Text),
    )
    op.create_index("contribution_pseudonym", "contribution", ["pseudonym"])
    op.create_table(
        "delivered_selection",
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("files", sa.LargeBinary, nullable=False),
        sa.Column("excluded", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "delivery",
        sa.Column("license", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("first_time", Time, nullable=False),
    )
