"""Our own copy of the offerings."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from licensing.store.tables import offering_table
from rochdale.catalog.v1 import catalog_pb2

_table = offering_table


async def keep(connection: AsyncConnection, offering: catalog_pb2.Offering) -> None:
    """Writes an offering down. A closed one stays closed, even if its publication is heard of later."""
    statement = insert(_table).values(name=offering.name, body=offering.SerializeToString())
    if offering.state == catalog_pb2.OFFERING_STATE_OPEN:
        statement = statement.on_conflict_do_nothing()
    else:
        statement = statement.on_conflict_do_update(index_elements=["name"], set_={"body": statement.excluded.body})
    await connection.execute(statement)


async def offering(connection: AsyncConnection, name: str, *, lock: bool = False) -> catalog_pb2.Offering | None:
    """One offering; lock=True makes signatures under it come one after the other, so that they can be counted."""
    statement = sa.select(_table.c.body).where(_table.c.name == name)
    # NO KEY UPDATE: a quote, whose foreign key looks at the row, need not wait for a signature.
    locked = statement.with_for_update(key_share=True) if lock else statement
    body = (await connection.execute(locked)).scalar_one_or_none()
    return catalog_pb2.Offering.FromString(body) if body is not None else None
