"""Payouts, their transfers and reversals, and the files banks were given, as rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.payouts import LIVE, Asked, Part, Payout, Reversal, Transfer
from billing.store.treasury_tables import payment_file_table, payout_table, reversal_table, transfer_table
from rochdale.billing.v1 import treasury_pb2 as pb

_table = payout_table
_FIELDS = tuple(field.name for field in dataclasses.fields(Payout))
# What was written down first never changes, except that a transfer which Stripe refused leaves its payout.
_CHANGING = ("amount_minor", "state", "failure_code", "settle_time", "reference", "file_id")


def _payout(row: Any) -> Payout:
    return Payout(**{name: getattr(row, name) for name in _FIELDS})


def _transfer(row: Any) -> Transfer:
    return Transfer(
        id=row.id,
        payout_id=row.payout_id,
        part=Part(row.share_id, row.order_id, row.charge_id, row.amount_minor),
        attempt=row.attempt,
        create_time=row.create_time,
        state=Asked(row.state),
        rail_id=row.rail_id,
        failure_code=row.failure_code,
        reversed_minor=row.reversed_minor,
        settle_time=row.settle_time,
    )


async def insert(connection: AsyncConnection, payout: Payout) -> bool:
    """Whether nothing of this cooperative and currency is being paid already: the database allows one at a time."""
    statement = (
        upsert(_table)
        .values({name: getattr(payout, name) for name in _FIELDS})
        .on_conflict_do_nothing()
        .returning(_table.c.id)
    )
    return (await connection.execute(statement)).first() is not None


async def save(connection: AsyncConnection, payout: Payout) -> None:
    values = {name: getattr(payout, name) for name in _CHANGING}
    await connection.execute(_table.update().where(_table.c.id == payout.id).values(values))


async def lock(connection: AsyncConnection, id: str) -> Payout | None:
    row = (await connection.execute(sa.select(_table).where(_table.c.id == id).with_for_update())).first()
    return _payout(row) if row is not None else None


async def lock_all(connection: AsyncConnection, ids: Iterable[str]) -> list[Payout]:
    """Held until the transaction ends, in the order of their ids, as everybody takes them."""
    statement = sa.select(_table).where(_table.c.id.in_(list(ids))).order_by(_table.c.id).with_for_update()
    return [_payout(row) for row in await connection.execute(statement)]


async def lock_pending(
    connection: AsyncConnection, *, currency: str = "", cooperative: str = "", limit: int = 1000
) -> list[Payout]:
    """Those that wait for a bank's file, held until the transaction ends."""
    statement = sa.select(_table).where(_table.c.state == pb.PAYOUT_STATE_PENDING, _table.c.rail == pb.PAYOUT_RAIL_BANK)
    if currency:
        statement = statement.where(_table.c.currency == currency)
    if cooperative:
        statement = statement.where(_table.c.cooperative == cooperative)
    statement = statement.order_by(_table.c.id).limit(limit).with_for_update()
    return [_payout(row) for row in await connection.execute(statement)]


async def page(
    connection: AsyncConnection, cooperative: str | None, before: str | None, limit: int, state: int
) -> list[Payout]:
    """Newest first: ids sort by time. None for all cooperatives."""
    statement = sa.select(_table).order_by(_table.c.id.desc()).limit(limit)
    if cooperative is not None:
        statement = statement.where(_table.c.cooperative == cooperative)
    if before is not None:
        statement = statement.where(_table.c.id < before)
    if state:
        statement = statement.where(_table.c.state == state)
    return [_payout(row) for row in await connection.execute(statement)]


async def latest(connection: AsyncConnection, cooperative: str, currency: str) -> tuple[dt.datetime | None, bool]:
    """When the last payout was written down, and whether one is still on its way there that another must wait for."""
    waits = sa.or_(
        _table.c.state == pb.PAYOUT_STATE_PENDING,
        sa.and_(_table.c.rail == pb.PAYOUT_RAIL_STRIPE, _table.c.state.in_(LIVE)),
    )
    statement = sa.select(sa.func.max(_table.c.create_time), sa.func.coalesce(sa.func.bool_or(waits), False)).where(
        _table.c.cooperative == cooperative, _table.c.currency == currency
    )
    row = (await connection.execute(statement)).one()
    return row[0], row[1]


