"""Signatures, cooperatives' keys, suspension, requests outside the mandate, and categories that are computed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from rochdale_kit.keyring import create_signing_key_table

revision = "0002"
down_revision = "0001"


def _time(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    create_signing_key_table(op.get_bind())
    op.create_table(
        "cooperative",
        sa.Column("id", sa.Text, primary_key=True),
        # As governance told it: keys first to latest, and the charter's clock for requests outside the mandate.
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    _rules()
    _licenses()
    _requests()
    _licensees()


def _rules() -> None:
    op.add_column("sharing_rule", _time("expire_time", nullable=True))
    # When something has to be done to licenses because of this rule; NULL for nothing more.
    op.add_column("sharing_rule", _time("settle_time", nullable=True))
    op.create_index(
        "sharing_rule_to_settle",
        "sharing_rule",
        ["settle_time"],
        postgresql_where=sa.text("settle_time IS NOT NULL"),
    )


def _licenses() -> None:
    # NULL for what was agreed before licenses were signed; nobody serves such a license.
    op.add_column("license", sa.Column("signature", sa.LargeBinary))
    op.add_column("license", sa.Column("member_recall", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("license", _time("suspend_time", nullable=True))
    op.add_column("license", sa.Column("suspended_by", sa.Text, nullable=False, server_default=""))
    op.create_check_constraint(
        "license_suspended_by_somebody", "license", "state <> 3 OR (suspend_time IS NOT NULL AND suspended_by <> '')"
    )
    op.create_index(
        "license_live_of_cooperative", "license", ["cooperative"], postgresql_where=sa.text("state IN (1, 2, 3)")
    )
    op.drop_index("license_active", "license")
    op.create_index("license_active", "license", ["end_time"], postgresql_where=sa.text("state IN (2, 3)"))
    agreed = "id, negotiation, offering, sharing_rule, rule_revision, licensee, cooperative, terms, terms_hash"
    columns = [*agreed.split(", "), "signature", "member_recall"]
    old, new = (", ".join(f"{row}.{column}" for column in columns) for row in ("OLD", "NEW"))
    op.execute("DROP TRIGGER license_terms_never_change ON license")
    op.execute(f"""
        CREATE TRIGGER license_terms_never_change BEFORE UPDATE ON license
        FOR EACH ROW WHEN (({old}) IS DISTINCT FROM ({new})) EXECUTE FUNCTION refuse_change()
    """)


def _requests() -> None:
    op.create_table(
        "mandate_request",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("licensee", sa.Text, sa.ForeignKey("licensee.id"), nullable=False),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        _time("respond_by_time"),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("mandate_request_of_licensee", "mandate_request", ["licensee", sa.text("id DESC")])
    op.create_index("mandate_request_of_cooperative", "mandate_request", ["cooperative", sa.text("id DESC")])
    op.create_index(
        "mandate_request_waiting", "mandate_request", ["respond_by_time"], postgresql_where=sa.text("state IN (1, 2)")
    )


def _licensees() -> None:
    op.add_column("licensee", _time("attest_expire_time", nullable=True))
    op.add_column("licensee", sa.Column("category_reason", sa.Text, nullable=False, server_default=""))
    # One operator's word attested them until now. It holds for the year it would have held, from when it was given.
    op.execute("""
        UPDATE licensee SET attest_expire_time = attest_time + interval '365 days',
            category_reason = 'An operator attested it before two were asked for.'
        WHERE attest_time IS NOT NULL
    """)
    op.add_column(
        "licensee",
        sa.Column("approvals", postgresql.JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),
    )
    op.add_column("licensee", sa.Column("approved_category", sa.SmallInteger, nullable=False, server_default="0"))
    op.create_table(
        "register_claim",
        sa.Column("licensee", sa.Text, sa.ForeignKey("licensee.id"), primary_key=True),
        sa.Column("register", sa.SmallInteger, primary_key=True),
        sa.Column("identifier", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        # What the register answered, for whoever doubts the claim: evidence_hash is its hash.
        sa.Column("answer", sa.LargeBinary, nullable=False),
    )
