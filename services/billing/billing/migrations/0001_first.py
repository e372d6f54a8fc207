"""The first schema of billing."""

import sqlalchemy as sa
from alembic import op

from rochdale_kit.database import create_kit_tables

revision = "0001"
down_revision = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_kit_tables(op.get_bind())
    op.create_table(
        "order",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("license", sa.Text, nullable=False, unique=True),
        sa.Column("buyer", sa.Text, nullable=False),
        sa.Column("seller", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor >= 0"), nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("terms_hash", sa.Text, nullable=False),
        sa.Column("payment_reference", sa.Text, nullable=False, unique=True),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("due_time", TIME, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("closing", sa.Text, nullable=False),
        sa.Column("pay_time", TIME),
    )
    op.create_index("order_of_buyer", "order", ["buyer", sa.text("id DESC")])
    op.create_index("order_of_seller", "order", ["seller", sa.text("id DESC")])
    op.create_index("order_open", "order", ["due_time"], postgresql_where=sa.text("state = 1"))
    op.create_table(
        "payment",
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
        sa.Column("ask_time", TIME, nullable=False),
    )
    # STARTING, PENDING and UNKNOWN are live; FAILED is not. And no order is paid twice.
    live, succeeded = sa.text("state IN (1, 2, 5)"), sa.text("state = 3")
    op.create_index("one_live_payment", "payment", ["order_id"], unique=True, postgresql_where=live)
    op.create_index("one_succeeded_payment", "payment", ["order_id"], unique=True, postgresql_where=succeeded)
    op.create_index("payment_to_ask", "payment", ["state", "ask_time"], postgresql_where=live)
    op.create_index("refund_to_make", "payment", ["id"], postgresql_where=sa.text("refund_due"))
    op.create_table(
        "bank_transfer",
        sa.Column("bank_reference", sa.Text, primary_key=True),
        sa.Column("order_id", sa.Text, sa.ForeignKey("order.id"), nullable=False, unique=True),
        sa.Column("confirmed_by", sa.Text, nullable=False),
        sa.Column("confirm_time", TIME, nullable=False),
    )
    op.create_table(
        "incident",
        sa.Column("payment_id", sa.Text, sa.ForeignKey("payment.id"), primary_key=True),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
    )
    op.create_table(
        "webhook",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("object_id", sa.Text, nullable=False),
        sa.Column("receive_time", TIME, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_time", TIME, nullable=False),
        sa.Column("apply_time", TIME),
        sa.Column("outcome", sa.Text, nullable=False),
    )
    op.create_index("webhook_to_apply", "webhook", ["next_time"], postgresql_where=sa.text("apply_time IS NULL"))
    # What was agreed is not ours to change, not even by a mistake in this service.
    agreed = "id, license, buyer, seller, amount_minor, currency, terms_hash, payment_reference, create_time"
    op.execute(f"""
        CREATE FUNCTION keep_what_is_owed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' THEN
                RAISE EXCEPTION 'an order is never deleted';
            END IF;
            IF ({", ".join("OLD." + name for name in agreed.split(", "))})
               IS DISTINCT FROM ({", ".join("NEW." + name for name in agreed.split(", "))}) THEN
                RAISE EXCEPTION 'what an order bills never changes';
            END IF;
            IF OLD.state <> 1 AND NEW.state <> OLD.state THEN
                RAISE EXCEPTION 'an order that was paid or canceled stays so';
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER order_keeps BEFORE UPDATE OR DELETE ON "order"
        FOR EACH ROW EXECUTE FUNCTION keep_what_is_owed()
    """)