async def reference_used(connection: AsyncConnection, reference: str) -> bool:
    statement = sa.select(_table.c.id).where(_table.c.reference == reference, _table.c.rail == pb.PAYOUT_RAIL_BANK)
    return (await connection.execute(statement)).first() is not None


# Transfers


async def add_transfers(
    connection: AsyncConnection, payout_id: str, parts: Sequence[tuple[str, Part]], at: dt.datetime
) -> list[Transfer]:
    """The parts of a payout, by new ids. A share's attempts are numbered: each is asked for under another key."""
    shares = [part.share_id for _, part in parts if part.share_id]
    counted = sa.select(transfer_table.c.share_id, sa.func.max(transfer_table.c.attempt)).where(
        transfer_table.c.share_id.in_(shares)
    )
    tried = {row[0]: row[1] for row in await connection.execute(counted.group_by(transfer_table.c.share_id))}
    made = [Transfer(id, payout_id, part, tried.get(part.share_id, 0) + 1, at) for id, part in parts]
    values = [
        {
            "id": one.id,
            "payout_id": payout_id,
            "share_id": one.part.share_id,
            "order_id": one.part.order_id,
            "charge_id": one.part.charge_id,
            "attempt": one.attempt,
            "amount_minor": one.part.amount_minor,
            "state": int(one.state),
            "rail_id": "",
            "failure_code": "",
            "reversed_minor": 0,
            "create_time": at,
        }
        for one in made
    ]
    await connection.execute(transfer_table.insert().values(values))
    return made


async def save_transfer(connection: AsyncConnection, transfer: Transfer) -> None:
    await connection.execute(
        transfer_table.update()
        .where(transfer_table.c.id == transfer.id)
        .values(
            state=int(transfer.state),
            rail_id=transfer.rail_id,
            failure_code=transfer.failure_code,
            reversed_minor=transfer.reversed_minor,
            settle_time=transfer.settle_time,
        )
    )


async def settle_transfers(connection: AsyncConnection, payout_id: str, state: Asked, at: dt.datetime) -> None:
    """All parts of a payout to a bank at once."""
    await connection.execute(
        transfer_table.update().where(transfer_table.c.payout_id == payout_id).values(state=int(state), settle_time=at)
    )


async def transfers_of(connection: AsyncConnection, payout_id: str) -> list[Transfer]:
    statement = sa.select(transfer_table).where(transfer_table.c.payout_id == payout_id).order_by(transfer_table.c.id)
    return [_transfer(row) for row in await connection.execute(statement)]


async def _with_payouts(connection: AsyncConnection, statement: sa.Select[Any]) -> list[tuple[Transfer, Payout]]:
    transfers = [_transfer(row) for row in await connection.execute(statement)]
    chosen = sa.select(_table).where(_table.c.id.in_({transfer.payout_id for transfer in transfers}))
    payouts = {row.id: _payout(row) for row in await connection.execute(chosen)}
    return [(transfer, payouts[transfer.payout_id]) for transfer in transfers]


async def transfer_and_payout(connection: AsyncConnection, id: str) -> tuple[Transfer, Payout]:
    statement = sa.select(transfer_table).where(transfer_table.c.id == id)
    return (await _with_payouts(connection, statement))[0]


async def to_send(connection: AsyncConnection, limit: int) -> list[tuple[Transfer, Payout]]:
    """Transfers Stripe has not answered, oldest first, with their payouts."""
    statement = (
        sa.select(transfer_table)
        .join(payout_table, payout_table.c.id == transfer_table.c.payout_id)
        .where(transfer_table.c.state == Asked.PENDING, payout_table.c.rail == pb.PAYOUT_RAIL_STRIPE)
        .order_by(transfer_table.c.create_time, transfer_table.c.id)
        .limit(limit)
    )
    return await _with_payouts(connection, statement)


async def sent_of_share(connection: AsyncConnection, share_id: str) -> list[tuple[Transfer, Payout]]:
    """What arrived of a share at Stripe and can be asked back, newest first."""
    statement = (
        sa.select(transfer_table)
        .where(transfer_table.c.share_id == share_id, transfer_table.c.state == Asked.DONE)
        .where(transfer_table.c.rail_id != "", transfer_table.c.reversed_minor < transfer_table.c.amount_minor)
        .order_by(transfer_table.c.id.desc())
    )
    return await _with_payouts(connection, statement)


