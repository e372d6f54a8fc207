"""Orders of every kind, what a charge brought, shares, invoices, and credits of the bank that pay no order."""

import sqlalchemy as sa
from alembic import op

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money

revision = "0003"
down_revision = "0002"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _orders()
    _payments()
    _shares()
    _invoices()
    _bank_transfers()


def _orders() -> None:
    for column in (
        sa.Column("kind", sa.SmallInteger, nullable=False, server_default="1"),
        sa.Column("net_minor", sa.BigInteger, nullable=False, server_default="0"),
        # The lines and tax lines, as an Order of the contract.
        sa.Column("billed", sa.LargeBinary, nullable=False, server_default=""),
        # Empty for an order made before there was one; its payments carry terms_hash alone.
        sa.Column("quote_hash", sa.Text, nullable=False, server_default=""),
        sa.Column("period_start_time", TIME),
        sa.Column("period_end_time", TIME),
        sa.Column("refunded_minor", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("disputed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("invoice_number", sa.Text, nullable=False, server_default=""),
    ):
        op.add_column("order", column)
    _bill_what_was_there()
    for name in ("kind", "net_minor", "billed", "quote_hash", "refunded_minor", "disputed", "invoice_number"):
        op.alter_column("order", name, server_default=None)
    op.create_check_constraint("order_net", "order", "net_minor BETWEEN 0 AND amount_minor")
    op.create_check_constraint("order_refunded", "order", "refunded_minor BETWEEN 0 AND amount_minor")
    op.create_check_constraint("order_period", "order", "period_start_time < period_end_time")
    op.create_check_constraint("order_has_period", "order", "kind = 1 OR period_start_time IS NOT NULL")
    op.drop_constraint("order_license_key", "order", type_="unique")
    op.create_index("one_order_of_license", "order", ["license"], unique=True, postgresql_where=sa.text("kind = 1"))
    op.create_index(
        "one_order_of_period",
        "order",
        ["license", "kind", "period_start_time"],
        unique=True,
        postgresql_where=sa.text("kind <> 1"),
    )
    agreed = [
        *("id", "license", "buyer", "seller", "amount_minor", "currency", "terms_hash", "payment_reference"),
        *("create_time", "kind", "net_minor", "billed", "quote_hash"),
    ]
    old, new = (", ".join(f"{row}.{name}" for name in agreed) for row in ("OLD", "NEW"))
    op.execute(f"""
        CREATE OR REPLACE FUNCTION keep_what_is_owed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' THEN
                RAISE EXCEPTION 'an order is never deleted';
            END IF;
            IF ({old}) IS DISTINCT FROM ({new}) THEN
                RAISE EXCEPTION 'what an order bills never changes';
            END IF;
            -- The period of a license begins with its activation, once.
            IF (OLD.kind <> 1 OR OLD.period_start_time IS NOT NULL)
               AND (OLD.period_start_time, OLD.period_end_time)
                   IS DISTINCT FROM (NEW.period_start_time, NEW.period_end_time) THEN
                RAISE EXCEPTION 'the period an order bills never changes';
            END IF;
            IF OLD.invoice_number <> '' AND NEW.invoice_number <> OLD.invoice_number THEN
                RAISE EXCEPTION 'an invoice keeps its number';
            END IF;
            IF OLD.refunded_minor > NEW.refunded_minor THEN
                RAISE EXCEPTION 'what was given back stays given back';
            END IF;
            IF OLD.state <> 1 AND NEW.state <> OLD.state THEN
                RAISE EXCEPTION 'an order that was paid or canceled stays so';
            END IF;
            RETURN NEW;
        END $$
    """)


def _bill_what_was_there() -> None:
    """One line for each order, as they all were: the price of a license, without taxes."""
    table = sa.table(
        "order",
        *(sa.column(name) for name in ("id", "license", "amount_minor", "currency", "net_minor", "billed")),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(table.c.id, table.c.license, table.c.amount_minor, table.c.currency)).all():
        amount = Money(amount_minor=row.amount_minor, currency=row.currency)
        billed = pb.Order(lines=[pb.OrderLine(description=f"License {row.license}", amount=amount)])
        connection.execute(
            table.update()
            .where(table.c.id == row.id)
            .values(net_minor=row.amount_minor, billed=billed.SerializeToString())
        )


def _payments() -> None:
    for name in ("charge_id", "transaction_id"):
        op.add_column("payment", sa.Column(name, sa.Text, nullable=False, server_default=""))
        op.alter_column("payment", name, server_default=None)
    for name in ("taken_minor", "processing_minor"):
        op.add_column("payment", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
        op.alter_column("payment", name, server_default=None)
    op.add_column("payment", sa.Column("taken_currency", sa.Text, nullable=False, server_default=""))
    op.alter_column("payment", "taken_currency", server_default=None)
    # When the rail lets us use what it took, and when the books said so.
    op.add_column("payment", sa.Column("available_time", TIME))
    op.add_column("payment", sa.Column("clear_time", TIME))
    waiting = sa.text("available_time IS NOT NULL AND clear_time IS NULL")
    op.create_index("payment_to_clear", "payment", ["available_time"], postgresql_where=waiting)
    op.create_index(
        "one_payment_of_transaction",
        "payment",
        ["transaction_id"],
        unique=True,
        postgresql_where=sa.text("transaction_id <> ''"),
    )


def _shares() -> None:
    op.create_table(
        "share",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("order_id", sa.Text, sa.ForeignKey("order.id"), nullable=False, unique=True),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("net_minor", sa.BigInteger, nullable=False),
        sa.Column("tax_minor", sa.BigInteger, nullable=False),
        sa.Column("fee_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("charge_id", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("hold_time", TIME, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("refunded_minor", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("owed_minor", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("deliver_time", TIME),
        sa.Column("frozen", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("release_time", TIME),
        sa.Column("reserve_minor", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("reserve_time", TIME),
        sa.Column("reserve_release_time", TIME),
        sa.Column("reversed_minor", sa.BigInteger, nullable=False, server_default="0"),
        sa.CheckConstraint("fee_minor BETWEEN 0 AND net_minor AND tax_minor >= 0", name="share_parts"),
        sa.CheckConstraint("refunded_minor BETWEEN 0 AND net_minor - fee_minor", name="share_refunded"),
        sa.CheckConstraint("reserve_minor >= 0 AND owed_minor >= 0 AND reversed_minor >= 0", name="share_amounts"),
    )
    op.create_index("share_held", "share", ["hold_time"], postgresql_where=sa.text("state = 1"))
    op.create_index("share_of_cooperative", "share", ["cooperative", sa.text("id DESC")])


def _invoices() -> None:
    op.create_table(
        "invoice_counter",
        sa.Column("seller", sa.Text, primary_key=True),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "invoice",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("order_id", sa.Text, sa.ForeignKey("order.id"), nullable=False),
        sa.Column("seller", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        # What a credit note is for: a refund's id, or "canceled". Empty for an invoice.
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("issue_time", TIME, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        # Canonical JSON of all it shows.
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("pdf_hash", sa.Text, nullable=False),
        sa.UniqueConstraint("seller", "position"),
        sa.UniqueConstraint("order_id", "kind", "cause"),
    )
    op.execute("""
        CREATE TRIGGER invoice_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)


def _bank_transfers() -> None:
    # One that waits has no order, and one that gave money back has an order that another one paid.
    op.alter_column("bank_transfer", "order_id", nullable=True)
    op.drop_constraint("bank_transfer_order_id_key", "bank_transfer", type_="unique")
    op.create_index("bank_transfer_of_order", "bank_transfer", ["order_id"])
    # What arrived; absent for a transfer of ours, and for one confirmed before this was kept.
    op.add_column("bank_transfer", sa.Column("amount_minor", sa.BigInteger))
    op.add_column("bank_transfer", sa.Column("currency", sa.Text))
    op.add_column("bank_transfer", sa.Column("text", sa.Text, nullable=False, server_default=""))
    op.add_column("bank_transfer", sa.Column("suspense_reason", sa.Text, nullable=False, server_default=""))
