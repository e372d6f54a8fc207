"""What was used, as rows: each use once, tallies by period, budgets, and the periods whose use is to be billed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.pricing import Period
from billing.domain.usage import Counted, Tally
from billing.store.subscription_tables import budget_table, tally_table, use_period_table, use_table
from rochdale.type.v1.pricing_pb2 import Meter

_tally, _use, _period, _budget = tally_table.c, use_table.c, use_period_table.c, budget_table.c


@dataclass(frozen=True)
class UsePeriod:
    """A period that is over, and until when what was used in it may still be told for its own order."""

    license: str
    period: Period
    close_time: dt.datetime
    bill_time: dt.datetime | None = None


async def known(connection: AsyncConnection, event_id: str, meter: int) -> bool:
    statement = sa.select(_use.event_id).where(_use.event_id == event_id, _use.meter == meter)
    return (await connection.execute(statement)).first() is not None


async def insert(
    connection: AsyncConnection,
    event_id: str,
    counted: Counted,
    quantity: Decimal,
    record_time: dt.datetime,
    now: dt.datetime,
) -> None:
    await connection.execute(
        use_table.insert().values(
            event_id=event_id,
            meter=counted.tally.meter,
            license=counted.tally.license,
            period_start=counted.tally.period_start,
            quantity=quantity,
            billable=counted.billable,
            reason=counted.reason,
            record_time=record_time,
            arrive_time=now,
        )
    )


def _tally_of(row: Any) -> Tally:
    return Tally(
        license=row.license,
        meter=Meter.ValueType(row.meter),
        period_start=row.period_start,
        period_end=row.period_end,
        used=row.used,
        billable=row.billable,
        billed=row.billed,
        warn_time=row.warn_time,
        reach_time=row.reach_time,
    )


async def tally(connection: AsyncConnection, license: str, meter: Meter.ValueType, period: Period) -> Tally:
    """The tally of a meter in a period, from zero when nothing was used."""
    statement = sa.select(tally_table).where(
        _tally.license == license, _tally.meter == meter, _tally.period_start == period.start
    )
    row = (await connection.execute(statement)).first()
    return _tally_of(row) if row is not None else Tally(license, meter, period.start, period.end)


async def tallies(connection: AsyncConnection, license: str) -> list[Tally]:
    """All of a license."""
    rows = await connection.execute(sa.select(tally_table).where(_tally.license == license))
    return [_tally_of(row) for row in rows]


async def save_tally(connection: AsyncConnection, tally: Tally) -> None:
    """The caller holds the subscription's lock."""
    changing = {
        "used": tally.used,
        "billable": tally.billable,
        "billed": tally.billed,
        "warn_time": tally.warn_time,
        "reach_time": tally.reach_time,
    }
    await connection.execute(
        upsert(tally_table)
        .values(
            license=tally.license,
            meter=tally.meter,
            period_start=tally.period_start,
            period_end=tally.period_end,
            **changing,
        )
        .on_conflict_do_update(index_elements=["license", "meter", "period_start"], set_=changing)
    )


async def budgets(connection: AsyncConnection, license: str) -> dict[int, Decimal]:
    """The buyer's own caps, by meter."""
    rows = await connection.execute(sa.select(_budget.meter, _budget.cap).where(_budget.license == license))
    return {row.meter: row.cap for row in rows}


async def set_budget(connection: AsyncConnection, license: str, meter: int, cap: Decimal | None) -> None:
    if cap is None:
        await connection.execute(budget_table.delete().where(_budget.license == license, _budget.meter == meter))
        return
    await connection.execute(
        upsert(budget_table)
        .values(license=license, meter=meter, cap=cap)
        .on_conflict_do_update(index_elements=["license", "meter"], set_={"cap": cap})
    )


async def over(connection: AsyncConnection, use_period: UsePeriod) -> None:
    """A period is over; its use is billed later. Again, nothing changes."""
    await connection.execute(
        upsert(use_period_table)
        .values(
            license=use_period.license,
            period_index=use_period.period.index,
            period_start=use_period.period.start,
            period_end=use_period.period.end,
            close_time=use_period.close_time,
        )
        .on_conflict_do_nothing()
    )


async def to_bill(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[UsePeriod]:
    """Periods whose use is to be billed by now, oldest first."""
    statement = (
        sa.select(use_period_table)
        .where(_period.bill_time.is_(None), _period.close_time <= now)
        .order_by(_period.close_time, _period.license, _period.period_index)
        .limit(limit)
    )
    return [_use_period_of(row) for row in await connection.execute(statement)]


async def waits_for_bill(connection: AsyncConnection, use_period: UsePeriod) -> bool:
    """Whether it is still to be billed. The caller holds the subscription's lock."""
    statement = sa.select(_period.bill_time).where(
        _period.license == use_period.license, _period.period_index == use_period.period.index
    )
    return (await connection.execute(statement)).scalar() is None


async def billed(connection: AsyncConnection, use_period: UsePeriod, now: dt.datetime) -> None:
    await connection.execute(
        use_period_table.update()
        .where(_period.license == use_period.license, _period.period_index == use_period.period.index)
        .values(bill_time=now)
    )


def _use_period_of(row: Any) -> UsePeriod:
    period = Period(row.period_index, row.period_start, row.period_end)
    return UsePeriod(row.license, period, row.close_time, row.bill_time)
