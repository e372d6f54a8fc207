"""The tables of subscriptions, use and saved payment methods, as migration 0006 makes them."""

from __future__ import annotations

import sqlalchemy as sa

from billing.store.tables import TIME, metadata

UNITS = sa.Numeric(38, 12)

subscription_table = sa.Table(
    "subscription",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("license", sa.Text, nullable=False, unique=True),
    sa.Column("buyer", sa.Text, nullable=False),
    sa.Column("seller", sa.Text, nullable=False),
    # The buyer's category, on which taxes may depend.
    sa.Column("category", sa.SmallInteger, nullable=False),
    sa.Column("terms_hash", sa.Text, nullable=False),
    sa.Column("price_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    # The PricePlan as it was agreed.
    sa.Column("plan", sa.LargeBinary, nullable=False),
    sa.Column("duration_seconds", sa.BigInteger, nullable=False),
    # How long a day was when it was agreed; another setting changes no running subscription.
    sa.Column("day_seconds", sa.Double, nullable=False),
    sa.Column("traceparent", sa.Text),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("anchor_time", TIME),
    sa.Column("end_time", TIME),
    sa.Column("period_index", sa.Integer, nullable=False),
    # The end of the current period, for whoever looks for periods that are over; absent before the first and at the end.
    sa.Column("next_time", TIME),
    sa.Column("cancel_time", TIME),
    sa.Column("ended_time", TIME),
    sa.Column("end_reason", sa.Text, nullable=False),
)
# Orders of periods, until they are paid or closed.
due_table = sa.Table(
    "due",
    metadata,
    sa.Column("order_id", sa.Text, sa.ForeignKey("order.id"), primary_key=True),
    sa.Column("license", sa.Text, sa.ForeignKey("subscription.license"), nullable=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("due_time", TIME, nullable=False),
    sa.Column("stage", sa.SmallInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("reminders", sa.Integer, nullable=False),
    sa.Column("remind", sa.Boolean, nullable=False),
    sa.Column("next_time", TIME),
)
# Each use that was told, once. What of it is billable was decided when it came, and stays so.
use_table = sa.Table(
    "use",
    metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("meter", sa.SmallInteger, primary_key=True),
    sa.Column("license", sa.Text, sa.ForeignKey("subscription.license"), nullable=False),
    sa.Column("period_start", TIME, nullable=False),
    sa.Column("quantity", UNITS, nullable=False),
    sa.Column("billable", UNITS, nullable=False),
    # Why not all of it is billable; empty when it is.
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("record_time", TIME, nullable=False),
    sa.Column("arrive_time", TIME, nullable=False),
)
tally_table = sa.Table(
    "tally",
    metadata,
    sa.Column("license", sa.Text, sa.ForeignKey("subscription.license"), primary_key=True),
    sa.Column("meter", sa.SmallInteger, primary_key=True),
    sa.Column("period_start", TIME, primary_key=True),
    sa.Column("period_end", TIME, nullable=False),
    sa.Column("used", UNITS, nullable=False),
    sa.Column("billable", UNITS, nullable=False),
    sa.Column("billed", UNITS, nullable=False),
    sa.Column("warn_time", TIME),
    sa.Column("reach_time", TIME),
)
# Periods that are over and whose use is billed once nothing more is expected to be told of it.
use_period_table = sa.Table(
    "use_period",
    metadata,
    sa.Column("license", sa.Text, sa.ForeignKey("subscription.license"), primary_key=True),
    sa.Column("period_index", sa.Integer, primary_key=True),
    sa.Column("period_start", TIME, nullable=False),
    sa.Column("period_end", TIME, nullable=False),
    sa.Column("close_time", TIME, nullable=False),
    sa.Column("bill_time", TIME),
)
budget_table = sa.Table(
    "budget",
    metadata,
    sa.Column("license", sa.Text, sa.ForeignKey("subscription.license"), primary_key=True),
    sa.Column("meter", sa.SmallInteger, primary_key=True),
    sa.Column("cap", UNITS, nullable=False),
)

customer_table = sa.Table(
    "customer",
    metadata,
    sa.Column("organization", sa.Text, primary_key=True),
    # Stripe's id.
    sa.Column("customer_id", sa.Text, nullable=False, unique=True),
)
# Pages on which a buyer saves a payment method.
method_setup_table = sa.Table(
    "method_setup",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("success_url", sa.Text, nullable=False),
    sa.Column("cancel_url", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("create_time", TIME, nullable=False),
    sa.Column("end_time", TIME),
    # When the rail was last asked about it.
    sa.Column("ask_time", TIME, nullable=False),
)
saved_method_table = sa.Table(
    "saved_method",
    metadata,
    # Stripe's id.
    sa.Column("method_id", sa.Text, primary_key=True),
    sa.Column("organization", sa.Text, sa.ForeignKey("customer.organization"), nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("expire_month", sa.Text, nullable=False),
    sa.Column("save_time", TIME, nullable=False),
    # When it was forgotten here, and when at the rail.
    sa.Column("remove_time", TIME),
    sa.Column("detach_time", TIME),
)
