"""Queries on consents: a history in which one record a member and dataset is live."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.contributions import latest
from governance.store.membership_tables import consent_table, contribution_table
from governance.store.tables import member_table
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.consent import covers


def consent_of(row: Any, member: str) -> pb.Consent:
    """member: resource name."""
    return pb.Consent(
        name=f"{member}/consents/{row.id}",
        dataset=row.dataset,
        purposes=row.purposes,
        categories=row.categories,
        status=row.status,
        method=row.method,
        evidence=row.evidence,
        notice_hash=row.notice_hash,
        language=row.language,
        give_time=to_timestamp(row.give_time),
        end_time=to_timestamp(row.end_time),
    )


async def excluded_count(
    connection: AsyncConnection, dataset: str, categories: Collection[int], purposes: Sequence[str]
) -> int:
    """Members with rows in the dataset's latest version whose consent does not cover all of these categories and
    purposes."""
    table, last = contribution_table, latest([dataset])
    live = sa.and_(
        consent_table.c.member_id == table.c.member_id,
        consent_table.c.dataset == dataset,
        consent_table.c.end_time.is_(None),
    )
    statement = (
        sa.select(table.c.member_id.label("contributor"), consent_table)
        .join(last, sa.and_(last.c.dataset == table.c.dataset, last.c.number == table.c.number))
        .outerjoin(consent_table, live)
    )
    rows = (await connection.execute(statement)).all()
    return sum(
        row.id is None
        or not all(covers(consent_of(row, "members/x"), dataset, category, purposes) for category in categories)
        for row in rows
    )


async def insert(connection: AsyncConnection, member: str, consent: pb.Consent) -> None:
    """A new live record. member: resource name."""
    await insert_many(connection, [(member, consent)])


async def insert_many(connection: AsyncConnection, records: Sequence[tuple[str, pb.Consent]]) -> None:
    """New live records of many members; the earlier ones were ended before."""
    rows = [
        {
            "id": consent.name.rsplit("/", 1)[1],
            "member_id": member.rsplit("/", 1)[1],
            "dataset": consent.dataset,
            "purposes": list(consent.purposes),
            "categories": list(consent.categories),
            "status": consent.status,
            "method": consent.method,
            "evidence": consent.evidence,
            "notice_hash": consent.notice_hash,
            "language": consent.language,
            "give_time": from_timestamp(consent.give_time),
        }
        for member, consent in records
    ]
    if rows:
        await connection.execute(consent_table.insert(), rows)


async def end_live(
    connection: AsyncConnection,
    members: Collection[str],
    dataset: str,
    status: pb.ConsentStatus.ValueType,
    now: dt.datetime,
    given_only: bool = False,
) -> list[tuple[str, pb.Consent]]:
    """Ends the live records of these members (resource names) for a dataset, or for all; (member, consent) as ended."""
    table = consent_table
    names = {name.rsplit("/", 1)[1]: name for name in members}
    statement = (
        table.update()
        .where(table.c.member_id.in_(names), table.c.end_time.is_(None))
        # A clock that stepped back must not end a record before it began.
        .values(status=status, end_time=sa.func.greatest(table.c.give_time, now))
        .returning(table)
    )
    if dataset:
        statement = statement.where(table.c.dataset == dataset)
    if given_only:
        statement = statement.where(table.c.status == pb.CONSENT_STATUS_GIVEN)
    return [
        (names[row.member_id], consent_of(row, names[row.member_id])) for row in await connection.execute(statement)
    ]


async def decided_themselves(connection: AsyncConnection, members: Collection[str], dataset: str) -> set[str]:
    """Of these members (resource names), those whose latest record for the dataset is their own decision."""
    table = consent_table
    names = {name.rsplit("/", 1)[1]: name for name in members}
    statement = (
        sa.select(table.c.member_id, table.c.method, table.c.status)
        .ext(distinct_on(table.c.member_id))
        .where(table.c.member_id.in_(names), table.c.dataset == dataset)
        .order_by(table.c.member_id, table.c.id.desc())
    )
    return {
        names[row.member_id]
        for row in await connection.execute(statement)
        # A form recorded by a steward, then withdrawn by the member, is the member's decision too.
        if row.method == pb.CONSENT_METHOD_MEMBER or row.status == pb.CONSENT_STATUS_WITHDRAWN
    }


async def consents(connection: AsyncConnection, member: str, before: str | None, limit: int) -> list[pb.Consent]:
    """A member's (resource name), newest first."""
    table = consent_table
    statement = (
        sa.select(table).where(table.c.member_id == member.rsplit("/", 1)[1]).order_by(table.c.id.desc()).limit(limit)
    )
    if before is not None:
        statement = statement.where(table.c.id < before)
    return [consent_of(row, member) for row in await connection.execute(statement)]


async def consent(connection: AsyncConnection, name: str) -> pb.Consent | None:
    """One consent by resource name."""
    member, _, id = name.partition("/consents/")
    table = consent_table
    statement = sa.select(table).where(table.c.id == id, table.c.member_id == member.rsplit("/", 1)[1])
    row = (await connection.execute(statement)).first()
    return consent_of(row, member) if row is not None else None


async def history(
    connection: AsyncConnection, member_ids: Collection[str], datasets: Collection[str]
) -> dict[str, list[pb.Consent]]:
    """All records of these members (ids) for these datasets, by member id."""
    table = consent_table
    statement = sa.select(table).where(table.c.member_id.in_(member_ids), table.c.dataset.in_(datasets))
    found: dict[str, list[pb.Consent]] = {}
    for row in await connection.execute(statement):
        found.setdefault(row.member_id, []).append(consent_of(row, f"members/{row.member_id}"))
    return found


async def live_items(
    connection: AsyncConnection, cooperative_id: str, after: str | None, limit: int
) -> list[pb.ConsentItem]:
    """The consents that stand in a cooperative, by their ids."""
    table = consent_table
    statement = (
        sa.select(table, member_table.c.reference, member_table.c.cooperative_id)
        .join(member_table, member_table.c.id == table.c.member_id)
        .where(member_table.c.cooperative_id == cooperative_id, table.c.end_time.is_(None))
        .order_by(table.c.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(table.c.id > after)
    items = []
    for row in await connection.execute(statement):
        member = f"cooperatives/{row.cooperative_id}/members/{row.member_id}"
        items.append(pb.ConsentItem(member=member, reference=row.reference, consent=consent_of(row, member)))
    return items
