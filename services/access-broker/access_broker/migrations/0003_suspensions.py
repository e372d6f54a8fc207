"""Suspensions are counted: one for money ends without a longer term, so that the end no longer tells it is over."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("access_grant", sa.Column("suspension_count", sa.Integer, nullable=False, server_default="0"))
