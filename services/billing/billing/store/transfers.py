"""Transfers at the bank as rows, each of the bank's own references once: those that paid, wait, or gave money back."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.store.tables import bank_transfer_table
from rochdale.type.v1.money_pb2 import Money

_table = bank_transfer_table


@dataclass(frozen=True)
class Transfer:
    """A transfer. `amount` is what arrived; absent for one of ours. Without an order it waits in suspense."""

    bank_reference: str
    order_id: str | None
    amount: Money | None
    suspense_reason: str

    @property
    def waits(self) -> bool:
        return self.order_id is None


async def claim(
    connection: AsyncConnection,
    bank_reference: str,
    order_id: str | None,
    by: str,
    now: dt.datetime,
    *,
    amount: Money | None = None,
    text: str = "",
    suspense_reason: str = "",
) -> bool:
    """Whether the bank's reference is new; then it is booked for good. Waits for another transaction that claims it."""
    statement = (
        upsert(_table)
        .values(
            bank_reference=bank_reference,
            order_id=order_id,
            confirmed_by=by,
            confirm_time=now,
            amount_minor=amount.amount_minor if amount is not None else None,
            currency=amount.currency if amount is not None else None,
            text=text,
            suspense_reason=suspense_reason,
        )
        .on_conflict_do_nothing(index_elements=["bank_reference"])
        .returning(_table.c.bank_reference)
    )
    return (await connection.execute(statement)).first() is not None


async def lock(connection: AsyncConnection, bank_reference: str) -> Transfer | None:
    """The transfer, held until the transaction ends. The caller holds the lock of the order it is meant for."""
    statement = sa.select(_table).where(_table.c.bank_reference == bank_reference).with_for_update()
    row = (await connection.execute(statement)).first()
    return _transfer(row) if row is not None else None


async def get(connection: AsyncConnection, bank_reference: str) -> Transfer | None:
    row = (await connection.execute(sa.select(_table).where(_table.c.bank_reference == bank_reference))).first()
    return _transfer(row) if row is not None else None


async def match(connection: AsyncConnection, bank_reference: str, order_id: str, by: str, now: dt.datetime) -> None:
    """One that waited pays an order after all. The caller holds its lock."""
    await connection.execute(
        _table.update()
        .where(_table.c.bank_reference == bank_reference)
        .values(order_id=order_id, confirmed_by=by, confirm_time=now)
    )


def _transfer(row: Any) -> Transfer:
    amount = None if row.amount_minor is None else Money(amount_minor=row.amount_minor, currency=row.currency)
    return Transfer(row.bank_reference, row.order_id, amount, row.suspense_reason)
