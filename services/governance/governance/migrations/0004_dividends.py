"""Dividend policies, as members voted them, and one notice for each payment."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "dividend_policy",
        sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        # A vote brings one policy into force, once.
        sa.Column("proposal", sa.Text, nullable=False, unique=True),
        # DividendPolicyEnacted, as it was signed and told.
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.execute("""
        CREATE FUNCTION keep_how_it_is_divided() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'a dividend policy never changes; a later decision is the next version';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER dividend_policy_keeps BEFORE UPDATE OR DELETE ON dividend_policy
        FOR EACH ROW EXECUTE FUNCTION keep_how_it_is_divided()
    """)
    # 4 is PAYMENT. Nobody is told twice of the same money, however often billing says it.
    op.create_index(
        "notice_of_payment",
        "notice",
        ["member_id", "about", "subject"],
        unique=True,
        postgresql_where=sa.text("kind = 4"),
    )
