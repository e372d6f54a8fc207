"""The first schema of the access broker."""

import sqlalchemy as sa
from alembic import op

from rochdale_kit.database import create_kit_tables
from rochdale_kit.keyring import create_signing_key_table

revision = "0001"
down_revision = None

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_kit_tables(op.get_bind())
    create_signing_key_table(op.get_bind())
    op.create_table(
        "access_grant",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("license", sa.Text, nullable=False, unique=True),
        sa.Column("terms_hash", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("state_reason", sa.Text, nullable=False),
        sa.Column("terms", sa.LargeBinary, nullable=False),
        sa.Column("sharing_rule", sa.LargeBinary),
        sa.Column("offering", sa.LargeBinary),
        sa.Column("create_time", Time, nullable=False),
        sa.Column("open_time", Time),
        sa.Column("end_time", Time),
        # 4 is VOID, which never opened; every other grant has both ends, for the token's life is cut at one of them.
        sa.CheckConstraint("state = 4 OR (open_time IS NOT NULL AND end_time IS NOT NULL)", name="grant_has_ends"),
    )
    op.create_index("grant_of_holder", "access_grant", ["holder", sa.text("id DESC")])
    op.create_index("grant_of_cooperative", "access_grant", ["cooperative", sa.text("id DESC")])
    op.create_table(
        "ended_license",
        sa.Column("license", sa.Text, primary_key=True),
        sa.Column("hear_time", Time, nullable=False),
    )
    op.create_table(
        "gateway",
        sa.Column("cooperative", sa.Text, primary_key=True),
        sa.Column("public_url", sa.Text, nullable=False),
        sa.Column("control_address", sa.Text, nullable=False),
        sa.Column("register_time", Time, nullable=False),
    )
    op.create_table(
        "gateway_feed",
        sa.Column("cooperative", sa.Text, primary_key=True),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "revocation",
        sa.Column("cooperative", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("revoke_time", Time, nullable=False),
        sa.Column("forget_time", Time),
    )
    op.create_table(
        "issuance",
        sa.Column("token_id", sa.Text, primary_key=True),
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("grant_id", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("issue_time", Time, nullable=False),
        sa.Column("expire_time", Time, nullable=False),
        sa.Column("revoke_time", Time),
        sa.UniqueConstraint("organization", "request_id", name="issuance_of_request"),
    )
