"""How licenses stand, and what speaks against each, as rows."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.standing import Cause, Standing
from billing.store.standing_tables import standing_cause_table, standing_change_table, standing_table
from rochdale.billing.v1 import events_pb2 as pb

_standing, _cause, _change = standing_table.c, standing_cause_table.c, standing_change_table.c


async def lock(connection: AsyncConnection, license: str, now: dt.datetime) -> Standing:
    """The standing, held until the transaction ends; its row is made if there is none."""
    await connection.execute(
        upsert(standing_table)
        .values(license=license, state=pb.STANDING_GOOD, reason="", sequence=0, change_time=now)
        .on_conflict_do_nothing()
    )
    statement = sa.select(standing_table).where(_standing.license == license).with_for_update()
    row = (await connection.execute(statement)).one()
    return Standing(row.state, row.reason, row.sequence)


async def save(connection: AsyncConnection, license: str, standing: Standing, now: dt.datetime) -> None:
    """The caller holds its lock."""
    new = {"state": standing.state, "reason": standing.reason, "sequence": standing.sequence, "change_time": now}
    await connection.execute(standing_table.update().where(_standing.license == license).values(**new))
    await connection.execute(standing_change_table.insert().values(license=license, **new))


async def good_at(connection: AsyncConnection, license: str, moment: dt.datetime) -> bool:
    """Whether a license might be used at a time, as far as its money was concerned."""
    statement = (
        sa.select(_change.state)
        .where(_change.license == license, _change.change_time <= moment)
        .order_by(_change.sequence.desc())
        .limit(1)
    )
    state = (await connection.execute(statement)).scalar()
    return state is None or state == pb.STANDING_GOOD


async def causes(connection: AsyncConnection, license: str) -> set[Cause]:
    rows = await connection.execute(sa.select(_cause.cause).where(_cause.license == license))
    return {Cause(cause) for cause in rows.scalars()}


async def add_cause(connection: AsyncConnection, license: str, cause: Cause, now: dt.datetime) -> None:
    await connection.execute(
        upsert(standing_cause_table).values(license=license, cause=cause.value, add_time=now).on_conflict_do_nothing()
    )


async def remove_cause(connection: AsyncConnection, license: str, cause: Cause) -> None:
    await connection.execute(
        standing_cause_table.delete().where(_cause.license == license, _cause.cause == cause.value)
    )
