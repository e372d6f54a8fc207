"""The tables, as the migrations make them."""

from __future__ import annotations

import sqlalchemy as sa

# Not the kit's metadata: in the one-machine edition other services live in this process, with tables of the same names.
metadata = sa.MetaData()

TIME = sa.DateTime(timezone=True)
Row = sa.Row[tuple[object, ...]]

order_table = sa.Table(
    "order",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    # One LICENSE for each; one PERIOD and one USAGE for each period of it.
    sa.Column("license", sa.Text, nullable=False),
    sa.Column("buyer", sa.Text, nullable=False),
    sa.Column("seller", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("terms_hash", sa.Text, nullable=False),
    sa.Column("payment_reference", sa.Text, nullable=False, unique=True),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("due_time", TIME, nullable=False),
    sa.Column("traceparent", sa.Text),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("closing", sa.Text, nullable=False),
    sa.Column("pay_time", TIME),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("net_minor", sa.BigInteger, nullable=False),
    # The lines and tax lines, as an Order of the contract.
    sa.Column("billed", sa.LargeBinary, nullable=False),
    sa.Column("quote_hash", sa.Text, nullable=False),
    sa.Column("period_start_time", TIME),
    sa.Column("period_end_time", TIME),
    sa.Column("refunded_minor", sa.BigInteger, nullable=False),
    sa.Column("disputed", sa.Boolean, nullable=False),
    sa.Column("invoice_number", sa.Text, nullable=False),
)
payment_table = sa.Table(
    "payment",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("order.id"), nullable=False),
    sa.Column("method", sa.SmallInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("success_url", sa.Text, nullable=False),
    sa.Column("cancel_url", sa.Text, nullable=False),
    sa.Column("intent_id", sa.Text, nullable=False),
    sa.Column("client_secret", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("checkout_url", sa.Text, nullable=False),
    sa.Column("failure_code", sa.Text, nullable=False),
    sa.Column("refund_due", sa.Boolean, nullable=False),
    sa.Column("refund_id", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("settle_time", TIME),
    # When the rail was last asked about it, answer or not.
    sa.Column("ask_time", TIME, nullable=False),
    # What it took, in minor units, what the rail kept of that, and where the rail's own books have it.
    sa.Column("charge_id", sa.Text, nullable=False),
    sa.Column("transaction_id", sa.Text, nullable=False),
    sa.Column("taken_minor", sa.BigInteger, nullable=False),
    sa.Column("taken_currency", sa.Text, nullable=False),
    sa.Column("processing_minor", sa.BigInteger, nullable=False),
    # When the rail lets us use it, and when our books said so.
    sa.Column("available_time", TIME),
    sa.Column("clear_time", TIME),
    # Of a saved method: what is charged, as the rail names it, and whether the bank asks for the buyer after all.
    sa.Column("customer_id", sa.Text, nullable=False),
    sa.Column("method_id", sa.Text, nullable=False),
    sa.Column("action_required", sa.Boolean, nullable=False),
)
bank_transfer_table = sa.Table(
    "bank_transfer",
    metadata,
    sa.Column("bank_reference", sa.Text, primary_key=True),
    # Absent while it waits in suspense.
    sa.Column("order_id", sa.Text, sa.ForeignKey("order.id")),
    sa.Column("confirmed_by", sa.Text, nullable=False),
    sa.Column("confirm_time", TIME, nullable=False),
    # What arrived; absent for a transfer of ours, which gave money back.
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("currency", sa.Text),
    sa.Column("text", sa.Text, nullable=False),
    # Why it pays no order; it stays as it was when an operator finds the order.
    sa.Column("suspense_reason", sa.Text, nullable=False),
)
incident_table = sa.Table(
    "incident",
    metadata,
    sa.Column("payment_id", sa.Text, sa.ForeignKey("payment.id"), primary_key=True),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
)
webhook_table = sa.Table(
    "webhook",
    metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("object_id", sa.Text, nullable=False),
    sa.Column("receive_time", TIME, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_time", TIME, nullable=False),
    sa.Column("apply_time", TIME),
    sa.Column("outcome", sa.Text, nullable=False),
)
