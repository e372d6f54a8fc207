"""Members as billing heard of them: since when, until when, what they consented to, and what they have in versions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.dividends import Member
from billing.store.dividend_tables import consent_table, contribution_table, delivery_table, member_table

_member = member_table.c


async def joined(connection: AsyncConnection, cooperative: str, ids: Sequence[str], at: dt.datetime) -> None:
    """Members of one act. Who left before and joins again is a member again from now."""
    statement = upsert(member_table).values([{"id": id, "cooperative": cooperative, "join_time": at} for id in ids])
    newer = sa.or_(_member.join_time.is_(None), _member.join_time < statement.excluded.join_time)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_={
                "join_time": statement.excluded.join_time,
                "leave_time": sa.case(
                    (_member.leave_time > statement.excluded.join_time, _member.leave_time), else_=sa.null()
                ),
            },
            where=newer,
        )
    )


async def left(connection: AsyncConnection, cooperative: str, id: str, at: dt.datetime) -> None:
    statement = upsert(member_table).values(id=id, cooperative=cooperative, leave_time=at)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_={"leave_time": statement.excluded.leave_time},
            where=sa.or_(_member.join_time.is_(None), _member.join_time <= at),
        )
    )


async def erased(connection: AsyncConnection, cooperative: str, id: str, at: dt.datetime) -> None:
    statement = upsert(member_table).values(id=id, cooperative=cooperative, leave_time=at, erase_time=at)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_={
                "erase_time": sa.func.coalesce(_member.erase_time, at),
                "leave_time": sa.func.coalesce(_member.leave_time, at),
            },
        )
    )


async def member(connection: AsyncConnection, cooperative: str, id: str) -> Member | None:
    statement = sa.select(member_table).where(_member.id == id, _member.cooperative == cooperative)
    row = (await connection.execute(statement)).first()
    return _of(row) if row is not None and row.join_time is not None else None


async def members(connection: AsyncConnection, cooperative: str, before: dt.datetime) -> list[Member]:
    """Who joined before a time, whatever became of them."""
    statement = (
        sa.select(member_table)
        .where(_member.cooperative == cooperative, _member.join_time < before)
        .order_by(_member.id)
    )
    return [_of(row) for row in await connection.execute(statement)]


def _of(row: Any) -> Member:
    return Member(row.id, row.join_time, row.leave_time, row.erase_time)


async def keep_consent(
    connection: AsyncConnection,
    id: str,
    member_id: str,
    dataset: str,
    given: bool,
    give_time: dt.datetime,
    end_time: dt.datetime | None,
) -> None:
    """A consent as it stands; one that ended stays ended, in whatever order it is told."""
    statement = upsert(consent_table).values(
        id=id, member_id=member_id, dataset=dataset, given=given, give_time=give_time, end_time=end_time
    )
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_={"end_time": sa.func.coalesce(statement.excluded.end_time, consent_table.c.end_time)},
        )
    )


async def keep_contributions(connection: AsyncConnection, version: str, rows: dict[str, int]) -> None:
    """What members have in a version, by member; told again, the later telling counts."""
    if not rows:
        return
    statement = sa.text(
        "INSERT INTO contribution (version, member_id, row_count)"
        " SELECT :version, * FROM unnest(:members, :rows)"
        " ON CONFLICT (version, member_id) DO UPDATE SET row_count = excluded.row_count"
    ).bindparams(
        sa.bindparam("version", type_=sa.Text),
        sa.bindparam("members", type_=ARRAY(sa.Text)),
        sa.bindparam("rows", type_=ARRAY(sa.BigInteger)),
    )
    await connection.execute(statement, {"version": version, "members": list(rows), "rows": list(rows.values())})


async def keep_delivery(connection: AsyncConnection, license: str, version: str, at: dt.datetime) -> None:
    """That a license delivered a version; the first time counts, and nothing is written for a later one."""
    statement = upsert(delivery_table).values(license=license, version=version, first_time=at)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["license", "version"],
            set_={"first_time": statement.excluded.first_time},
            where=delivery_table.c.first_time > statement.excluded.first_time,
        )
    )


async def contributed(connection: AsyncConnection, versions: Sequence[str]) -> list[tuple[str, str, int]]:
    """Version, member and rows."""
    c = contribution_table.c
    statement = sa.select(c.version, c.member_id, c.row_count).where(c.version.in_(versions))
    return [(row.version, row.member_id, row.row_count) for row in await connection.execute(statement)]


async def consented_days(
    connection: AsyncConnection, datasets: Sequence[str], begin: dt.datetime, end: dt.datetime
) -> dict[tuple[str, str], int]:
    """On how many days (UTC) of a period each member's consent stood at some moment, by dataset and member."""
    # A consent lasts until it is ended or another record for the same dataset takes its place. The last day is that of
    # the moment before the end. Days of two consents in a row are counted once.
    statement = sa.text(
        """
        WITH span AS (
            SELECT dataset, member_id, given, give_time,
                   least(end_time, lead(give_time) OVER (PARTITION BY dataset, member_id ORDER BY give_time, id)) AS until
            FROM consent WHERE dataset = ANY(:datasets)
        ), cut AS (
            SELECT dataset, member_id, greatest(give_time, :begin) AS since, least(coalesce(until, :end), :end) AS until
            FROM span WHERE given
        )
        SELECT dataset, member_id, count(DISTINCT day) AS days
        FROM cut, generate_series(
            date_trunc('day', since, 'UTC'),
            date_trunc('day', until - interval '1 microsecond', 'UTC'),
            interval '1 day'
        ) AS day
        WHERE since < until
        GROUP BY dataset, member_id
        """
    ).bindparams(
        sa.bindparam("datasets", type_=ARRAY(sa.Text)),
        sa.bindparam("begin", type_=sa.DateTime(timezone=True)),
        sa.bindparam("end", type_=sa.DateTime(timezone=True)),
    )
    rows = await connection.execute(statement, {"datasets": list(datasets), "begin": begin, "end": end})
    return {(row.dataset, row.member_id): row.days for row in rows}
