"""The double-entry ledger: accounts, journals, entries, and what the database refuses of them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _tables()
    _history_stays()
    _journals_are_whole()
    _posting()
    _plans_stay_good()


def _tables() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("book", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("floor", sa.BigInteger),
        sa.Column("balance_minor", sa.BigInteger),
        sa.Column("version", sa.BigInteger),
        sa.UniqueConstraint("book", "code", "currency"),
        sa.CheckConstraint("kind BETWEEN 1 AND 5", name="account_kind"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="account_currency"),
        sa.CheckConstraint("num_nulls(floor, balance_minor, version) IN (0, 3)", name="account_cached"),
        # Assets (1) and expenses (5) grow by debits, the others by credits.
        sa.CheckConstraint(
            "CASE WHEN kind IN (1, 5) THEN balance_minor ELSE -balance_minor END >= floor", name="account_floor"
        ),
        # A new balance finds room beside the old one, and no index is touched.
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "journal",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("book", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("external_ref", sa.Text, nullable=False),
        sa.Column("occur_time", TIME, nullable=False),
        sa.Column("record_time", TIME, server_default=sa.func.now(), nullable=False),
        sa.UniqueConstraint("book", "key", name="journal_key"),
        sa.CheckConstraint("book <> '' AND kind <> '' AND key <> ''", name="journal_named"),
    )
    # The same money under another key cannot post twice.
    op.create_index(
        "journal_external_ref",
        "journal",
        ["book", "kind", "external_ref"],
        unique=True,
        postgresql_where=sa.text("external_ref <> ''"),
    )
    op.create_index("journal_of_book", "journal", ["book", "id"])
    # No foreign keys: each would look up one row a line, and `entries_are_whole` looks at all lines at once. Nothing
    # they could point to is ever deleted.
    op.create_table(
        "entry",
        sa.Column("journal_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("balance_after_minor", sa.BigInteger),
        sa.Column("account_version", sa.BigInteger),
        sa.CheckConstraint("amount_minor <> 0", name="entry_amount"),
        sa.CheckConstraint("num_nulls(balance_after_minor, account_version) IN (0, 2)", name="entry_chained"),
    )
    # An entry is in one of these two. The second answers the sum of a hot account from the index alone.
    op.create_index(
        "entry_chain",
        "entry",
        ["account_id", "account_version"],
        unique=True,
        postgresql_where=sa.text("account_version IS NOT NULL"),
    )
    op.create_index(
        "entry_sum",
        "entry",
        ["account_id", "journal_id"],
        postgresql_include=["amount_minor"],
        postgresql_where=sa.text("account_version IS NULL"),
    )


def _history_stays() -> None:
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% of % is refused: what was posted stays, and is corrected by another journal',
                TG_OP, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
        END $$
    """)
    for table, change in (
        ("journal", "UPDATE OR DELETE OR TRUNCATE"),
        ("entry", "UPDATE OR DELETE OR TRUNCATE"),
        # Only balance and version move.
        ("account", "UPDATE OF id, book, code, currency, kind, floor OR DELETE OR TRUNCATE"),
    ):
        op.execute(f"""
            CREATE TRIGGER {table}_stays BEFORE {change} ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
        """)


def _journals_are_whole() -> None:
    # All lines of a journal come in one statement, numbered from 1. A line added later would have to be number 1 too,
    # which the primary key refuses: the journal is sealed without a transaction id kept in a column, which another
    # cluster, after a restore, would give out again.
    op.execute("""
        CREATE FUNCTION require_whole_journals() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            bad record;
        BEGIN
            SELECT *
            INTO bad
            FROM (
                SELECT added.journal_id,
                       sum(added.amount_minor) AS total,
                       count(*) AS lines,
                       min(added.seq) = 1 AND max(added.seq) = count(*) AS numbered,
                       count(account.id) = count(*) AS known,
                       min(account.book) AS book, max(account.book) AS last_book,
                       min(account.currency) AS currency, max(account.currency) AS last_currency,
                       bool_and((account.floor IS NULL) = (added.account_version IS NULL)) AS chained
                FROM added LEFT JOIN account ON account.id = added.account_id
                GROUP BY added.journal_id
            ) AS whole
            LEFT JOIN journal ON journal.id = whole.journal_id
                AND journal.book = whole.book AND journal.book = whole.last_book
                AND journal.currency = whole.currency AND journal.currency = whole.last_currency
            WHERE total <> 0 OR lines < 2 OR NOT numbered OR NOT known OR NOT chained OR journal.id IS NULL
            LIMIT 1;
            IF FOUND THEN
                RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE =
                    'journal ' || bad.journal_id || CASE
                        WHEN bad.lines < 2 THEN ' has fewer than two lines'
                        WHEN NOT bad.numbered THEN ' is not numbered from 1, as lines added later are'
                        WHEN NOT bad.known OR bad.id IS NULL THEN ' has a line outside its book or currency'
                        WHEN NOT bad.chained THEN ' has a line with a running balance too many or too few'
                        ELSE ' sums to ' || bad.total || ', not to zero'
                    END;
            END IF;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER entries_are_whole AFTER INSERT ON entry REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION require_whole_journals()
    """)
    op.execute("""
        CREATE FUNCTION require_entries() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NOT EXISTS (SELECT FROM entry WHERE journal_id = NEW.id AND seq = 1) THEN
                RAISE EXCEPTION 'journal % has no lines', NEW.id USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN NULL;
        END $$
    """)
    # At the commit: until then the lines may still come. An empty journal would keep the real one from posting.
    op.execute("""
        CREATE CONSTRAINT TRIGGER journal_has_entries AFTER INSERT ON journal DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION require_entries()
    """)


