"""Gateways and what each of them is told to refuse."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from access_broker.store.tables import feed_table, gateway_table, revocation_table
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale_kit.clock import to_timestamp


def _gateway_of(row: sa.Row[tuple[object, ...]]) -> pb.Gateway:
    return pb.Gateway(
        name=f"gateways/{row.cooperative}",
        public_url=row.public_url,
        control_address=row.control_address,
        register_time=to_timestamp(row.register_time),
    )


async def register_gateway(
    connection: AsyncConnection, cooperative: str, public_url: str, control_address: str, now: dt.datetime
) -> pb.Gateway:
    """The gateway as it is now; its feed begins with it, or before it if something was revoked already."""
    said = {"public_url": public_url, "control_address": control_address, "register_time": now}
    statement = (
        insert(gateway_table)
        .values(cooperative=cooperative, **said)
        .on_conflict_do_update(index_elements=["cooperative"], set_=said)
        .returning(gateway_table)
    )
    row = (await connection.execute(statement)).one()
    await connection.execute(
        insert(feed_table).values(cooperative=cooperative, last_sequence=0).on_conflict_do_nothing()
    )
    return _gateway_of(row)


async def gateway(connection: AsyncConnection, cooperative: str) -> pb.Gateway | None:
    statement = sa.select(gateway_table).where(gateway_table.c.cooperative == cooperative)
    row = (await connection.execute(statement)).first()
    return None if row is None else _gateway_of(row)


async def feeds(connection: AsyncConnection) -> list[tuple[str, int]]:
    """Every registered gateway with the last number committed to its feed."""
    statement = sa.select(gateway_table.c.cooperative, feed_table.c.last_sequence).join(
        feed_table, feed_table.c.cooperative == gateway_table.c.cooperative
    )
    return [(row.cooperative, row.last_sequence) for row in await connection.execute(statement)]


async def insert_revocation(
    connection: AsyncConnection,
    cooperative: str,
    kind: pb.RevocationKind.ValueType,
    subject: str,
    now: dt.datetime,
    forget_time: dt.datetime | None,
) -> pb.Revocation:
    """The next entry of a gateway's feed."""
    # The update holds the feed's row until the commit: the next number is given out only when this one is there to be
    # read, or was never used. A database sequence would leave a gap behind every rollback, and a gap looks like a miss.
    number = (
        await connection.execute(
            insert(feed_table)
            .values(cooperative=cooperative, last_sequence=1)
            .on_conflict_do_update(
                index_elements=["cooperative"], set_={"last_sequence": feed_table.c.last_sequence + 1}
            )
            .returning(feed_table.c.last_sequence)
        )
    ).scalar_one()
    row = (
        await connection.execute(
            revocation_table.insert()
            .values(
                cooperative=cooperative,
                sequence=number,
                kind=kind,
                subject=subject,
                revoke_time=now,
                forget_time=forget_time,
            )
            .returning(revocation_table)
        )
    ).one()
    return _revocation_of(row)


def _revocation_of(row: sa.Row[tuple[object, ...]]) -> pb.Revocation:
    return pb.Revocation(
        sequence=row.sequence,
        kind=row.kind,
        subject=row.subject,
        revoke_time=to_timestamp(row.revoke_time),
        forget_time=to_timestamp(row.forget_time),
    )


async def revocations(
    connection: AsyncConnection, cooperative: str, after: int, limit: int
) -> tuple[list[pb.Revocation], int]:
    """A page of a gateway's feed in order, and the last number in it."""
    last = (
        await connection.execute(sa.select(feed_table.c.last_sequence).where(feed_table.c.cooperative == cooperative))
    ).scalar_one_or_none() or 0
    table = revocation_table
    rows = await connection.execute(
        sa.select(table)
        # Up to `last`, so that one recorded between the two queries is not shown beyond the end that was told.
        .where(table.c.cooperative == cooperative, table.c.sequence > after, table.c.sequence <= last)
        .order_by(table.c.sequence)
        .limit(limit)
    )
    return [_revocation_of(row) for row in rows], last
