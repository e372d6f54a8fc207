"""Governance's tables of cooperatives, members and rules, as the migrations make them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

# Governance's own, not the kit's: several services may live in one process, and each has its own tables.
metadata = sa.MetaData()

cooperative_table = sa.Table(
    "cooperative",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("charter", sa.LargeBinary, nullable=False),
    sa.Column("member_count", sa.BigInteger, nullable=False),
    sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    # First to latest.
    sa.Column("signing_keys", ARRAY(sa.LargeBinary), nullable=False),
)
member_table = sa.Table(
    "member",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("join_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("affiliations", ARRAY(sa.Text), nullable=False),
    sa.Column("statement", sa.Text, nullable=False),
    sa.Column("key_hash", sa.LargeBinary),
    sa.Column("steward", sa.Boolean, nullable=False),
    sa.Column("leave_time", sa.DateTime(timezone=True)),
    sa.Column("last_active_time", sa.DateTime(timezone=True)),
    sa.UniqueConstraint("cooperative_id", "reference"),
)
# A row a policy, which the migration's trigger keeps as it was enacted.
dividend_policy_table = sa.Table(
    "dividend_policy",
    metadata,
    sa.Column("cooperative_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("proposal", sa.Text, nullable=False, unique=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
# One row a revision. The migration's trigger keeps it as it was enacted: only its end may be written once.
rule_table = sa.Table(
    "sharing_rule",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), nullable=False),
    sa.Column("effect", sa.SmallInteger, nullable=False),
    sa.Column("scope", sa.LargeBinary, nullable=False),
    sa.Column("rationale", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("effective_time", sa.DateTime(timezone=True)),
    sa.Column("end_time", sa.DateTime(timezone=True)),
    sa.Column("approvals", ARRAY(sa.Text), nullable=False),
    sa.Column("rule_hash", sa.Text, nullable=False),
    sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("proposal", sa.Text, nullable=False),
    sa.Column("tally_hash", sa.Text, nullable=False),
    sa.Column("expire_time", sa.DateTime(timezone=True)),
    sa.Column("member_recall", sa.Boolean, nullable=False),
    sa.Column("emergency", sa.Boolean, nullable=False),
    sa.Column("signature", sa.LargeBinary),
    sa.Column("end_signature", sa.LargeBinary),
)
