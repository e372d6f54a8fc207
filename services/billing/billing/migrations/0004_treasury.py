"""The treasury: payout accounts, payouts, transfers, files for banks, breaks, closed months."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _accounts()
    _payouts()
    _shares()
    _costs()
    _reconciliation()
    _closed_months()


def _accounts() -> None:
    # Apart from everything that names it, so that what identifies an account can be erased alone.
    op.create_table(
        "bank_account",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("iban", sa.Text, nullable=False),
    )
    op.create_table(
        "payout_account",
        sa.Column("cooperative", sa.Text, primary_key=True),
        sa.Column("rail", sa.SmallInteger, nullable=False),
        sa.Column("country", sa.Text, nullable=False),
        sa.Column("stripe_account", sa.Text, nullable=False),
        sa.Column("requirements", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("disabled_reason", sa.Text, nullable=False),
        sa.Column("can_receive", sa.Boolean, nullable=False),
        sa.Column("check_time", TIME),
        sa.Column("bank_account_id", sa.Text, nullable=False),
        sa.Column("iban_end", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("set_by", sa.Text, nullable=False),
        sa.Column("set_member", sa.Text, nullable=False),
        sa.Column("approved_by", sa.Text, nullable=False),
        sa.Column("usable_time", TIME),
        sa.Column("create_time", TIME, nullable=False),
        sa.CheckConstraint("rail IN (1, 2)", name="payout_account_rail"),
    )
    op.create_index(
        "one_stripe_account",
        "payout_account",
        ["stripe_account"],
        unique=True,
        postgresql_where=sa.text("stripe_account <> ''"),
    )


def _payouts() -> None:
    op.create_table(
        "payment_file",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("format", sa.SmallInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("file", sa.LargeBinary, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
    )
    op.create_table(
        "payout",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("rail", sa.SmallInteger, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
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
    op.create_index("payout_of_cooperative", "payout", ["cooperative", sa.text("id DESC")])
    op.create_index("payout_of_file", "payout", ["file_id"], postgresql_where=sa.text("file_id IS NOT NULL"))
    # Two replicas that both want to pay the same money: one of them does.
    op.create_index(
        "one_payout_at_once",
        "payout",
        ["cooperative", "currency"],
        unique=True,
        postgresql_where=sa.text("state = 1 OR (state = 2 AND rail = 1)"),
    )
    # The bank's reference confirms one payout; Stripe's belongs to a transfer.
    op.create_index(
        "one_payout_a_reference",
        "payout",
        ["reference"],
        unique=True,
        postgresql_where=sa.text("reference <> '' AND rail = 2"),
    )
    op.create_table(
        "transfer",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("payout_id", sa.Text, sa.ForeignKey("payout.id"), nullable=False),
        sa.Column("share_id", sa.Text, nullable=False),
        sa.Column("order_id", sa.Text, nullable=False),
        sa.Column("charge_id", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("rail_id", sa.Text, nullable=False),
        sa.Column("failure_code", sa.Text, nullable=False),
        sa.Column("reversed_minor", sa.BigInteger, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("settle_time", TIME),
        sa.CheckConstraint("reversed_minor BETWEEN 0 AND amount_minor", name="transfer_reversed"),
    )
    op.create_index("transfer_of_payout", "transfer", ["payout_id"])
    op.create_index("transfer_of_share", "transfer", ["share_id"])
    op.create_index("transfer_to_ask", "transfer", ["create_time"], postgresql_where=sa.text("state = 1"))
    # The key under which Stripe is asked is made of these two.
    op.create_index(
        "one_transfer_an_attempt",
        "transfer",
        ["share_id", "attempt"],
        unique=True,
        postgresql_where=sa.text("share_id <> ''"),
    )
    op.create_index(
        "one_transfer_at_rail", "transfer", ["rail_id"], unique=True, postgresql_where=sa.text("rail_id <> ''")
    )
    op.create_table(
        "reversal",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("transfer_id", sa.Text, sa.ForeignKey("transfer.id"), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("rail_id", sa.Text, nullable=False),
        sa.Column("failure_code", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("settle_time", TIME),
        sa.UniqueConstraint("transfer_id", "attempt"),
    )
    op.create_index(
        "one_reversal_at_once", "reversal", ["transfer_id"], unique=True, postgresql_where=sa.text("state = 1")
    )


def _shares() -> None:
    # What the treasurer looks for each round.
    op.create_index("share_reserve", "share", ["reserve_release_time"], postgresql_where=sa.text("reserve_minor > 0"))
    op.create_index("share_refunded", "share", ["id"], postgresql_where=sa.text("refunded_minor > 0"))


def _costs() -> None:
    op.create_table(
        "cost",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cooperative", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("recorded_by", sa.Text, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
    )
    op.create_index("cost_of_cooperative", "cost", ["cooperative", "create_time"])


def _reconciliation() -> None:
    op.create_table(
        "reconciliation",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("run_time", TIME, nullable=False),
        sa.Column("transaction_count", sa.Integer, nullable=False),
        sa.Column("open_break_count", sa.Integer, nullable=False),
        sa.Column("replayed_event_count", sa.Integer, nullable=False),
    )
    op.create_table(
        "break",
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
    op.create_index(
        "one_open_break",
        "break",
        ["check", "book", "subject"],
        unique=True,
        postgresql_where=sa.text("close_time IS NULL"),
    )
    op.create_index("break_of_book", "break", ["book", "id"])


def _closed_months() -> None:
    op.create_table(
        "closed_month",
        sa.Column("book", sa.Text, primary_key=True),
        sa.Column("month", sa.Text, primary_key=True),
        sa.Column("end_time", TIME, nullable=False),
        sa.Column("seal", sa.Text, nullable=False),
        sa.Column("close_time", TIME, nullable=False),
        sa.Column("closed_by", sa.Text, nullable=False),
    )
    op.execute("""
        CREATE TRIGGER closed_month_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON closed_month
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)
    # Posting shares the lock that closing takes alone: a month is not sealed while a journal of it is on its way.
    # 1847 is arbitrary; the second number is the book.
    op.execute("""
        CREATE FUNCTION keep_months_closed() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            late record;
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(1847, hashtext(book))
            FROM (SELECT DISTINCT book FROM added ORDER BY book) AS books;
            SELECT added.key, added.book, added.occur_time INTO late
            FROM added JOIN closed_month ON closed_month.book = added.book
            WHERE added.occur_time < closed_month.end_time LIMIT 1;
            IF FOUND THEN
                RAISE EXCEPTION '% of % happened at %, in a month that is closed', late.key, late.book, late.occur_time
                    USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER months_stay_closed AFTER INSERT ON journal REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION keep_months_closed()
    """)
