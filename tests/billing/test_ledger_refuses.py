"""What the ledger's database refuses from whoever has the service's password, and what is found if it was not asked."""

from __future__ import annotations

import asyncpg
import pytest
from ledger_world import COOP, Books, charge, journal

from billing.main import MIGRATIONS
from rochdale_kit.database import migrate

# What the database refuses from somebody who has the service's password and none of its code.

NEW_JOURNAL = (
    "INSERT INTO journal (book, kind, key, currency, fingerprint, external_ref, occur_time)"
    " VALUES ('platform', 'x', 'x', 'EUR', '', '', now())"
)


def raw(*rows: tuple[int, str, int], key: str = "x") -> str:
    """One INSERT of lines (seq, code, amount) for the journal with this key; an unknown code gives an unknown id."""
    values = ", ".join(
        f"((SELECT id FROM journal WHERE key = '{key}'), {seq}, coalesce((SELECT id FROM account"
        f" WHERE format('%s/%s/%s', book, code, currency) IN ('{code}', 'platform/{code}/EUR')), -1), {amount})"
        for seq, code, amount in rows
    )
    return f"INSERT INTO entry (journal_id, seq, account_id, amount_minor) VALUES {values} RETURNING journal_id"


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ([NEW_JOURNAL], "has no lines"),
        ([NEW_JOURNAL, raw((1, "stripe:pending", 5))], "fewer than two lines"),
        ([NEW_JOURNAL, raw((1, "stripe:pending", 5), (2, "fee_revenue", -4))], "sums to 1, not to zero"),
        ([NEW_JOURNAL, raw((1, "stripe:pending", 5), (2, "fee_revenue", 0))], "entry_amount"),
        ([NEW_JOURNAL, raw((2, "stripe:pending", 5), (3, "fee_revenue", -5))], "not numbered from 1"),
        (
            [NEW_JOURNAL, raw((1, "stripe:pending", 5), (2, "coop:valley/surplus/EUR", -5))],
            "outside its book or currency",
        ),
        ([NEW_JOURNAL, raw((1, "stripe:pending", 5), (2, "nonsense", -5))], "outside its book or currency"),
        ([NEW_JOURNAL, raw((1, "stripe:pending", 5), (2, "platform/bank/USD", -5))], "outside its book or currency"),
        ([NEW_JOURNAL, raw((1, "stripe:pending", 5), (2, "coop:valley:pending", -5))], "running balance"),
        # Balancing lines on an old journal, and in the transaction that made a new one.
        ([raw((1, "stripe:pending", 5), (2, "fee_revenue", -5), key="charge:ch_1")], "entry_pkey"),
        ([raw((5, "stripe:pending", 5), (6, "fee_revenue", -5), key="charge:ch_1")], "not numbered from 1"),
        (
            [
                NEW_JOURNAL,
                raw((1, "stripe:pending", 5), (2, "fee_revenue", -5)),
                raw((3, "stripe:pending", 5), (4, "fee_revenue", -5)),
            ],
            "not numbered from 1",
        ),
        # A constraint made immediate in order to slip something in after it was checked.
        (["SET CONSTRAINTS ALL IMMEDIATE", NEW_JOURNAL], "has no lines"),
        (["UPDATE account SET balance_minor = 1 WHERE code = 'coop:valley:pending' RETURNING id"], "account_floor"),
    ],
)
async def test_the_database_itself_refuses(books: Books, statements: list[str], words: str) -> None:
    await books.post(charge())
    await books.post(journal("usd:1", ("stripe:pending", 5), ("bank", -5), currency="USD"))
    await books.post(journal("coop:1", ("bank", 5), ("surplus", -5), book=COOP))
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
        await books.execute(*statements)
    assert words in str(caught.value)
    assert await books.flaws() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET amount_minor = 1",
        "DELETE FROM entry",
        "TRUNCATE entry",
        "UPDATE journal SET external_ref = ''",
        "DELETE FROM journal",
        "TRUNCATE journal, entry",
        "UPDATE account SET floor = -1000",
        "UPDATE account SET kind = 1",
        "UPDATE account SET book = 'coop:other'",
        "UPDATE account SET code = 'bank'",
        "DELETE FROM account",
        "TRUNCATE account, entry",
    ],
)
async def test_what_was_posted_stays(books: Books, statement: str) -> None:
    await books.post(charge())
    # The service's role has no right to; the owner, who has every right, meets a trigger.
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await books.execute(statement)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="what was posted stays"):
        await books.execute(statement, owner=True)
    assert await books.balance("coop:valley:pending") == 9_500


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE entry DISABLE TRIGGER ALL",
        "DROP TABLE entry",
        "CREATE TABLE mine (id int)",
        "UPDATE alembic_version SET version_num = '0001'",
        "SET session_replication_role = replica",
        # A time or an id of its own choosing.
        NEW_JOURNAL.replace("occur_time)", "occur_time, record_time)").replace("now())", "now(), '2020-01-01')"),
    ],
)
async def test_the_role_that_serves_cannot_make_itself_room(books: Books, statement: str) -> None:
    await books.post(charge())
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await books.execute(statement)


