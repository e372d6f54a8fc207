"""The tables, as the migrations make them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

# Not the kit's metadata: in the one-machine edition other services live in this process, with tables of the same names.
metadata = sa.MetaData()

TIME = sa.DateTime(timezone=True)

licensee_table = sa.Table(
    "licensee",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("category", sa.SmallInteger, nullable=False),
    sa.Column("claimed_category", sa.SmallInteger, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("territory", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("attest_time", TIME),
    sa.Column("attest_expire_time", TIME),
    sa.Column("category_reason", sa.Text, nullable=False),
    sa.Column("approvals", JSONB, nullable=False),
    sa.Column("approved_category", sa.SmallInteger, nullable=False),
)
register_claim_table = sa.Table(
    "register_claim",
    metadata,
    sa.Column("licensee", sa.Text, primary_key=True),
    sa.Column("register", sa.SmallInteger, primary_key=True),
    sa.Column("identifier", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),
)
cooperative_table = sa.Table(
    "cooperative",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
# One row a cooperative: who signs holds it shared, who changes a rule holds it alone, so that exactly one comes first.
rule_book_table = sa.Table("rule_book", metadata, sa.Column("cooperative", sa.Text, primary_key=True))
sharing_rule_table = sa.Table(
    "sharing_rule",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("effect", sa.SmallInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("effective_time", TIME, nullable=False),
    sa.Column("end_time", TIME),
    sa.Column("expire_time", TIME),
    sa.Column("settle_time", TIME),
)
offering_table = sa.Table(
    "offering",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
quote_table = sa.Table(
    "quote",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("licensee", sa.Text, nullable=False),
    sa.Column("offering", sa.Text, nullable=False),
    sa.Column("wish", sa.LargeBinary, nullable=False),
    sa.Column("quote_hash", sa.Text, nullable=False),
    sa.Column("expire_time", TIME, nullable=False),
)
negotiation_table = sa.Table(
    "negotiation",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("offering", sa.Text, nullable=False),
    sa.Column("licensee", sa.Text, nullable=False),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("scope", sa.LargeBinary, nullable=False),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("license", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("expire_time", TIME),
    sa.Column("price_plan", sa.LargeBinary),
)
negotiation_step_table = sa.Table(
    "negotiation_step",
    metadata,
    sa.Column("negotiation", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
license_table = sa.Table(
    "license",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("negotiation", sa.Text, nullable=False, unique=True),
    sa.Column("offering", sa.Text, nullable=False),
    sa.Column("sharing_rule", sa.Text, nullable=False),
    sa.Column("rule_revision", sa.Integer, nullable=False),
    sa.Column("licensee", sa.Text, nullable=False),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("terms", sa.LargeBinary, nullable=False),
    sa.Column("terms_hash", sa.Text, nullable=False),
    sa.Column("signature", sa.LargeBinary),
    sa.Column("member_recall", sa.Boolean, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("pay_by_time", TIME, nullable=False),
    sa.Column("activate_time", TIME),
    sa.Column("end_time", TIME),
    sa.Column("end_reason", sa.Text, nullable=False),
    sa.Column("suspend_time", TIME),
    sa.Column("suspended_by", sa.Text, nullable=False),
    sa.Column("suspension_count", sa.Integer, nullable=False),
    sa.Column("standing_sequence", sa.BigInteger, nullable=False),
    sa.Column("held", sa.Text, nullable=False),
)
mandate_request_table = sa.Table(
    "mandate_request",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("licensee", sa.Text, nullable=False),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("respond_by_time", TIME, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

Row = sa.Row[tuple[object, ...]]


def bare(name: str) -> str:
    """The last part of a resource name, under which its row is kept."""
    return name.rsplit("/", 1)[1]


def seen_by(table: sa.Table, organization: str | None) -> sa.ColumnElement[bool]:
    """Rows one organization may see, as buyer or as cooperative; None, the market itself, sees all."""
    if organization is None:
        return sa.true()
    return sa.or_(table.c.licensee == organization, table.c.cooperative == organization)
