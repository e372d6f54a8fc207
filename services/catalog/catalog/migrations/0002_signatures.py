"""Cooperatives' public keys, and when rules expire."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "cooperative", sa.Column("signing_keys", sa.LargeBinary, nullable=False, server_default=sa.text("''"))
    )
    op.add_column("sharing_rule", sa.Column("expire_time", sa.DateTime(timezone=True)))
    op.create_index("rule_by_expiry", "sharing_rule", ["expire_time"], postgresql_where=sa.text("in_force"))
