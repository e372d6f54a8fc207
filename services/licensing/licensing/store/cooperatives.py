"""Cooperatives as governance told of them: their public keys, and how long they may take to answer a request."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from licensing.store.tables import bare, cooperative_table
from rochdale.governance.v1 import governance_pb2

_table = cooperative_table


async def cooperative(connection: AsyncConnection, id: str, *, lock: bool = False) -> governance_pb2.Cooperative | None:
    """What is known of one; no more of it is kept than its keys and its clock for requests."""
    statement = sa.select(_table.c.body).where(_table.c.id == id)
    body = (await connection.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    return governance_pb2.Cooperative.FromString(body) if body is not None else None


async def keep(connection: AsyncConnection, cooperative: governance_pb2.Cooperative) -> None:
    kept = governance_pb2.Cooperative(name=cooperative.name, signing_keys=cooperative.signing_keys)
    kept.charter.response_seconds = cooperative.charter.response_seconds
    statement = insert(_table).values(id=bare(cooperative.name), body=kept.SerializeToString())
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_={"body": statement.excluded.body})
    )
