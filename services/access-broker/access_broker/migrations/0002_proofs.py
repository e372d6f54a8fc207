"""Signatures and hashes of grants, one open grant a license instead of one for ever, and reports of proving."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("access_grant", sa.Column("license_signature", sa.LargeBinary))
    op.add_column("access_grant", sa.Column("grant_hash", sa.Text))
    op.add_column("access_grant", sa.Column("seal", sa.LargeBinary))
    op.add_column("access_grant", sa.Column("license_end_time", Time))
    op.add_column("access_grant", sa.Column("suspend_time", Time))
    # Grants from before have neither hash nor signed license: they are shown, and no token is issued under them.
    op.execute("UPDATE access_grant SET license_end_time = end_time")
    op.drop_constraint("access_grant_license_key", "access_grant")
    # 3 is CLOSED.
    op.create_index(
        "grant_of_license", "access_grant", ["license"], unique=True, postgresql_where=sa.text("state <> 3")
    )
    op.create_index("grants_of_license", "access_grant", ["license", sa.text("id DESC")])
    op.create_table(
        "proof_report",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cooperative", sa.Text),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