def _posting() -> None:
    """What store/ledger.py posts with. They run with their caller's rights, and give none."""
    # The new ones by id; those that were posted before by fingerprint. Waits for whoever posts the same key.
    op.execute("""
        CREATE FUNCTION claim_journals(books text[], kinds text[], keys text[], currencies text[], fingerprints bytea[],
                                       external_refs text[], occur_times timestamptz[])
        RETURNS TABLE (id bigint, book text, key text, fingerprint bytea) LANGUAGE plpgsql AS $$
        #variable_conflict use_column
        DECLARE
            claimed bigint;
        BEGIN
            RETURN QUERY
                INSERT INTO journal (book, kind, key, currency, fingerprint, external_ref, occur_time)
                SELECT * FROM unnest(books, kinds, keys, currencies, fingerprints, external_refs, occur_times)
                ON CONFLICT (book, key) DO NOTHING
                RETURNING journal.id, journal.book, journal.key, NULL::bytea;
            GET DIAGNOSTICS claimed = ROW_COUNT;
            IF claimed < cardinality(keys) THEN
                -- Those of this call are among them too, told a second time; the caller knows them already.
                RETURN QUERY
                    SELECT NULL::bigint, journal.book, journal.key, journal.fingerprint
                    FROM unnest(books, keys) AS wanted (book, key)
                    JOIN journal ON journal.book = wanted.book AND journal.key = wanted.key;
            END IF;
        END $$
    """)
    # Balances are locked only when no account is missing, because new accounts come before balances in the order of
    # locks. FOR NO KEY UPDATE is what an update of a balance takes anyway.
    op.execute("""
        CREATE FUNCTION hold_accounts(books text[], codes text[], currencies text[])
        RETURNS TABLE (id bigint, book text, code text, currency text, kind smallint, floor bigint,
                       balance_minor bigint, version bigint) LANGUAGE plpgsql AS $$
        #variable_conflict use_column
        DECLARE
            ids bigint[] := ARRAY(
                SELECT account.id FROM unnest(books, codes, currencies) AS place (book, code, currency)
                JOIN account ON account.book = place.book AND account.code = place.code
                    AND account.currency = place.currency);
        BEGIN
            IF cardinality(ids) = cardinality(codes) THEN
                RETURN QUERY
                    SELECT account.id, account.book, account.code, account.currency, account.kind, account.floor,
                           account.balance_minor, account.version
                    FROM account WHERE account.id = ANY (ids) AND account.floor IS NOT NULL
                    ORDER BY account.id FOR NO KEY UPDATE;
            END IF;
            RETURN QUERY
                SELECT account.id, account.book, account.code, account.currency, account.kind, account.floor, 0::bigint,
                       0::bigint
                FROM account WHERE account.id = ANY (ids) AND account.floor IS NULL;
        END $$
    """)
    # The caller holds the accounts whose balances it gives.
    op.execute("""
        CREATE FUNCTION write_entries(ids bigint[], balances bigint[], versions bigint[], journal_ids bigint[],
                                      seqs integer[], account_ids bigint[], amounts bigint[], balances_after bigint[],
                                      account_versions bigint[])
        RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE account SET balance_minor = new.balance, version = new.version
            FROM unnest(ids, balances, versions) AS new (id, balance, version) WHERE account.id = new.id;
            INSERT INTO entry (journal_id, seq, account_id, amount_minor, balance_after_minor, account_version)
            SELECT * FROM unnest(journal_ids, seqs, account_ids, amounts, balances_after, account_versions);
        END $$
    """)


def _plans_stay_good() -> None:
    # A connection keeps the plan of a statement, perhaps from when the tables were small and reading them whole was
    # cheap. They grow, and every posting would read every journal and account until their statistics are taken anew.
    for function in (
        "require_whole_journals",
        "require_entries",
        "claim_journals",
        "hold_accounts",
        "write_entries",
    ):
        for plan in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
            op.execute(f"ALTER FUNCTION {function} SET {plan} = off")
