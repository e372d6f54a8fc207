"""Keys of members: which member of a cooperative a key speaks for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("api_key", sa.Column("member", sa.Text, server_default="", nullable=False))
    op.create_index("api_key_of_member", "api_key", ["member"], postgresql_where=sa.text("member <> ''"))
