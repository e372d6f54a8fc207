"""Members' states and keys, consent, contributions, uses, deletion notices and the inbox."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for column in (
        # 1 is ACTIVE: whoever was a member before there were states is one.
        sa.Column("state", sa.SmallInteger, server_default="1", nullable=False),
        sa.Column("email", sa.Text, server_default="", nullable=False),
        sa.Column("affiliations", postgresql.ARRAY(sa.Text), server_default="{}", nullable=False),
        sa.Column("statement", sa.Text, server_default="", nullable=False),
        sa.Column("key_hash", sa.LargeBinary),
        sa.Column("steward", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.Column("leave_time", TIME),
        sa.Column("last_active_time", TIME),
    ):
        op.add_column("member", column)
    op.create_index("member_key", "member", ["key_hash"], unique=True, postgresql_where=sa.text("key_hash IS NOT NULL"))
    op.create_table(
        "invitation",
        sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), primary_key=True),
        sa.Column("reference", sa.Text, primary_key=True),
        sa.Column("code_hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("expire_time", TIME, nullable=False),
        # Kept after use, so that the same key gets the same answer again.
        sa.Column("used_by_key", sa.LargeBinary),
    )
    op.create_table(
        "consent",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("member_id", sa.Text, sa.ForeignKey("member.id"), nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("purposes", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("categories", postgresql.ARRAY(sa.SmallInteger), nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("method", sa.SmallInteger, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("notice_hash", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("give_time", TIME, nullable=False),
        sa.Column("end_time", TIME),
        sa.CheckConstraint("end_time >= give_time", name="ended_after_it_began"),
    )
    op.create_index(
        "one_live_consent",
        "consent",
        ["member_id", "dataset"],
        unique=True,
        postgresql_where=sa.text("end_time IS NULL"),
    )
    op.create_index("consent_of_member", "consent", ["member_id", sa.text("id DESC")])
    # A record is history: only its status and its end are written, once.
    op.execute("""
        CREATE FUNCTION keep_what_was_agreed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' OR OLD.end_time IS NOT NULL
                OR (NEW.id, NEW.member_id, NEW.dataset, NEW.purposes, NEW.categories, NEW.method, NEW.evidence,
                    NEW.notice_hash, NEW.language, NEW.give_time)
                IS DISTINCT FROM
                   (OLD.id, OLD.member_id, OLD.dataset, OLD.purposes, OLD.categories, OLD.method, OLD.evidence,
                    OLD.notice_hash, OLD.language, OLD.give_time)
            THEN
                RAISE EXCEPTION 'a consent is history: it ends once and never changes';
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER consent_keeps BEFORE UPDATE OR DELETE ON consent
        FOR EACH ROW EXECUTE FUNCTION keep_what_was_agreed()
    """)
    op.create_table(
        "contribution",
        sa.Column("member_id", sa.Text, sa.ForeignKey("member.id"), primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("rows_hash", sa.Text, nullable=False),
        sa.Column("record_time", TIME, nullable=False),
    )
    op.create_index("contribution_to", "contribution", ["dataset", "number"])
    # Licenses as licensing told of them, and what was delivered under each.
    op.create_table(
        "licensed",
        sa.Column("license", sa.Text, primary_key=True),
        sa.Column("cooperative_id", sa.Text, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("category", sa.SmallInteger, nullable=False),
        sa.Column("purposes", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("sharing_rule", sa.Text, nullable=False),
        sa.Column("price", sa.LargeBinary, nullable=False),
        sa.Column("over", sa.Boolean, server_default=sa.false(), nullable=False),
    )
    op.create_table(
        "delivery",
        sa.Column("license", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("cooperative_id", sa.Text, nullable=False),
        sa.Column("first_time", TIME, nullable=False),
        sa.Column("last_time", TIME, nullable=False),
    )
    op.create_index("delivery_of", "delivery", ["version"])
    op.create_table(
        "deletion_notice",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("license", sa.Text, nullable=False),
        sa.Column("notice", sa.LargeBinary, nullable=False),
        sa.Column("attest_time", TIME),
        sa.Column("attestation", sa.Text, server_default="", nullable=False),
        sa.Column("attested_by", sa.Text, server_default="", nullable=False),
    )
    op.create_index("deletion_notice_to", "deletion_notice", ["recipient", sa.text("id DESC")])
    op.create_index("deletion_notice_from", "deletion_notice", ["cooperative_id", sa.text("id DESC")])
    # Whose rows a notice is about; each member's rows of a version are named to a license once.
    op.create_table(
        "deletion",
        sa.Column("member_id", sa.Text, sa.ForeignKey("member.id"), primary_key=True),
        sa.Column("license", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("notice_id", sa.Text, sa.ForeignKey("deletion_notice.id"), nullable=False),
    )
    op.create_table(
        "notice",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("member_id", sa.Text, sa.ForeignKey("member.id"), nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("about", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("read_time", TIME),
        # When to try to mail it, and how often that failed; null when it was mailed, or nobody wanted it by mail.
        sa.Column("mail_time", TIME),
        sa.Column("mail_attempts", sa.Integer, server_default="0", nullable=False),
    )
    op.create_index("notice_of_member", "notice", ["member_id", sa.text("id DESC")])
    op.create_index("notice_to_mail", "notice", ["mail_time"], postgresql_where=sa.text("mail_time IS NOT NULL"))
