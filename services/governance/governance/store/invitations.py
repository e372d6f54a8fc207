"""Queries on invitations: the hash of a code, for whom it is, and with which key it was used."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.membership_tables import invitation_table
from rochdale.governance.v1 import membership_pb2 as pb


@dataclass(frozen=True)
class Invited:
    """An invitation. used_by_key: hash of the key it was used with, None while it was not."""

    reference: str
    email: str
    expire_time: dt.datetime
    used_by_key: bytes | None


async def save(
    connection: AsyncConnection, cooperative_id: str, invitations: Sequence[pb.Invitation], expire: dt.datetime
) -> bool:
    """Inviting a reference again replaces its code, used or not. False if a code is another invitation's."""
    table = invitation_table
    codes = {one.code_hash: one.reference for one in invitations}
    taken = await connection.execute(
        sa.select(table.c.code_hash, table.c.reference, table.c.cooperative_id).where(table.c.code_hash.in_(codes))
    )
    if any((row.cooperative_id, row.reference) != (cooperative_id, codes[row.code_hash]) for row in taken):
        return False
    rows = [
        {
            "cooperative_id": cooperative_id,
            "reference": one.reference,
            "code_hash": one.code_hash,
            "email": one.email,
            "expire_time": expire,
        }
        for one in invitations
    ]
    statement = insert(table).values(rows)
    changed = {name: statement.excluded[name] for name in ("code_hash", "email", "expire_time")}
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["cooperative_id", "reference"], set_={**changed, "used_by_key": None}
        )
    )
    return True


async def lock(connection: AsyncConnection, cooperative_id: str, code_hash: bytes) -> Invited | None:
    """The invitation with this code, for whoever uses it alone."""
    table = invitation_table
    statement = (
        sa.select(table)
        .where(table.c.cooperative_id == cooperative_id, table.c.code_hash == code_hash)
        .with_for_update()
    )
    row = (await connection.execute(statement)).first()
    return Invited(row.reference, row.email, row.expire_time, row.used_by_key) if row is not None else None


async def use(connection: AsyncConnection, cooperative_id: str, reference: str, key_hash: bytes) -> None:
    table = invitation_table
    await connection.execute(
        table.update()
        .where(table.c.cooperative_id == cooperative_id, table.c.reference == reference)
        .values(used_by_key=key_hash)
    )


async def forget(connection: AsyncConnection, cooperative_id: str, reference: str) -> None:
    table = invitation_table
    await connection.execute(
        table.delete().where(table.c.cooperative_id == cooperative_id, table.c.reference == reference)
    )
