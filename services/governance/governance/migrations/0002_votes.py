"""Keys of cooperatives, signed rules, proposals, votes and the public board."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from rochdale_kit.keyring import create_signing_key_table

revision = "0002"
down_revision = "0001"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_signing_key_table(op.get_bind())
    op.add_column(
        "cooperative",
        sa.Column("signing_keys", postgresql.ARRAY(sa.LargeBinary), server_default="{}", nullable=False),
    )
    _rules()
    op.create_table(
        "proposal",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("delta", sa.LargeBinary, nullable=False),
        sa.Column("decision_class", sa.SmallInteger, nullable=False),
        sa.Column("class_reasons", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("decision_rule", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("beneficiaries", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("frozen_hash", sa.Text, nullable=False),
        sa.Column("impact", sa.LargeBinary),
        sa.Column("roll", sa.LargeBinary),
        sa.Column("tally", sa.LargeBinary),
        sa.Column("mandate_request", sa.Text, nullable=False),
        sa.Column("supersedes", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("freeze_time", TIME),
        sa.Column("open_time", TIME),
        sa.Column("close_time", TIME),
        sa.Column("dissent_end_time", TIME),
        sa.Column("enact_time", TIME),
        sa.Column("sponsor_until", TIME),
        sa.Column("review_time", TIME),
        # When it moves on by itself though nobody asks.
        sa.Column("due_time", TIME),
    )
    op.create_index("proposal_of_cooperative", "proposal", ["cooperative_id", sa.text("id DESC")])
    op.create_index("proposal_due", "proposal", ["due_time"], postgresql_where=sa.text("due_time IS NOT NULL"))
    op.create_index(
        "one_proposal_a_request",
        "proposal",
        ["mandate_request"],
        unique=True,
        postgresql_where=sa.text("mandate_request <> ''"),
    )
    for name, columns in _about_a_proposal().items():
        op.create_table(
            name, sa.Column("proposal_id", sa.Text, sa.ForeignKey("proposal.id"), primary_key=True), *columns
        )
    op.create_index("ballot_of_name", "ballot", ["proposal_id", "nullifier", sa.text("sequence DESC")])
    op.create_table(
        "delegation",
        sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), primary_key=True),
        sa.Column("member", sa.Text, primary_key=True),
        sa.Column("decision_class", sa.SmallInteger, primary_key=True),
        sa.Column("delegate", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
    )
    op.create_index("delegation_to", "delegation", ["cooperative_id", "delegate"])


def _rules() -> None:
    for column in (
        sa.Column("proposal", sa.Text, server_default="", nullable=False),
        sa.Column("tally_hash", sa.Text, server_default="", nullable=False),
        sa.Column("expire_time", TIME),
        sa.Column("member_recall", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.Column("emergency", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.Column("signature", sa.LargeBinary),
        sa.Column("end_signature", sa.LargeBinary),
    ):
        op.add_column("sharing_rule", column)
    op.create_index("sharing_rule_expires", "sharing_rule", ["expire_time"], postgresql_where=sa.text("state = 2"))
    op.create_index(
        "sharing_rule_of_proposal", "sharing_rule", ["proposal"], postgresql_where=sa.text("proposal <> ''")
    )
    # As the first migration made it, for the new columns too.
    op.execute("""
        CREATE OR REPLACE FUNCTION keep_what_was_decided() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' THEN
                RAISE EXCEPTION 'a sharing rule is never deleted';
            END IF;
            IF (NEW.id, NEW.revision, NEW.cooperative_id, NEW.effect, NEW.scope, NEW.rationale, NEW.create_time,
                NEW.proposal, NEW.tally_hash, NEW.member_recall, NEW.emergency)
                IS DISTINCT FROM
               (OLD.id, OLD.revision, OLD.cooperative_id, OLD.effect, OLD.scope, OLD.rationale, OLD.create_time,
                OLD.proposal, OLD.tally_hash, OLD.member_recall, OLD.emergency)
            THEN
                RAISE EXCEPTION 'a revision of a sharing rule never changes';
            END IF;
            IF OLD.state <> 1
                AND (NEW.effective_time, NEW.approvals, NEW.rule_hash, NEW.expire_time, NEW.signature)
                IS DISTINCT FROM (OLD.effective_time, OLD.approvals, OLD.rule_hash, OLD.expire_time, OLD.signature)
            THEN
                RAISE EXCEPTION 'what enacted a sharing rule never changes';
            END IF;
            IF OLD.state = 3 OR NEW.state < OLD.state THEN
                RAISE EXCEPTION 'an ended sharing rule stays ended';
            END IF;
            RETURN NEW;
        END $$
    """)


def _about_a_proposal() -> dict[str, list[sa.Column[object]]]:
    return {
        "sponsor": [
            sa.Column("holder", sa.Text, primary_key=True),
            sa.Column("steward", sa.Boolean, nullable=False),
            sa.Column("create_time", TIME, nullable=False),
        ],
        "interest": [
            sa.Column("holder", sa.Text, primary_key=True),
            sa.Column("statement", sa.Text, nullable=False),
            sa.Column("declared", sa.Boolean, nullable=False),
        ],
        "proposal_comment": [
            sa.Column("number", sa.Integer, primary_key=True),
            sa.Column("author", sa.Text, nullable=False),
            sa.Column("text", sa.Text, nullable=False),
            sa.Column("create_time", TIME, nullable=False),
        ],
        "challenge": [
            sa.Column("number", sa.Integer, primary_key=True),
            sa.Column("challenge", sa.LargeBinary, nullable=False),
        ],
        # What every ballot touches, apart from the proposal, so that voters wait for nobody but voters.
        "vote": [
            sa.Column("open", sa.Boolean, nullable=False),
            sa.Column("frozen_hash", sa.Text, nullable=False),
            sa.Column("secrecy", sa.SmallInteger, nullable=False),
            # Sealed; gone once the vote is closed, and with it every way from a member to their line.
            sa.Column("sealed_key", sa.LargeBinary),
            sa.Column("open_time", TIME, nullable=False),
            sa.Column("close_time", TIME, nullable=False),
            sa.Column("voting_seconds", sa.BigInteger, nullable=False),
            sa.Column("extension_seconds", sa.BigInteger, nullable=False),
            sa.Column("extended", sa.Boolean, nullable=False),
            sa.Column("eligible_count", sa.BigInteger, nullable=False),
            sa.Column("quorum_count", sa.BigInteger, nullable=False),
            sa.Column("turnout_count", sa.BigInteger, nullable=False),
            sa.Column("board_length", sa.BigInteger, nullable=False),
            sa.Column("board_head", sa.Text, nullable=False),
        ],
        "voter": [
            sa.Column("member", sa.Text, primary_key=True),
            sa.Column("salt", sa.LargeBinary, nullable=False),
            sa.Column("leaf", sa.LargeBinary, nullable=False),
        ],
        "ballot": [
            sa.Column("sequence", sa.BigInteger, primary_key=True),
            sa.Column("previous_hash", sa.Text, nullable=False),
            sa.Column("nullifier", sa.Text, nullable=False),
            sa.Column("frozen_hash", sa.Text, nullable=False),
            sa.Column("commitment", sa.Text, nullable=False),
            sa.Column("delegate_nullifier", sa.Text, nullable=False),
            sa.Column("entry_hash", sa.Text, nullable=False),
            sa.Column("choice", sa.SmallInteger, nullable=False),
            sa.Column("salt", sa.Text, nullable=False),
        ],
    }
