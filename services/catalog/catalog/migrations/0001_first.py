"""The first schema of the catalog."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from rochdale_kit.database import create_kit_tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_kit_tables(op.get_bind())
    op.create_table(
        "cooperative",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
    )
    op.create_table(
        "dataset",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("modality", sa.SmallInteger, nullable=False),
        sa.Column("languages", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("citation", sa.Text, nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("dataset_of_cooperative", "dataset", ["cooperative", "name"])
    op.create_table(
        "version",
        sa.Column("dataset", sa.Text, sa.ForeignKey("dataset.name"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "sharing_rule",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("in_force", sa.Boolean, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("rule_in_force", "sharing_rule", ["cooperative"], postgresql_where=sa.text("in_force"))
    op.create_table(
        "offering",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, sa.ForeignKey("dataset.name"), nullable=False),
        sa.Column("open", sa.Boolean, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("change_xid", sa.BigInteger, nullable=False),
    )
    op.create_index("offering_of_cooperative", "offering", ["cooperative", sa.text("id DESC")])
    op.create_index("offering_by_change", "offering", ["change_xid"])
