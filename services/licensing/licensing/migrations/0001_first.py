"""The first schema of licensing."""

import sqlalchemy as sa
from alembic import op

from rochdale_kit.database import create_kit_tables

revision = "0001"
down_revision = None


def _time(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    create_kit_tables(op.get_bind())
    op.create_table(
        "licensee",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("category", sa.SmallInteger, nullable=False),
        sa.Column("claimed_category", sa.SmallInteger, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("territory", sa.Text, nullable=False),
        _time("create_time"),
        _time("attest_time", nullable=True),
    )
    op.create_index("licensee_by_time", "licensee", ["create_time", "id"])
    op.create_table("rule_book", sa.Column("cooperative", sa.Text, primary_key=True))
    op.create_table(
        "sharing_rule",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("cooperative", sa.Text, sa.ForeignKey("rule_book.cooperative"), nullable=False),
        sa.Column("effect", sa.SmallInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        _time("effective_time"),
        _time("end_time", nullable=True),
    )
    op.create_index("sharing_rule_of_cooperative", "sharing_rule", ["cooperative", "effect"])
    op.create_table(
        "offering",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "quote",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("licensee", sa.Text, sa.ForeignKey("licensee.id"), nullable=False),
        sa.Column("offering", sa.Text, sa.ForeignKey("offering.name"), nullable=False),
        sa.Column("wish", sa.LargeBinary, nullable=False),
        sa.Column("quote_hash", sa.Text, nullable=False),
        _time("expire_time"),
    )
    op.create_table(
        "negotiation",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("offering", sa.Text, sa.ForeignKey("offering.name"), nullable=False),
        sa.Column("licensee", sa.Text, sa.ForeignKey("licensee.id"), nullable=False),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("scope", sa.LargeBinary, nullable=False),
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("license", sa.Text, nullable=False),
        _time("create_time"),
        _time("expire_time", nullable=True),
        # A license exists exactly from AGREED (4) on; TERMINATED (7) is reached from both sides of it.
        sa.CheckConstraint("state = 7 OR (state >= 4) = (license <> '')", name="license_from_agreed_on"),
    )
    op.create_index("negotiation_of_licensee", "negotiation", ["licensee", sa.text("id DESC")])
    op.create_index("negotiation_of_cooperative", "negotiation", ["cooperative", sa.text("id DESC")])
    op.create_index("negotiation_waiting", "negotiation", ["expire_time"], postgresql_where=sa.text("state IN (1, 2)"))
    op.create_table(
        "negotiation_step",
        sa.Column("negotiation", sa.Text, sa.ForeignKey("negotiation.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "license",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("negotiation", sa.Text, sa.ForeignKey("negotiation.id"), nullable=False, unique=True),
        sa.Column("offering", sa.Text, sa.ForeignKey("offering.name"), nullable=False),
        sa.Column("sharing_rule", sa.Text, nullable=False),
        sa.Column("rule_revision", sa.Integer, nullable=False),
        sa.Column("licensee", sa.Text, sa.ForeignKey("licensee.id"), nullable=False),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("terms", sa.LargeBinary, nullable=False),
        sa.Column("terms_hash", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        _time("pay_by_time"),
        _time("activate_time", nullable=True),
        _time("end_time", nullable=True),
        sa.Column("end_reason", sa.Text, nullable=False),
        # A license cannot be signed without the very revision that allowed it.
        sa.ForeignKeyConstraint(["sharing_rule", "rule_revision"], ["sharing_rule.name", "sharing_rule.revision"]),
    )
    op.create_index("license_of_licensee", "license", ["licensee", sa.text("id DESC")])
    op.create_index("license_of_cooperative", "license", ["cooperative", sa.text("id DESC")])
    live = sa.text("state IN (1, 2, 3)")
    op.create_index("license_live_of_offering", "license", ["offering"], postgresql_where=live)
    op.create_index("license_live_of_rule", "license", ["sharing_rule"], postgresql_where=live)
    op.create_index("license_unpaid", "license", ["pay_by_time"], postgresql_where=sa.text("state = 1"))
    op.create_index("license_active", "license", ["end_time"], postgresql_where=sa.text("state = 2"))
    _keep_what_was_agreed()


def _keep_what_was_agreed() -> None:
    """What both sides agreed cannot be changed by a fault of ours either: the database refuses."""
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what was agreed in % never changes', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
        END $$
    """)
    agreed = "id, negotiation, offering, sharing_rule, rule_revision, licensee, cooperative, terms, terms_hash"
    old = ", ".join(f"OLD.{column.strip()}" for column in agreed.split(","))
    new = ", ".join(f"NEW.{column.strip()}" for column in agreed.split(","))
    # Compared rather than "UPDATE OF": a trigger of columns fires only for those the statement names, and another
    # trigger may change one it does not name.
    op.execute(f"""
        CREATE TRIGGER license_terms_never_change BEFORE UPDATE ON license
        FOR EACH ROW WHEN (({old}) IS DISTINCT FROM ({new})) EXECUTE FUNCTION refuse_change()
    """)
    op.execute("CREATE TRIGGER license_stays BEFORE DELETE ON license FOR EACH ROW EXECUTE FUNCTION refuse_change()")
    op.execute("""
        CREATE TRIGGER negotiation_step_never_changes BEFORE UPDATE OR DELETE ON negotiation_step
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """)
    for table in ("license", "negotiation_step"):
        op.execute(f"""
            CREATE TRIGGER {table}_is_not_emptied BEFORE TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
        """)
