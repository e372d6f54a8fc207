"""Dividends: what is heard of members, policies, runs with their lines, weights, and where members are paid."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _heard()
    _told_by_members()
    _runs()
    _lines()
    _weights()


def _heard() -> None:
    # Keys as governance told of them, to know a cooperative's signature.
    op.create_table(
        "cooperative",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "member",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cooperative", sa.Text, nullable=False),
        # Absent for one who was heard of leaving first.
        sa.Column("join_time", TIME),
        sa.Column("leave_time", TIME),
        sa.Column("erase_time", TIME),
    )
    op.create_index("member_of_cooperative", "member", ["cooperative", "id"])
    op.create_table(
        "consent",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        # A refusal is no consent, and ends the one before it.
        sa.Column("given", sa.Boolean, nullable=False),
        sa.Column("give_time", TIME, nullable=False),
        sa.Column("end_time", TIME),
    )
    op.create_index("consent_of_member", "consent", ["dataset", "member_id", "give_time"])
    op.create_table(
        "contribution",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("member_id", sa.Text, primary_key=True),
        sa.Column("row_count", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "delivery",
        sa.Column("license", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("first_time", TIME, nullable=False),
    )
    op.create_table(
        "dividend_policy",
        sa.Column("cooperative", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("policy", sa.LargeBinary, nullable=False),
        sa.Column("policy_hash", sa.Text, nullable=False),
        sa.Column("proposal", sa.Text, nullable=False),
        sa.Column("effective_time", TIME, nullable=False),
        # A vote is enacted once, and its signature serves no later version.
        sa.UniqueConstraint("cooperative", "proposal"),
    )


def _told_by_members() -> None:
    # Apart from everything else, so that what identifies a person can be erased alone. The row stays without them: an
    # account named later is not the first one.
    op.create_table(
        "payee",
        sa.Column("member_id", sa.Text, primary_key=True),
        sa.Column("iban", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("usable_time", TIME, nullable=False),
        # Whether a payment to it came back: it gets no other one.
        sa.Column("returned", sa.Boolean, nullable=False),
    )
    op.create_table(
        "tax_profile",
        sa.Column("member_id", sa.Text, primary_key=True),
        sa.Column("profile", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "unclaimed",
        sa.Column("member_id", sa.Text, primary_key=True),
        sa.Column("currency", sa.Text, primary_key=True),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor >= 0"), nullable=False),
        # Counts how often it moved, there or back: each time is an event of its own.
        sa.Column("moves", sa.Integer, nullable=False),
    )


def _runs() -> None:
    amounts = [
        *("base_minor", "costs_minor", "taken_back_minor", "loss_minor", "covered_minor"),
        *("reserve_minor", "commons_minor", "solidarity_minor", "equal_pool_minor", "contribution_pool_minor"),
        *("equal_count", "cap_minor", "member_count", "largest_minor", "median_minor"),
        *("paid_minor", "carried_count", "carried_minor"),
    ]
    op.create_table(
        "dividend_run",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("policy_version", sa.Integer, nullable=False),
        sa.Column("inputs_hash", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in amounts),
        sa.Column("equal_last_hash", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("objection_end_time", TIME),
        sa.Column("post_time", TIME),
        sa.Column("pay_time", TIME),
        sa.Column("bank_reference", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["cooperative", "policy_version"], ["dividend_policy.cooperative", "dividend_policy.version"]
        ),
    )
    op.create_index(
        "one_run_a_month",
        "dividend_run",
        ["cooperative", "month", "currency"],
        unique=True,
        postgresql_where=sa.text("state <> 9"),
    )
    op.create_index("run_of_cooperative", "dividend_run", ["cooperative", "id"])
    op.create_table(
        "dividend_source",
        sa.Column("run_id", sa.Text, sa.ForeignKey("dividend_run.id"), primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("earned_minor", sa.BigInteger, nullable=False),
        sa.Column("pool_minor", sa.BigInteger, nullable=False),
        sa.Column("member_count", sa.BigInteger, nullable=False),
        sa.Column("total_units", sa.BigInteger, nullable=False),
        sa.Column("last_remainder", sa.BigInteger),
        sa.Column("last_hash", sa.Text, nullable=False),
    )
    op.create_table(
        "dividend_share",
        sa.Column("run_id", sa.Text, sa.ForeignKey("dividend_run.id"), primary_key=True),
        sa.Column("share_id", sa.Text, primary_key=True),
        sa.Column("earned_minor", sa.BigInteger, nullable=False),
        sa.Column("assigned", sa.Boolean, nullable=False),
    )
    # A share earns in one run.
    op.create_index(
        "share_earns_once", "dividend_share", ["share_id"], unique=True, postgresql_where=sa.text("assigned")
    )
    op.create_table(
        "objection",
        sa.Column("run_id", sa.Text, sa.ForeignKey("dividend_run.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("answer_time", TIME),
    )
    op.create_table(
        "dividend_approval",
        sa.Column("run_id", sa.Text, sa.ForeignKey("dividend_run.id"), primary_key=True),
        # A person, not a key: two keys of one member approve once.
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("approve_time", TIME, nullable=False),
    )


def _lines() -> None:
    op.create_table(
        "dividend_line",
        sa.Column("run_id", sa.Text, sa.ForeignKey("dividend_run.id"), primary_key=True),
        sa.Column("member_id", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("chunk", sa.Integer, nullable=False),
        sa.Column("equal_minor", sa.BigInteger, nullable=False),
        sa.Column("parts", JSONB, nullable=False),
        sa.Column("cap_change_minor", sa.BigInteger, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor >= 0"), nullable=False),
        sa.Column("posted", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("carried_in_minor", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("withheld_minor", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("paid_minor", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("carried_out_minor", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("carry_reason", sa.Text, nullable=False, server_default=""),
        sa.Column("classification", sa.Text, nullable=False, server_default="unclassified"),
        sa.Column("payment_reference", sa.Text, nullable=False, server_default=""),
        # Whether a payment came back.
        sa.Column("returned", sa.Boolean, nullable=False, server_default=sa.false()),
        # Nothing gets lost from one run to the next.
        sa.CheckConstraint(
            "NOT posted OR carried_in_minor + amount_minor = withheld_minor + paid_minor + carried_out_minor",
            name="line_adds_up",
        ),
        sa.UniqueConstraint("run_id", "position"),
    )
    op.create_index("line_of_member", "dividend_line", ["member_id", sa.text("run_id DESC")])
    op.create_index("line_to_post", "dividend_line", ["run_id", "chunk"], postgresql_where=sa.text("NOT posted"))
    # Where a payment goes, from when it is made out until the bank has answered. Personal, so apart and soon deleted.
    op.create_table(
        "dividend_payment",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("member_id", sa.Text, primary_key=True),
        sa.Column("iban", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["run_id", "member_id"], ["dividend_line.run_id", "dividend_line.member_id"]),
    )


def _weights() -> None:
    op.create_table(
        "weight_file",
        sa.Column("cooperative", sa.Text, primary_key=True),
        sa.Column("month", sa.Text, primary_key=True),
        sa.Column("weights_hash", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("weight_count", sa.Integer, nullable=False),
        sa.Column("complete_time", TIME),
    )
    op.create_table(
        "weight",
        sa.Column("cooperative", sa.Text, primary_key=True),
        sa.Column("month", sa.Text, primary_key=True),
        sa.Column("weights_hash", sa.Text, primary_key=True),
        sa.Column("member_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("cooperative", "month", "weights_hash", "position"),
    )
