"""A market that ran before its members voted: what it had is still there, and the release before still works beside us."""

import secrets
import shutil
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from licensing.main import MIGRATIONS
from rochdale_kit.database import migrate
from rochdale_local.postgres import Postgres

LICENSE = """
    INSERT INTO license (id, negotiation, offering, sharing_rule, rule_revision, licensee, cooperative, terms, terms_hash,
        state, pay_by_time, end_reason)
    VALUES (:id, :id, 'o', 'r', 1, 'acme', 'coop', '', '', 2, now(), '')
"""


async def test_what_was_agreed_before_is_kept_and_one_word_holds_its_year(postgres: Postgres, tmp_path: Path) -> None:
    name = f"licensing_before_{secrets.token_hex(4)}"
    await postgres.ensure_database(name, name, "test")
    url = postgres.dsn(name, name, "test")
    shutil.copy(MIGRATIONS / "0001_first.py", tmp_path)
    await migrate(url, tmp_path)
    engine = create_async_engine(url)

    async def agree(id: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(
                sa.text(
                    "INSERT INTO negotiation VALUES (:id, 'o', 'acme', 'coop', 4, '', 0, :id, now(), now())",
                ),
                {"id": id},
            )
            await connection.execute(sa.text(LICENSE), {"id": id})

    async with engine.begin() as connection:
        for statement in (
            "INSERT INTO licensee VALUES ('acme', 6, 6, 'HRB 1', 'DE', now(), now() - interval '10 days')",
            "INSERT INTO licensee VALUES ('lab', 0, 1, 'ROR', 'DE', now(), NULL)",
            "INSERT INTO rule_book VALUES ('coop')",
            "INSERT INTO sharing_rule VALUES ('r', 1, 'coop', 1, '', now(), NULL)",
            "INSERT INTO offering VALUES ('o', '')",
        ):
            await connection.execute(sa.text(statement))
    await agree("before")
    await engine.dispose()

    await migrate(url, MIGRATIONS)
    # The release before goes on writing until it is replaced.
    await agree("beside")
    async with engine.connect() as connection:
        licenses = (
            await connection.execute(sa.text("SELECT signature, member_recall, suspended_by FROM license"))
        ).all()
        attested = (
            await connection.execute(
                sa.text("SELECT id, attest_expire_time - attest_time, approved_category FROM licensee ORDER BY id")
            )
        ).all()
    assert [tuple(row) for row in licenses] == [(None, False, "")] * 2
    assert [(row[0], row[1] and row[1].days, row[2]) for row in attested] == [("acme", 365, 0), ("lab", None, 0)]
    await engine.dispose()
