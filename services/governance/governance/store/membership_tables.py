"""Governance's tables of what is members' own, as the migrations make them. The member table itself is in tables."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from governance.store.tables import metadata

_TIME = sa.DateTime(timezone=True)

invitation_table = sa.Table(
    "invitation",
    metadata,
    sa.Column("cooperative_id", sa.Text, primary_key=True),
    sa.Column("reference", sa.Text, primary_key=True),
    sa.Column("code_hash", sa.LargeBinary, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("expire_time", _TIME, nullable=False),
    sa.Column("used_by_key", sa.LargeBinary),
)
consent_table = sa.Table(
    "consent",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("member_id", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("purposes", ARRAY(sa.Text), nullable=False),
    sa.Column("categories", ARRAY(sa.SmallInteger), nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("method", sa.SmallInteger, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("notice_hash", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("give_time", _TIME, nullable=False),
    sa.Column("end_time", _TIME),
)
contribution_table = sa.Table(
    "contribution",
    metadata,
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("rows_hash", sa.Text, nullable=False),
    sa.Column("record_time", _TIME, nullable=False),
)
licensed_table = sa.Table(
    "licensed",
    metadata,
    sa.Column("license", sa.Text, primary_key=True),
    sa.Column("cooperative_id", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("category", sa.SmallInteger, nullable=False),
    sa.Column("purposes", ARRAY(sa.Text), nullable=False),
    sa.Column("sharing_rule", sa.Text, nullable=False),
    sa.Column("price", sa.LargeBinary, nullable=False),
    sa.Column("over", sa.Boolean, nullable=False),
)
delivery_table = sa.Table(
    "delivery",
    metadata,
    sa.Column("license", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("cooperative_id", sa.Text, nullable=False),
    sa.Column("first_time", _TIME, nullable=False),
    sa.Column("last_time", _TIME, nullable=False),
)
deletion_notice_table = sa.Table(
    "deletion_notice",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cooperative_id", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("license", sa.Text, nullable=False),
    sa.Column("notice", sa.LargeBinary, nullable=False),
    sa.Column("attest_time", _TIME),
    sa.Column("attestation", sa.Text, nullable=False),
    sa.Column("attested_by", sa.Text, nullable=False),
)
deletion_table = sa.Table(
    "deletion",
    metadata,
    sa.Column("member_id", sa.Text, primary_key=True),
    sa.Column("license", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("notice_id", sa.Text, nullable=False),
)
notice_table = sa.Table(
    "notice",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("member_id", sa.Text, nullable=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("about", sa.Text, nullable=False),
    sa.Column("create_time", _TIME, nullable=False),
    sa.Column("read_time", _TIME),
    sa.Column("mail_time", _TIME),
    sa.Column("mail_attempts", sa.Integer, nullable=False),
)
