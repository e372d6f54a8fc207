"""Payout accounts as rows, and the bank accounts behind them, apart."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.payment_files import Account
from billing.domain.payout_accounts import PayoutAccount
from billing.store.treasury_tables import bank_account_table, payout_account_table
from rochdale.billing.v1 import treasury_pb2 as pb

_table = payout_account_table
_FIELDS = tuple(field.name for field in dataclasses.fields(PayoutAccount))


def _account(row: Any) -> PayoutAccount:
    values = {name: getattr(row, name) for name in _FIELDS}
    return PayoutAccount(**(values | {"requirements": tuple(row.requirements)}))


async def get(connection: AsyncConnection, cooperative: str) -> PayoutAccount | None:
    row = (await connection.execute(sa.select(_table).where(_table.c.cooperative == cooperative))).first()
    return _account(row) if row is not None else None


async def lock(connection: AsyncConnection, cooperative: str) -> PayoutAccount | None:
    """The account, held until the transaction ends: it cannot change while something is sent to it."""
    statement = sa.select(_table).where(_table.c.cooperative == cooperative).with_for_update()
    row = (await connection.execute(statement)).first()
    return _account(row) if row is not None else None


async def of_stripe(connection: AsyncConnection, stripe_account: str) -> PayoutAccount | None:
    row = (await connection.execute(sa.select(_table).where(_table.c.stripe_account == stripe_account))).first()
    return _account(row) if row is not None else None


async def all_of(connection: AsyncConnection) -> list[PayoutAccount]:
    """Every cooperative's; there is one each."""
    return [_account(row) for row in await connection.execute(sa.select(_table).order_by(_table.c.cooperative))]


async def save(connection: AsyncConnection, account: PayoutAccount) -> None:
    """Makes it, or changes it. The caller holds its lock where it was there."""
    values: dict[str, Any] = {name: getattr(account, name) for name in _FIELDS}
    values["requirements"] = list(account.requirements)
    statement = upsert(_table).values(values)
    changing = {name: statement.excluded[name] for name in _FIELDS if name not in ("cooperative", "create_time")}
    await connection.execute(statement.on_conflict_do_update(index_elements=["cooperative"], set_=changing))


async def claim_check(connection: AsyncConnection, before: dt.datetime, at: dt.datetime, limit: int) -> list[str]:
    """Cooperatives whose account at Stripe was not asked about since, marked as asked: one replica takes each."""
    due = (
        sa.select(_table.c.cooperative)
        .where(_table.c.rail == pb.PAYOUT_RAIL_STRIPE, _table.c.stripe_account != "")
        .where(sa.or_(_table.c.check_time.is_(None), _table.c.check_time <= before))
        .order_by(_table.c.check_time.nulls_first())
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    statement = (
        _table.update().where(_table.c.cooperative.in_(due)).values(check_time=at).returning(_table.c.cooperative)
    )
    return list((await connection.execute(statement)).scalars())


async def add_bank(connection: AsyncConnection, id: str, holder: str, iban: str) -> None:
    await connection.execute(bank_account_table.insert().values(id=id, holder=holder, iban=iban))


async def banks(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, Account]:
    """Bank accounts by id; one that was erased is missing."""
    statement = sa.select(bank_account_table).where(bank_account_table.c.id.in_(list(ids)))
    return {row.id: Account(row.holder, row.iban) for row in await connection.execute(statement)}


async def bank_of(connection: AsyncConnection, cooperative: str, now: dt.datetime) -> Account | None:
    """The bank account a cooperative is paid to and pays from; None while there is none that can be used."""
    account = await get(connection, cooperative)
    if account is None or account.rail != pb.PAYOUT_RAIL_BANK or not account.active(now):
        return None
    return (await banks(connection, [account.bank_account_id])).get(account.bank_account_id)
