"""Shares as rows. Whoever changes one holds its order's lock first, then its own; the ledger comes after both."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.shares import Share, ShareState
from billing.store.share_tables import share_table

_table = share_table
_FIELDS = tuple(field.name for field in dataclasses.fields(Share))
# What a payment made never changes.
_CHANGING = _FIELDS[_FIELDS.index("state") :]


def share_from(row: Any) -> Share:
    return dataclasses.replace(Share(**{name: getattr(row, name) for name in _FIELDS}), state=ShareState(row.state))


async def insert(connection: AsyncConnection, share: Share) -> None:
    await connection.execute(_table.insert().values({name: getattr(share, name) for name in _FIELDS}))


async def lock(connection: AsyncConnection, order_id: str) -> Share | None:
    """The share of an order, held until the transaction ends; None before it is paid, and for one that cost nothing. The
    caller holds the order's lock."""
    statement = sa.select(_table).where(_table.c.order_id == order_id).with_for_update()
    row = (await connection.execute(statement)).first()
    return share_from(row) if row is not None else None


async def save(connection: AsyncConnection, share: Share) -> None:
    """What may change of a share. The caller holds its lock."""
    values = {name: getattr(share, name) for name in _CHANGING}
    await connection.execute(_table.update().where(_table.c.id == share.id).values(values))
