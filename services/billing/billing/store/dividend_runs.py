"""Dividend runs as rows, with their sources, shares, objections and approvals. Lines are in dividend_lines.py."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.dividend_runs import DISCARDED, Run
from billing.domain.dividends import Earning, Source
from billing.store.dividend_tables import (
    approval_table,
    objection_table,
    run_share_table,
    run_table,
    source_table,
)

_run = run_table.c
_FIELDS = tuple(field.name for field in dataclasses.fields(Run))


def _of(row: Any) -> Run:
    return Run(**{name: getattr(row, name) for name in _FIELDS})


async def insert(connection: AsyncConnection, run: Run) -> bool:
    """Whether it is new: a month of a currency has one run that was not discarded."""
    statement = upsert(run_table).values(dataclasses.asdict(run)).on_conflict_do_nothing().returning(_run.id)
    return (await connection.execute(statement)).first() is not None


async def get(connection: AsyncConnection, cooperative: str, id: str, *, lock: bool = False) -> Run | None:
    """The run; with `lock` it is held until the transaction ends. Whoever moves a run holds it first."""
    statement = sa.select(run_table).where(_run.id == id, _run.cooperative == cooperative)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return _of(row) if row is not None else None


async def save(connection: AsyncConnection, run: Run) -> None:
    """The caller holds its lock."""
    await connection.execute(run_table.update().where(_run.id == run.id).values(dataclasses.asdict(run)))


async def page(
    connection: AsyncConnection, cooperative: str, states: Sequence[int], before: str | None, limit: int
) -> list[Run]:
    """Newest first; no states means all."""
    statement = sa.select(run_table).where(_run.cooperative == cooperative).order_by(_run.id.desc()).limit(limit)
    if states:
        statement = statement.where(_run.state.in_(states))
    if before is not None:
        statement = statement.where(_run.id < before)
    return [_of(row) for row in await connection.execute(statement)]


async def hold_alone(connection: AsyncConnection, cooperative: str) -> None:
    """Until the transaction ends nobody else opens a run of this cooperative: each takes what the one before it left."""
    # The first number is arbitrary and this lock's own.
    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(1848, hashtext(:id))"), {"id": cooperative})


async def of_currency(connection: AsyncConnection, cooperative: str, currency: str) -> list[tuple[str, int]]:
    """Months and states of the runs in a currency that were not discarded, oldest month first."""
    statement = (
        sa.select(_run.month, _run.state)
        .where(_run.cooperative == cooperative, _run.currency == currency, _run.state != DISCARDED)
        .order_by(_run.month)
    )
    return [(row.month, row.state) for row in await connection.execute(statement)]


async def replace_sources(
    connection: AsyncConnection, run_id: str, sources: Sequence[Source], earnings: Sequence[Earning]
) -> None:
    for table in (source_table, run_share_table):
        await connection.execute(table.delete().where(table.c.run_id == run_id))
    if sources:
        await connection.execute(
            source_table.insert().values([{"run_id": run_id} | dataclasses.asdict(one) for one in sources])
        )
    if earnings:
        # In one statement an argument each, a few thousand shares would be too many for one.
        await connection.execute(
            run_share_table.insert(),
            [
                {"run_id": run_id, "share_id": one.share_id, "earned_minor": one.earned_minor, "assigned": False}
                for one in earnings
            ],
        )


async def assign_shares(connection: AsyncConnection, run_id: str) -> None:
    """From now on they earn in no other run, which the database holds."""
    await connection.execute(run_share_table.update().where(run_share_table.c.run_id == run_id).values(assigned=True))


async def sources(connection: AsyncConnection, run_id: str) -> list[Source]:
    """By version; those earned without members' rows first."""
    statement = sa.select(source_table).where(source_table.c.run_id == run_id).order_by(source_table.c.version)
    names = [field.name for field in dataclasses.fields(Source)]
    return [Source(**{name: getattr(row, name) for name in names}) for row in await connection.execute(statement)]


async def objections(connection: AsyncConnection, run_id: str) -> list[Any]:
    """In their order, as rows."""
    statement = sa.select(objection_table).where(objection_table.c.run_id == run_id).order_by(objection_table.c.number)
    return list(await connection.execute(statement))


async def object(connection: AsyncConnection, run_id: str, member_id: str, text: str, at: dt.datetime) -> None:
    """The caller holds the run's lock, so that numbers are given one after the other."""
    c = objection_table.c
    count = (
        await connection.execute(sa.select(sa.func.count()).select_from(objection_table).where(c.run_id == run_id))
    ).scalar_one()
    await connection.execute(
        objection_table.insert().values(
            run_id=run_id, number=count + 1, member_id=member_id, text=text, create_time=at, answer=""
        )
    )


async def answer(connection: AsyncConnection, run_id: str, number: int, text: str, at: dt.datetime) -> None:
    c = objection_table.c
    await connection.execute(
        objection_table.update().where(c.run_id == run_id, c.number == number).values(answer=text, answer_time=at)
    )


async def unanswered(connection: AsyncConnection, run_id: str) -> int:
    c = objection_table.c
    statement = (
        sa.select(sa.func.count()).select_from(objection_table).where(c.run_id == run_id, c.answer_time.is_(None))
    )
    return int((await connection.execute(statement)).scalar_one())


async def approve(connection: AsyncConnection, run_id: str, person: str, at: dt.datetime) -> None:
    await connection.execute(approval_table.insert().values(run_id=run_id, person=person, approve_time=at))


async def approvers(connection: AsyncConnection, run_id: str) -> list[str]:
    """The first first."""
    c = approval_table.c
    statement = sa.select(c.person).where(c.run_id == run_id).order_by(c.approve_time, c.person)
    return list((await connection.execute(statement)).scalars())


async def forget_approvals(connection: AsyncConnection, run_id: str) -> None:
    """What was approved is not what there is now."""
    await connection.execute(approval_table.delete().where(approval_table.c.run_id == run_id))
