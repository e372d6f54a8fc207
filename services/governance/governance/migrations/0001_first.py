"""The first schema of governance."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from rochdale_kit.database import create_kit_tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_kit_tables(op.get_bind())
    op.create_table(
        "cooperative",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("charter", sa.LargeBinary, nullable=False),
        sa.Column("member_count", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "member",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("join_time", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("cooperative_id", "reference"),
    )
    op.create_table(
        "sharing_rule",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), nullable=False),
        sa.Column("effect", sa.SmallInteger, nullable=False),
        sa.Column("scope", sa.LargeBinary, nullable=False),
        sa.Column("rationale", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("effective_time", sa.DateTime(timezone=True)),
        sa.Column("end_time", sa.DateTime(timezone=True)),
        sa.Column("approvals", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("rule_hash", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        # 1 is PROPOSED, 2 IN_FORCE, 3 ENDED.
        sa.CheckConstraint("(state = 1) = (effective_time IS NULL)", name="in_force_since"),
        sa.CheckConstraint("(state = 3) = (end_time IS NOT NULL)", name="ended_since"),
        sa.CheckConstraint("end_time >= effective_time", name="ended_after_it_began"),
    )
    op.create_index(
        "sharing_rule_of_cooperative", "sharing_rule", ["cooperative_id", sa.text("id DESC"), sa.text("revision DESC")]
    )
    op.create_index(
        "one_live_revision", "sharing_rule", ["id"], unique=True, postgresql_where=sa.text("end_time IS NULL")
    )
    # What members were shown as decided is kept by the database itself, whatever a later version of the code does.
    op.execute("""
        CREATE FUNCTION keep_what_was_decided() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' THEN
                RAISE EXCEPTION 'a sharing rule is never deleted';
            END IF;
            IF (NEW.id, NEW.revision, NEW.cooperative_id, NEW.effect, NEW.scope, NEW.rationale, NEW.create_time)
                IS DISTINCT FROM
               (OLD.id, OLD.revision, OLD.cooperative_id, OLD.effect, OLD.scope, OLD.rationale, OLD.create_time)
            THEN
                RAISE EXCEPTION 'a revision of a sharing rule never changes';
            END IF;
            IF OLD.state <> 1 AND (NEW.effective_time, NEW.approvals, NEW.rule_hash)
                IS DISTINCT FROM (OLD.effective_time, OLD.approvals, OLD.rule_hash)
            THEN
                RAISE EXCEPTION 'what enacted a sharing rule never changes';
            END IF;
            IF OLD.state = 3 OR NEW.state < OLD.state THEN
                RAISE EXCEPTION 'an ended sharing rule stays ended';
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER sharing_rule_keeps BEFORE UPDATE OR DELETE ON sharing_rule
        FOR EACH ROW EXECUTE FUNCTION keep_what_was_decided()
    """)