async def test_every_other_table_is_the_services_to_use_also_one_made_later(books: Books) -> None:
    tables = await books.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_name NOT IN"
        " ('account', 'journal', 'entry', 'alembic_version')"
    )
    assert len(tables) > 8
    for [table] in tables:
        [[may]] = await books.execute(f"SELECT has_table_privilege('\"{table}\"', 'SELECT, INSERT, UPDATE, DELETE')")
        assert may, table


async def test_a_ledger_that_was_served_by_its_owner_is_taken_out_of_its_hands(books: Books) -> None:
    await books.post(charge())
    role = books.url.split("//")[1].split(":")[0]
    # As it was before there were two roles, and as somebody may make it again.
    await books.execute(
        f'GRANT ALL ON entry, journal, account TO "{role}"', f'GRANT ALL ON alembic_version TO "{role}"', owner=True
    )
    # A restart migrates again.
    await migrate(books.owner_url, MIGRATIONS, role)
    [row] = await books.execute(
        "SELECT has_table_privilege('entry', 'UPDATE') OR has_table_privilege('entry', 'TRUNCATE') AS entry,"
        " has_table_privilege('journal', 'DELETE') AS journal, has_any_column_privilege('journal', 'UPDATE') AS column,"
        " has_column_privilege('account', 'floor', 'UPDATE') AS floor"
    )
    assert not any(row.values())
    assert await books.post(charge(), charge("charge:ch_2")) == [False, True]


# What is found when somebody goes past the database.

POSTED = [
    ("entry", "UPDATE entry SET amount_minor = amount_minor + 1 WHERE seq = 1", "sums to 1", "is not what was posted"),
    ("entry", "DELETE FROM entry WHERE seq = 4", "sums to 500", "is not what was posted"),
    ("entry", "UPDATE entry SET seq = 9 WHERE seq = 4", "4 lines, numbered to 9"),
    ("journal", "UPDATE journal SET external_ref = key", "is not what was posted"),
    ("journal", "DELETE FROM journal", "is in no journal or on no account"),
    ("account", "UPDATE account SET balance_minor = balance_minor - 1 WHERE floor = 0", "is kept at -19001 EUR"),
    ("account", "UPDATE account SET version = 3 WHERE floor = 0", "and version 3, and its 2 lines"),
    ("account", "UPDATE account SET kind = 1 WHERE code = 'fee_revenue'", "is ASSET with the floor None"),
    ("account", "UPDATE account SET code = 'fee' WHERE code = 'fee_revenue'", "is not in the chart"),
    ("account", "UPDATE account SET currency = 'USD' WHERE code = 'fee_revenue'", "of its book and currency"),
    ("entry", "UPDATE entry SET balance_after_minor = 1 WHERE account_version = 1", "breaks at version 2", "below its"),
    ("entry", "UPDATE entry SET account_version = 5 WHERE account_version = 2", "breaks at version 5"),
    (
        "entry",
        "UPDATE entry SET account_version = NULL, balance_after_minor = NULL WHERE account_version = 2",
        "a running balance too many or too few",
    ),
]


@pytest.mark.parametrize("damage", POSTED, ids=lambda damage: damage[1])
async def test_damage_is_found_afterward(books: Books, damage: tuple[str, ...]) -> None:
    await books.post(charge(), charge("charge:ch_2"))
    table, statement, *words = damage
    await books.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_stays", statement + " RETURNING 1", owner=True)
    found = "\n".join(await books.flaws())
    assert all(each in found for each in words), found


async def test_what_platform_and_cooperative_owe_each_other_is_the_same_in_both_books(books: Books) -> None:
    await books.post(
        charge(),
        journal(
            "release:1",
            ("coop:valley:pending", 9_500),
            ("coop:valley:available", -9_000),
            ("coop:valley:reserve", -500),
        ),
        journal("release:1", ("due_from_platform", 9_500), ("surplus", -9_500), book=COOP),
    )
    assert await books.flaws() == []
    await books.post(journal("payout:1", ("coop:valley:available", 9_000), ("coop:valley:in_transit", -9_000)))
    assert await books.flaws() == []
    await books.post(
        journal("payout:1:done", ("coop:valley:in_transit", 9_000), ("stripe:available", -9_000)),
        journal("refund:1", ("coop:valley:receivable", 70), ("stripe:available", -70)),
    )
    assert await books.flaws() == [
        "due_from_platform of valley is 9500 EUR in its own book and 500 in the platform's",
        "due_to_platform of valley is 0 EUR in its own book and 70 in the platform's",
    ]
    await books.post(
        journal("payout:1:done", ("stripe_connect", 9_000), ("due_from_platform", -9_000), book=COOP),
        journal("refund:1", ("surplus", 70), ("due_to_platform", -70), book=COOP),
    )
    assert await books.flaws() == []
