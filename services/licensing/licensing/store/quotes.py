"""Quotes as rows."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from licensing.domain.quotes import Kept
from licensing.store.tables import bare, quote_table
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import from_timestamp


async def insert(connection: AsyncConnection, licensee: str, wish: pb.Wish, quote: pb.Quote) -> None:
    await connection.execute(
        quote_table.insert().values(
            id=bare(quote.name),
            licensee=licensee,
            offering=quote.offering,
            wish=wish.SerializeToString(),
            quote_hash=quote.quote_hash,
            expire_time=from_timestamp(quote.expire_time),
        )
    )


async def quote(connection: AsyncConnection, licensee: str, name: str) -> Kept | None:
    """One quote of this licensee's."""
    statement = sa.select(quote_table).where(quote_table.c.id == bare(name), quote_table.c.licensee == licensee)
    row = (await connection.execute(statement)).first()
    if row is None:
        return None
    return Kept(name, row.offering, pb.Wish.FromString(row.wish), row.quote_hash, row.expire_time)