async def lock_transfer(connection: AsyncConnection, id: str) -> Transfer:
    row = (await connection.execute(sa.select(transfer_table).where(transfer_table.c.id == id).with_for_update())).one()
    return _transfer(row)


async def sent_of(connection: AsyncConnection, rail_ids: Iterable[str]) -> list[tuple[Transfer, Payout]]:
    """Those of ours among transfers that Stripe names."""
    statement = sa.select(transfer_table).where(transfer_table.c.rail_id.in_(list(rail_ids)))
    return await _with_payouts(connection, statement)


# Reversals


async def pending_reversals(connection: AsyncConnection, limit: int) -> list[Reversal]:
    statement = (
        sa.select(reversal_table)
        .where(reversal_table.c.state == Asked.PENDING)
        .order_by(reversal_table.c.create_time)
        .limit(limit)
    )
    return [
        Reversal(row.id, row.transfer_id, row.attempt, row.amount_minor, row.create_time)
        for row in await connection.execute(statement)
    ]


async def being_reversed(connection: AsyncConnection, cooperative: str, currency: str) -> int:
    """What a cooperative was asked to give back and has not answered yet."""
    statement = (
        sa.select(sa.cast(sa.func.coalesce(sa.func.sum(reversal_table.c.amount_minor), 0), sa.BigInteger))
        .join(transfer_table, transfer_table.c.id == reversal_table.c.transfer_id)
        .join(_table, _table.c.id == transfer_table.c.payout_id)
        .where(reversal_table.c.state == Asked.PENDING)
        .where(_table.c.cooperative == cooperative, _table.c.currency == currency)
    )
    return int((await connection.execute(statement)).scalar_one())


async def last_reversal(connection: AsyncConnection, transfer_id: str) -> tuple[int, dt.datetime | None]:
    """The number of the last attempt and its time; 0 and None before the first."""
    statement = sa.select(
        sa.func.coalesce(sa.func.max(reversal_table.c.attempt), 0), sa.func.max(reversal_table.c.create_time)
    ).where(reversal_table.c.transfer_id == transfer_id)
    row = (await connection.execute(statement)).one()
    return row[0], row[1]


async def insert_reversal(connection: AsyncConnection, reversal: Reversal) -> bool:
    """Whether none of the transfer is under way."""
    statement = (
        upsert(reversal_table)
        .values(
            id=reversal.id,
            transfer_id=reversal.transfer_id,
            attempt=reversal.attempt,
            amount_minor=reversal.amount_minor,
            state=int(Asked.PENDING),
            rail_id="",
            failure_code="",
            create_time=reversal.create_time,
        )
        .on_conflict_do_nothing()
        .returning(reversal_table.c.id)
    )
    return (await connection.execute(statement)).first() is not None


async def settle_reversal(
    connection: AsyncConnection, id: str, state: Asked, rail_id: str, failure_code: str, at: dt.datetime
) -> bool:
    """Whether it was still pending."""
    statement = (
        reversal_table.update()
        .where(reversal_table.c.id == id, reversal_table.c.state == Asked.PENDING)
        .values(state=int(state), rail_id=rail_id, failure_code=failure_code, settle_time=at)
        .returning(reversal_table.c.id)
    )
    return (await connection.execute(statement)).first() is not None


# Files


async def add_file(
    connection: AsyncConnection, id: str, format: int, currency: str, file: pb.PaymentFile, by: str, at: dt.datetime
) -> None:
    await connection.execute(
        payment_file_table.insert().values(
            id=id,
            format=format,
            currency=currency,
            content_hash=file.content_hash,
            file=file.SerializeToString(),
            made_by=by,
            create_time=at,
        )
    )


async def file_of(
    connection: AsyncConnection, id: str, payouts: Iterable[str], format: int, currency: str
) -> pb.PaymentFile | None:
    """The file, if it is of exactly these payouts and in this format."""
    row = (await connection.execute(sa.select(payment_file_table).where(payment_file_table.c.id == id))).one()
    inside = set((await connection.execute(sa.select(_table.c.id).where(_table.c.file_id == id))).scalars())
    if (row.format, row.currency) != (format, currency) or inside != set(payouts):
        return None
    return pb.PaymentFile.FromString(row.file)
