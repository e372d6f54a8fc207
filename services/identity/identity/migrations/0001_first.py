"""The first schema of identity."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from rochdale_kit.database import create_kit_tables
from rochdale_kit.keyring import create_signing_key_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_kit_tables(op.get_bind())
    create_signing_key_table(op.get_bind())
    op.create_table(
        "organization",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("contact_email", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verify_time", sa.DateTime(timezone=True)),
    )
    op.create_index("organization_by_time", "organization", ["create_time", "id"])
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, sa.ForeignKey("organization.id"), nullable=False),
        sa.Column("key_hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.SmallInteger), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoke_time", sa.DateTime(timezone=True)),
        sa.Column("expire_time", sa.DateTime(timezone=True)),
    )
    op.create_index("api_key_of_organization", "api_key", ["organization_id", sa.text("id DESC")])
