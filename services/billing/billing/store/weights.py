"""Weights worked out elsewhere, as a cooperative signed them: files that come in parts and count once they are whole."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.store.dividend_tables import weight_file_table, weight_table

_file, _weight = weight_file_table.c, weight_table.c

_INSERT = sa.text(
    """
    INSERT INTO weight (cooperative, month, weights_hash, member_id, version, position, units)
    SELECT :cooperative, :month, :hash, member_id, version, :first + number - 1, units
    FROM unnest(:members, :versions, :units) WITH ORDINALITY AS new(member_id, version, units, number)
    ON CONFLICT DO NOTHING
    """
).bindparams(
    sa.bindparam("cooperative", type_=sa.Text),
    sa.bindparam("month", type_=sa.Text),
    sa.bindparam("hash", type_=sa.Text),
    sa.bindparam("first", type_=sa.Integer),
    sa.bindparam("members", type_=ARRAY(sa.Text)),
    sa.bindparam("versions", type_=ARRAY(sa.Text)),
    sa.bindparam("units", type_=ARRAY(sa.BigInteger)),
)


async def open_file(
    connection: AsyncConnection, cooperative: str, month: str, weights_hash: str, key_id: str
) -> tuple[int, bool]:
    """How many weights of a file are there, and whether it is whole; held until the transaction ends."""
    await connection.execute(
        upsert(weight_file_table)
        .values(cooperative=cooperative, month=month, weights_hash=weights_hash, key_id=key_id, weight_count=0)
        .on_conflict_do_nothing()
    )
    row = (
        await connection.execute(
            sa.select(_file.weight_count, _file.complete_time)
            .where(_file.cooperative == cooperative, _file.month == month, _file.weights_hash == weights_hash)
            .with_for_update()
        )
    ).one()
    return row.weight_count, row.complete_time is not None


async def add(
    connection: AsyncConnection,
    cooperative: str,
    month: str,
    weights_hash: str,
    first: int,
    weights: Sequence[tuple[str, str, int]],
) -> bool:
    """Member, version and units of each; whether none was there before."""
    members, versions, units = (list(column) for column in zip(*weights, strict=True)) if weights else ([], [], [])
    added = await connection.execute(
        _INSERT,
        {
            "cooperative": cooperative,
            "month": month,
            "hash": weights_hash,
            "first": first,
            "members": members,
            "versions": versions,
            "units": units,
        },
    )
    await connection.execute(
        weight_file_table.update()
        .where(_file.cooperative == cooperative, _file.month == month, _file.weights_hash == weights_hash)
        .values(weight_count=first + len(weights))
    )
    return added.rowcount == len(weights)


async def hash_of(connection: AsyncConnection, cooperative: str, month: str, weights_hash: str) -> str:
    """SHA-256 over whose and when they are, and the weights that are there in their order, as the contract says it."""
    found = hashlib.sha256(f"cooperatives/{cooperative}\t{month}\n".encode())
    for member, version, units in await _of(connection, cooperative, month, weights_hash):
        found.update(f"cooperatives/{cooperative}/members/{member}\t{version}\t{units}\n".encode())
    return found.hexdigest()


async def complete(
    connection: AsyncConnection, cooperative: str, month: str, weights_hash: str, at: dt.datetime
) -> None:
    await connection.execute(
        weight_file_table.update()
        .where(_file.cooperative == cooperative, _file.month == month, _file.weights_hash == weights_hash)
        .values(complete_time=at)
    )


async def of_month(connection: AsyncConnection, cooperative: str, month: str) -> list[tuple[str, str, int]] | None:
    """Member, version and units of the file that was completed last; None without one."""
    statement = (
        sa.select(_file.weights_hash)
        .where(_file.cooperative == cooperative, _file.month == month, _file.complete_time.is_not(None))
        .order_by(_file.complete_time.desc())
        .limit(1)
    )
    weights_hash = (await connection.execute(statement)).scalar_one_or_none()
    return None if weights_hash is None else await _of(connection, cooperative, month, weights_hash)


async def _of(
    connection: AsyncConnection, cooperative: str, month: str, weights_hash: str
) -> list[tuple[str, str, int]]:
    statement = (
        sa.select(_weight.member_id, _weight.version, _weight.units)
        .where(_weight.cooperative == cooperative, _weight.month == month, _weight.weights_hash == weights_hash)
        .order_by(_weight.position)
    )
    return [(row.member_id, row.version, row.units) for row in await connection.execute(statement)]
