"""Licensees as rows."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from licensing.store.tables import Row, licensee_table, negotiation_table
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import to_timestamp

_table = licensee_table


def _licensee_of(row: Row) -> pb.Licensee:
    return pb.Licensee(
        name=f"licensees/{row.id}",
        category=row.category,
        claimed_category=row.claimed_category,
        evidence=row.evidence,
        territory=row.territory,
        create_time=to_timestamp(row.create_time),
        attest_time=to_timestamp(row.attest_time),
    )


async def licensee(connection: AsyncConnection, id: str, *, lock: bool = False) -> pb.Licensee | None:
    """One licensee; lock=True keeps its category from changing until the transaction ends."""
    statement = sa.select(_table).where(_table.c.id == id)
    row = (await connection.execute(statement.with_for_update(read=True) if lock else statement)).first()
    return _licensee_of(row) if row is not None else None


async def licensee_seen_by(connection: AsyncConnection, id: str, organization: str) -> pb.Licensee | None:
    """A licensee that is the organization itself or has negotiated with it."""
    met = sa.exists().where(negotiation_table.c.licensee == id, negotiation_table.c.cooperative == organization)
    statement = sa.select(_table).where(_table.c.id == id, sa.or_(_table.c.id == organization, met))
    row = (await connection.execute(statement)).first()
    return _licensee_of(row) if row is not None else None


async def claim(
    connection: AsyncConnection, id: str, request: pb.RegisterLicenseeRequest, now: dt.datetime
) -> pb.Licensee:
    """The licensee with this claim, new or changed; either way its category waits for an attestation."""
    claimed = {
        "category": 0,
        "claimed_category": request.claimed_category,
        "evidence": request.evidence,
        "territory": request.territory,
        "attest_time": None,
    }
    statement = (
        insert(_table)
        .values(id=id, create_time=now, **claimed)
        .on_conflict_do_update(index_elements=["id"], set_=claimed)
        .returning(_table)
    )
    return _licensee_of((await connection.execute(statement)).one())


async def attest(connection: AsyncConnection, id: str, category: int, now: dt.datetime) -> pb.Licensee | None:
    statement = _table.update().where(_table.c.id == id).values(category=category, attest_time=now).returning(_table)
    row = (await connection.execute(statement)).first()
    return _licensee_of(row) if row is not None else None


async def licensees(
    connection: AsyncConnection, after: tuple[dt.datetime, str] | None, limit: int, unattested_only: bool
) -> list[pb.Licensee]:
    """Oldest first."""
    statement = sa.select(_table).order_by(_table.c.create_time, _table.c.id).limit(limit)
    if unattested_only:
        statement = statement.where(_table.c.attest_time.is_(None))
    if after is not None:
        statement = statement.where(sa.tuple_(_table.c.create_time, _table.c.id) > sa.tuple_(*map(sa.literal, after)))
    return [_licensee_of(row) for row in await connection.execute(statement)]
