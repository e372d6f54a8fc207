"""Shares on their way to be free: which are due, which were delivered, and how they are listed. Rows: store/shares.py."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.ledger import PLATFORM
from billing.domain.payouts import Asked, Payable
from billing.domain.releases import Shown
from billing.domain.shares import ShareState
from billing.store.ledger_tables import account_table
from billing.store.refund_tables import refund_table
from billing.store.share_tables import share_table
from billing.store.shares import share_from
from billing.store.tables import order_table
from billing.store.treasury_tables import reversal_table, transfer_table
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import treasury_pb2

_table, _share = share_table, share_table.c
_amount = _share.net_minor - _share.fee_minor - _share.refunded_minor
_used_before = sa.exists().where(order_table.c.id == _share.order_id, order_table.c.kind == pb.ORDER_KIND_USAGE)
_refund_pending = sa.exists().where(
    refund_table.c.order_id == _share.order_id, refund_table.c.state == pb.REFUND_STATE_PENDING
)


def _transferred(*states: Asked) -> sa.ScalarSelect[Any]:
    amount = sa.func.sum(transfer_table.c.amount_minor - transfer_table.c.reversed_minor)
    chosen = sa.select(sa.cast(sa.func.coalesce(amount, 0), sa.BigInteger)).where(
        transfer_table.c.share_id == _share.id, transfer_table.c.state.in_(states)
    )
    return chosen.scalar_subquery()


_sent = _transferred(Asked.DONE)
_asked = _transferred(Asked.DONE, Asked.PENDING)
_select = sa.select(
    _table, _used_before.label("used_before"), _refund_pending.label("refund_pending"), _sent.label("sent_minor")
)


def _shown(row: Any, delivery_deadline: dt.timedelta) -> Shown:
    return Shown(share_from(row), delivery_deadline, row.refund_pending, row.used_before, row.sent_minor)


async def deliver(connection: AsyncConnection, license: str, now: dt.datetime) -> int:
    """Notes that a license was used; how many of its shares were delivered by that."""
    orders = sa.select(order_table.c.id).where(order_table.c.license == license)
    statement = (
        _table.update().where(_share.order_id.in_(orders), _share.deliver_time.is_(None)).values(deliver_time=now)
    )
    return (await connection.execute(statement)).rowcount


async def due(connection: AsyncConnection, now: dt.datetime, delivery_deadline: dt.timedelta, limit: int) -> list[str]:
    """Orders whose share may be free; whether it is, is decided with its lock."""
    statement = (
        sa.select(_share.order_id)
        .where(
            _share.state == ShareState.HELD,
            _share.hold_time <= now,
            ~_share.frozen,
            _amount > 0,
            sa.or_(_share.deliver_time.is_not(None), _used_before, _share.hold_time <= now - delivery_deadline),
            ~_refund_pending,
        )
        .order_by(_share.hold_time)
        .limit(limit)
    )
    return list((await connection.execute(statement)).scalars())


async def reserves_due(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[str]:
    """Orders of whose share the rolling reserve is over."""
    statement = (
        sa.select(_share.order_id)
        .where(_share.state == ShareState.RELEASED, _share.reserve_minor > 0, _share.reserve_release_time <= now)
        .where(~_share.frozen)
        .order_by(_share.reserve_release_time)
        .limit(limit)
    )
    return list((await connection.execute(statement)).scalars())


async def get(connection: AsyncConnection, order_id: str, delivery_deadline: dt.timedelta) -> Shown | None:
    row = (await connection.execute(_select.where(_share.order_id == order_id))).first()
    return _shown(row, delivery_deadline) if row is not None else None


async def page(
    connection: AsyncConnection,
    cooperative: str,
    before: str | None,
    limit: int,
    state: treasury_pb2.ShareState.ValueType,
    delivery_deadline: dt.timedelta,
) -> list[Shown]:
    """Newest first: ids sort by time."""
    statement = _select.where(_share.cooperative == cooperative).order_by(_share.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(_share.id < before)
    if state == treasury_pb2.SHARE_STATE_REVERSED:
        statement = statement.where(_amount == 0)
    elif state == treasury_pb2.SHARE_STATE_HELD:
        statement = statement.where(_amount > 0, _share.state == ShareState.HELD)
    elif state == treasury_pb2.SHARE_STATE_TRANSFERRED:
        statement = statement.where(_amount > 0, _share.state == ShareState.RELEASED, _sent >= _amount)
    elif state == treasury_pb2.SHARE_STATE_RELEASED:
        statement = statement.where(_amount > 0, _share.state == ShareState.RELEASED, _sent < _amount)
    return [_shown(row, delivery_deadline) for row in await connection.execute(statement)]


async def next_release(connection: AsyncConnection, cooperative: str) -> dt.datetime | None:
    """When the next held share is free at the earliest."""
    statement = sa.select(sa.func.min(_share.hold_time)).where(
        _share.cooperative == cooperative, _share.state == ShareState.HELD, _amount > 0, ~_share.frozen
    )
    found: dt.datetime | None = (await connection.execute(statement)).scalar_one()
    return found


async def payables(connection: AsyncConnection, cooperative: str, currency: str) -> list[Payable]:
    """What can still be sent of released shares, oldest release first. Read it while what is available is held."""
    left = _amount - _share.reserve_minor - _asked
    statement = (
        sa.select(_share.id, _share.order_id, _share.charge_id, left.label("left_minor"))
        .where(_share.cooperative == cooperative, _share.currency == currency, _share.state == ShareState.RELEASED)
        .where(left > 0)
        .order_by(_share.release_time, _share.id)
    )
    return [Payable(row.id, row.order_id, row.charge_id, row.left_minor) for row in await connection.execute(statement)]


async def oversent(connection: AsyncConnection, asked_before: dt.datetime, limit: int) -> list[tuple[str, str, int]]:
    """Shares of which more was sent than the cooperative still has, because of a refund or a lost dispute, and of which
    nothing was asked back since a time: id, cooperative, how much more.

    Only while the cooperative owes something: what was met by another share or netted was sent too much for good, and
    would stand before everybody else. What was never asked for comes first, and of that what was sent last, because an
    account is likelier to have it still.
    """
    more = _sent - _amount
    account, transfer, reversal = account_table.c, transfer_table.c, reversal_table.c
    owes = sa.exists().where(
        account.book == PLATFORM,
        account.code == sa.func.concat("coop:", _share.cooperative, ":receivable"),
        account.currency == _share.currency,
        account.balance_minor > 0,
    )
    asked = (
        sa.select(sa.func.max(reversal.create_time))
        .where(transfer.share_id == _share.id, reversal.transfer_id == transfer.id)
        .scalar_subquery()
    )
    statement = (
        sa.select(_share.id, _share.cooperative, more.label("more"))
        .where(_share.refunded_minor > 0, more > 0, owes, sa.or_(asked.is_(None), asked <= asked_before))
        .order_by(asked.nulls_first(), _share.id.desc())
    )
    return [(row.id, row.cooperative, row.more) for row in await connection.execute(statement.limit(limit))]
