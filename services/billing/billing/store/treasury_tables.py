"""The treasury's tables, as migration 0004 makes them."""

from __future__ import annotations

import sqlalchemy as sa

from billing.store.tables import TIME, metadata

# Apart from everything that names it, so that what identifies an account can be erased alone.
bank_account_table = sa.Table(
    "bank_account",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("iban", sa.Text, nullable=False),
)
payout_account_table = sa.Table(
    "payout_account",
    metadata,
    sa.Column("cooperative", sa.Text, primary_key=True),
    sa.Column("rail", sa.SmallInteger, nullable=False),
    sa.Column("country", sa.Text, nullable=False),
    sa.Column("stripe_account", sa.Text, nullable=False),
    sa.Column("requirements", sa.ARRAY(sa.Text), nullable=False),
    sa.Column("disabled_reason", sa.Text, nullable=False),
    sa.Column("can_receive", sa.Boolean, nullable=False),
    # When Stripe was last asked about it.
    sa.Column("check_time", TIME),
    sa.Column("bank_account_id", sa.Text, nullable=False),
    sa.Column("iban_end", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("set_by", sa.Text, nullable=False),
    sa.Column("set_member", sa.Text, nullable=False),
    sa.Column("approved_by", sa.Text, nullable=False),
    sa.Column("usable_time", TIME),
    sa.Column("create_time", TIME, nullable=False),
)
payment_file_table = sa.Table(
    "payment_file",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("format", sa.SmallInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("file", sa.LargeBinary, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
)
payout_table = sa.Table(
    "payout",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("rail", sa.SmallInteger, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("stripe_account", sa.Text, nullable=False),
    sa.Column("bank_account_id", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("failure_code", sa.Text, nullable=False),
    sa.Column("settle_time", TIME),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("file_id", sa.Text, sa.ForeignKey("payment_file.id")),
)
transfer_table = sa.Table(
    "transfer",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("payout_id", sa.Text, sa.ForeignKey("payout.id"), nullable=False),
    # Empty for money that is no share's, such as what was netted once and came back.
    sa.Column("share_id", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("charge_id", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("rail_id", sa.Text, nullable=False),
    sa.Column("failure_code", sa.Text, nullable=False),
    sa.Column("reversed_minor", sa.BigInteger, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("settle_time", TIME),
)
reversal_table = sa.Table(
    "reversal",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("transfer_id", sa.Text, sa.ForeignKey("transfer.id"), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("rail_id", sa.Text, nullable=False),
    sa.Column("failure_code", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("settle_time", TIME),
)
# What a cooperative spent; the amount is in its book, and why is here.
cost_table = sa.Table(
    "cost",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("recorded_by", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
)
reconciliation_table = sa.Table(
    "reconciliation",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("run_time", TIME, nullable=False),
    sa.Column("transaction_count", sa.Integer, nullable=False),
    sa.Column("open_break_count", sa.Integer, nullable=False),
    sa.Column("replayed_event_count", sa.Integer, nullable=False),
)
break_table = sa.Table(
    "break",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("check", sa.Text, nullable=False),
    sa.Column("book", sa.Text, nullable=False),
    # What it is about, such as a balance transaction: the same one found again is the same break.
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("close_time", TIME),
    sa.Column("resolution", sa.Text, nullable=False),
    sa.Column("closed_by", sa.Text, nullable=False),
)
closed_month_table = sa.Table(
    "closed_month",
    metadata,
    sa.Column("book", sa.Text, primary_key=True),
    sa.Column("month", sa.Text, primary_key=True),
    sa.Column("end_time", TIME, nullable=False),
    sa.Column("seal", sa.Text, nullable=False),
    sa.Column("close_time", TIME, nullable=False),
    sa.Column("closed_by", sa.Text, nullable=False),
)
