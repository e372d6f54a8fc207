"""Subscriptions, usage, saved payment methods, and how licenses stand."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

TIME = sa.DateTime(timezone=True)
UNITS = sa.Numeric(38, 12)


def upgrade() -> None:
    _standing()
    _subscriptions()
    _usage()
    _saved_methods()


def _standing() -> None:
    op.create_table(
        "standing",
        sa.Column("license", sa.Text, primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("change_time", TIME, nullable=False),
    )
    op.create_table(
        "standing_cause",
        sa.Column("license", sa.Text, sa.ForeignKey("standing.license"), primary_key=True),
        sa.Column("cause", sa.Text, primary_key=True),
        sa.Column("add_time", TIME, nullable=False),
    )
    # By it we know whether a license might be used when something was used.
    op.create_table(
        "standing_change",
        sa.Column("license", sa.Text, sa.ForeignKey("standing.license"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("change_time", TIME, nullable=False),
    )


def _subscriptions() -> None:
    op.create_table(
        "subscription",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("license", sa.Text, nullable=False, unique=True),
        sa.Column("buyer", sa.Text, nullable=False),
        sa.Column("seller", sa.Text, nullable=False),
        sa.Column("category", sa.SmallInteger, nullable=False),
        sa.Column("terms_hash", sa.Text, nullable=False),
        sa.Column("price_minor", sa.BigInteger, sa.CheckConstraint("price_minor >= 0"), nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("plan", sa.LargeBinary, nullable=False),
        sa.Column("duration_seconds", sa.BigInteger, nullable=False),
        sa.Column("day_seconds", sa.Double, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("anchor_time", TIME),
        sa.Column("end_time", TIME),
        sa.Column("period_index", sa.Integer, nullable=False),
        sa.Column("next_time", TIME),
        sa.Column("cancel_time", TIME),
        sa.Column("ended_time", TIME),
        sa.Column("end_reason", sa.Text, nullable=False),
        sa.CheckConstraint("state = 0 OR num_nulls(anchor_time, end_time) = 0", name="subscription_begun"),
        sa.CheckConstraint("(state = 4) = (ended_time IS NOT NULL)", name="subscription_ended"),
    )
    op.create_index(
        "subscription_to_renew", "subscription", ["next_time"], postgresql_where=sa.text("next_time IS NOT NULL")
    )
    op.create_table(
        "due",
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
    op.create_index("due_of_license", "due", ["license", "due_time"])
    op.create_index("due_to_dun", "due", ["next_time"], postgresql_where=sa.text("next_time IS NOT NULL"))


def _usage() -> None:
    op.create_table(
        "use",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("meter", sa.SmallInteger, primary_key=True),
        sa.Column("license", sa.Text, sa.ForeignKey("subscription.license"), nullable=False),
        sa.Column("period_start", TIME, nullable=False),
        sa.Column("quantity", UNITS, nullable=False),
        sa.Column("billable", UNITS, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("record_time", TIME, nullable=False),
        sa.Column("arrive_time", TIME, nullable=False),
        sa.CheckConstraint("quantity > 0 AND billable BETWEEN 0 AND quantity", name="use_billable"),
    )
    op.create_index("use_of_license", "use", ["license", "record_time"])
    op.create_table(
        "tally",
        sa.Column("license", sa.Text, sa.ForeignKey("subscription.license"), primary_key=True),
        sa.Column("meter", sa.SmallInteger, primary_key=True),
        sa.Column("period_start", TIME, primary_key=True),
        sa.Column("period_end", TIME, nullable=False),
        sa.Column("used", UNITS, nullable=False),
        sa.Column("billable", UNITS, nullable=False),
        sa.Column("billed", UNITS, nullable=False),
        sa.Column("warn_time", TIME),
        sa.Column("reach_time", TIME),
        sa.CheckConstraint("billable BETWEEN 0 AND used AND billed BETWEEN 0 AND billable", name="tally_billed"),
    )
    op.create_table(
        "use_period",
        sa.Column("license", sa.Text, sa.ForeignKey("subscription.license"), primary_key=True),
        sa.Column("period_index", sa.Integer, primary_key=True),
        sa.Column("period_start", TIME, nullable=False),
        sa.Column("period_end", TIME, nullable=False),
        sa.Column("close_time", TIME, nullable=False),
        sa.Column("bill_time", TIME),
    )
    op.create_index("use_to_bill", "use_period", ["close_time"], postgresql_where=sa.text("bill_time IS NULL"))
    op.create_table(
        "budget",
        sa.Column("license", sa.Text, sa.ForeignKey("subscription.license"), primary_key=True),
        sa.Column("meter", sa.SmallInteger, primary_key=True),
        sa.Column("cap", UNITS, sa.CheckConstraint("cap > 0"), nullable=False),
    )
    op.execute("""
        CREATE FUNCTION keep_what_was_used() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what was used stays as it was told';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER use_stays BEFORE UPDATE OR DELETE ON "use"
        FOR EACH STATEMENT EXECUTE FUNCTION keep_what_was_used()
    """)


def _saved_methods() -> None:
    op.create_table(
        "customer",
        sa.Column("organization", sa.Text, primary_key=True),
        sa.Column("customer_id", sa.Text, nullable=False, unique=True),
    )
    op.create_table(
        "method_setup",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("success_url", sa.Text, nullable=False),
        sa.Column("cancel_url", sa.Text, nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("end_time", TIME),
        sa.Column("ask_time", TIME, nullable=False),
        sa.UniqueConstraint("organization", "request_id"),
    )
    op.create_index("setup_to_ask", "method_setup", ["ask_time"], postgresql_where=sa.text("end_time IS NULL"))
    op.create_table(
        "saved_method",
        sa.Column("method_id", sa.Text, primary_key=True),
        sa.Column("organization", sa.Text, sa.ForeignKey("customer.organization"), nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("expire_month", sa.Text, nullable=False),
        sa.Column("save_time", TIME, nullable=False),
        sa.Column("remove_time", TIME),
        sa.Column("detach_time", TIME),
    )
    op.create_index(
        "one_saved_method",
        "saved_method",
        ["organization"],
        unique=True,
        postgresql_where=sa.text("remove_time IS NULL"),
    )
    op.create_index(
        "method_to_detach",
        "saved_method",
        ["remove_time"],
        postgresql_where=sa.text("remove_time IS NOT NULL AND detach_time IS NULL"),
    )
    # With what a payment is charged that nobody is present for, and whether its bank asks for the buyer after all.
    for name in ("customer_id", "method_id"):
        op.add_column("payment", sa.Column(name, sa.Text, nullable=False, server_default=""))
    op.add_column("payment", sa.Column("action_required", sa.Boolean, nullable=False, server_default=sa.false()))
