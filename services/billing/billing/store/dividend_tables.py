"""The tables of dividends, as migration 0005 makes them. What each column is for is said there."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from billing.store.tables import TIME, metadata

cooperative_table = sa.Table(
    "cooperative",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
member_table = sa.Table(
    "member",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("join_time", TIME),
    sa.Column("leave_time", TIME),
    sa.Column("erase_time", TIME),
)
consent_table = sa.Table(
    "consent",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("member_id", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("given", sa.Boolean, nullable=False),
    sa.Column("give_time", TIME, nullable=False),
    sa.Column("end_time", TIME),
)
contribution_table = sa.Table(
    "contribution",
    metadata,
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("row_count", sa.BigInteger, nullable=False),
)
delivery_table = sa.Table(
    "delivery",
    metadata,
    sa.Column("license", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("first_time", TIME, nullable=False),
)
policy_table = sa.Table(
    "dividend_policy",
    metadata,
    sa.Column("cooperative", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("policy", sa.LargeBinary, nullable=False),
    sa.Column("policy_hash", sa.Text, nullable=False),
    sa.Column("proposal", sa.Text, nullable=False),
    sa.Column("effective_time", TIME, nullable=False),
)
payee_table = sa.Table(
    "payee",
    metadata,
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("iban", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("usable_time", TIME, nullable=False),
    sa.Column("returned", sa.Boolean, nullable=False),
)
tax_profile_table = sa.Table(
    "tax_profile",
    metadata,
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("profile", sa.LargeBinary, nullable=False),
)
unclaimed_table = sa.Table(
    "unclaimed",
    metadata,
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("currency", sa.Text, primary_key=True),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("moves", sa.Integer, nullable=False),
)
run_table = sa.Table(
    "dividend_run",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("month", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("policy_version", sa.Integer, nullable=False),
    sa.Column("inputs_hash", sa.Text, nullable=False),
    sa.Column("base_minor", sa.BigInteger, nullable=False),
    sa.Column("costs_minor", sa.BigInteger, nullable=False),
    sa.Column("taken_back_minor", sa.BigInteger, nullable=False),
    sa.Column("loss_minor", sa.BigInteger, nullable=False),
    sa.Column("covered_minor", sa.BigInteger, nullable=False),
    sa.Column("reserve_minor", sa.BigInteger, nullable=False),
    sa.Column("commons_minor", sa.BigInteger, nullable=False),
    sa.Column("solidarity_minor", sa.BigInteger, nullable=False),
    sa.Column("equal_pool_minor", sa.BigInteger, nullable=False),
    sa.Column("contribution_pool_minor", sa.BigInteger, nullable=False),
    sa.Column("equal_count", sa.BigInteger, nullable=False),
    sa.Column("equal_last_hash", sa.Text, nullable=False),
    sa.Column("cap_minor", sa.BigInteger, nullable=False),
    sa.Column("member_count", sa.BigInteger, nullable=False),
    sa.Column("largest_minor", sa.BigInteger, nullable=False),
    sa.Column("median_minor", sa.BigInteger, nullable=False),
    sa.Column("paid_minor", sa.BigInteger, nullable=False),
    sa.Column("carried_count", sa.BigInteger, nullable=False),
    sa.Column("carried_minor", sa.BigInteger, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("objection_end_time", TIME),
    sa.Column("post_time", TIME),
    sa.Column("pay_time", TIME),
    sa.Column("bank_reference", sa.Text, nullable=False),
)
source_table = sa.Table(
    "dividend_source",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("dividend_run.id"), primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("earned_minor", sa.BigInteger, nullable=False),
    sa.Column("pool_minor", sa.BigInteger, nullable=False),
    sa.Column("member_count", sa.BigInteger, nullable=False),
    sa.Column("total_units", sa.BigInteger, nullable=False),
    sa.Column("last_remainder", sa.BigInteger),
    sa.Column("last_hash", sa.Text, nullable=False),
)
run_share_table = sa.Table(
    "dividend_share",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("dividend_run.id"), primary_key=True),
    sa.Column("share_id", sa.Text, primary_key=True),
    sa.Column("earned_minor", sa.BigInteger, nullable=False),
    sa.Column("assigned", sa.Boolean, nullable=False),
)
objection_table = sa.Table(
    "objection",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("dividend_run.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("member_id", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("answer_time", TIME),
)
approval_table = sa.Table(
    "dividend_approval",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("dividend_run.id"), primary_key=True),
    sa.Column("person", sa.Text, primary_key=True),
    sa.Column("approve_time", TIME, nullable=False),
)
line_table = sa.Table(
    "dividend_line",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("dividend_run.id"), primary_key=True),
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("chunk", sa.Integer, nullable=False),
    sa.Column("equal_minor", sa.BigInteger, nullable=False),
    sa.Column("parts", JSONB, nullable=False),
    sa.Column("cap_change_minor", sa.BigInteger, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("posted", sa.Boolean, nullable=False),
    sa.Column("carried_in_minor", sa.BigInteger, nullable=False),
    sa.Column("withheld_minor", sa.BigInteger, nullable=False),
    sa.Column("paid_minor", sa.BigInteger, nullable=False),
    sa.Column("carried_out_minor", sa.BigInteger, nullable=False),
    sa.Column("carry_reason", sa.Text, nullable=False),
    sa.Column("classification", sa.Text, nullable=False),
    sa.Column("payment_reference", sa.Text, nullable=False),
    sa.Column("returned", sa.Boolean, nullable=False),
)
payment_account_table = sa.Table(
    "dividend_payment",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("iban", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
)
weight_file_table = sa.Table(
    "weight_file",
    metadata,
    sa.Column("cooperative", sa.Text, primary_key=True),
    sa.Column("month", sa.Text, primary_key=True),
    sa.Column("weights_hash", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("weight_count", sa.Integer, nullable=False),
    sa.Column("complete_time", TIME),
)
weight_table = sa.Table(
    "weight",
    metadata,
    sa.Column("cooperative", sa.Text, primary_key=True),
    sa.Column("month", sa.Text, primary_key=True),
    sa.Column("weights_hash", sa.Text, primary_key=True),
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
)
