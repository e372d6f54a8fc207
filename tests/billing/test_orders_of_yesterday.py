"""Orders made before they had lines and quotes: the new schema bills them as they were, and their payments count."""

import secrets
import shutil
from pathlib import Path

import asyncpg
import pytest

from billing.main import MIGRATIONS
from billing.store import orders, payments
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.database import Database, migrate
from rochdale_local.postgres import Postgres

_TIME = "'2026-01-02T03:04:05Z'"


async def test_what_was_owed_and_paid_yesterday_still_is(postgres: Postgres, tmp_path: Path) -> None:
    name = f"yesterday_{secrets.token_hex(4)}"
    await postgres.ensure_database(name, name, "test")
    url = postgres.dsn(name, name, "test")
    for migration in ("0001_first.py", "0002_ledger.py"):
        shutil.copy(MIGRATIONS / migration, tmp_path / migration)
    await migrate(url, tmp_path)
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    for number, (state, paid) in enumerate(((1, "NULL"), (2, _TIME)), start=1):
        await connection.execute(f"""
            INSERT INTO "order" (id, license, buyer, seller, amount_minor, currency, terms_hash, payment_reference,
                                 create_time, due_time, state, closing, pay_time)
            VALUES ('ord_{number}', 'licenses/lic_{number}', 'acme', 'valley-health', 700, 'EUR', 'terms', 'RD-{number}',
                    {_TIME}, {_TIME}, {state}, '', {paid});
            INSERT INTO payment (id, order_id, method, state, success_url, cancel_url, intent_id, client_secret, session_id,
                                 checkout_url, failure_code, refund_due, refund_id, create_time, ask_time)
            VALUES ('pay_{number}', 'ord_{number}', 1, {state + 1}, '', '', 'pi_{number}', '', '', '', '', false, '',
                    {_TIME}, {_TIME});
        """)
    await connection.execute(f"INSERT INTO bank_transfer VALUES ('BANK-1', 'ord_2', 'key', {_TIME})")
    await migrate(url, MIGRATIONS)
    with pytest.raises(asyncpg.PostgresError, match="never changes"):
        await connection.execute("""UPDATE "order" SET quote_hash = 'new'""")
    await connection.close()

    database = Database(url, pool_size=1)
    async with database.read() as read:
        first, second = [await orders.get(read, f"ord_{number}") for number in (1, 2)]
        live, settled = await payments.live_of(read, "ord_1"), await payments.succeeded(read, "ord_2")
    await database.close()
    assert first is not None and second is not None
    amount = Money(amount_minor=700, currency="EUR")
    assert first.kind == pb.ORDER_KIND_LICENSE and first.net == first.amount == amount
    assert [line.amount for line in first.lines] == [amount] and not first.tax_lines
    assert (first.quote_hash, first.terms_hash, first.state) == ("", "terms", pb.ORDER_STATE_OPEN)
    assert second.pay_time is not None and second.state == pb.ORDER_STATE_PAID
    # Its money came before there were books; what they never had, they never let out.
    assert live is not None and settled is not None and settled.taken is None
