"""The ledger's tables, as migration 0002 makes them. What the database itself refuses is said there."""

from __future__ import annotations

import sqlalchemy as sa

from billing.store.tables import TIME, metadata

account_table = sa.Table(
    "account",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("book", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    # Without a floor the balance is the sum of the entries, and nobody waits for anybody.
    sa.Column("floor", sa.BigInteger),
    # Debits less credits, whatever the kind.
    sa.Column("balance_minor", sa.BigInteger),
    sa.Column("version", sa.BigInteger),
)
journal_table = sa.Table(
    "journal",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("book", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("external_ref", sa.Text, nullable=False),
    sa.Column("occur_time", TIME, nullable=False),
    sa.Column("record_time", TIME, nullable=False),
)
entry_table = sa.Table(
    "entry",
    metadata,
    sa.Column("journal_id", sa.BigInteger, primary_key=True),
    # 1, 2, 3 … in each journal.
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    # Both only where the account has a floor.
    sa.Column("balance_after_minor", sa.BigInteger),
    sa.Column("account_version", sa.BigInteger),
)
