"""How prices are due while they are negotiated, and how licenses stand with billing."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # NULL for what is due once.
    op.add_column("negotiation", sa.Column("price_plan", sa.LargeBinary))
    op.add_column("license", sa.Column("suspension_count", sa.Integer, nullable=False, server_default="0"))
    # What is suspended now is suspended for the first time that is counted.
    op.execute("UPDATE license SET suspension_count = 1 WHERE state = 3")
    op.add_column("license", sa.Column("standing_sequence", sa.BigInteger, nullable=False, server_default="0"))
    # Why billing holds it, also while an emergency suspends it; empty while billing does not.
    op.add_column("license", sa.Column("held", sa.Text, nullable=False, server_default=""))
