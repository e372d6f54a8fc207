"""Queries on notices: what members were told, and what still has to be mailed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.membership_tables import notice_table
from governance.store.tables import member_table
from rochdale.governance.v1 import governance_pb2
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit.clock import new_id, to_timestamp

_CHUNK = 5_000


async def tell(
    connection: AsyncConnection, cooperative_id: str, kind: int, subject: str, text: str, about: str, now: dt.datetime
) -> None:
    """Tells every member in good standing."""
    table = member_table
    statement = sa.select(table.c.id, table.c.email).where(
        table.c.cooperative_id == cooperative_id, table.c.state == governance_pb2.MEMBER_STATE_ACTIVE
    )
    told = [_Told(row.id, row.email, subject, text) for row in await connection.execute(statement)]
    await _insert(connection, told, kind, about, now)


async def tell_one(
    connection: AsyncConnection, member: str, kind: int, subject: str, text: str, about: str, now: dt.datetime
) -> None:
    """Tells one member. member: resource name."""
    table = member_table
    statement = sa.select(table.c.id, table.c.email).where(table.c.id == member.rsplit("/", 1)[1])
    told = [_Told(row.id, row.email, subject, text) for row in await connection.execute(statement)]
    await _insert(connection, told, kind, about, now)


@dataclass(frozen=True)
class _Told:
    """A member (id) and what they are told; email is "" for nobody to mail it to."""

    member_id: str
    email: str
    subject: str
    text: str


async def _insert(connection: AsyncConnection, told: Sequence[_Told], kind: int, about: str, now: dt.datetime) -> None:
    """Of money, what a member was told already is not told again."""
    for start in range(0, len(told), _CHUNK):
        rows = [
            {
                "id": new_id("not"),
                "member_id": one.member_id,
                "kind": kind,
                "subject": one.subject,
                "text": one.text,
                "about": about,
                "create_time": now,
                "mail_time": now if one.email else None,
                "mail_attempts": 0,
            }
            for one in told[start : start + _CHUNK]
        ]
        await connection.execute(insert(notice_table).on_conflict_do_nothing(), rows)


async def tell_some(
    connection: AsyncConnection,
    member_ids: Sequence[str],
    kind: int,
    subject: str,
    text: str,
    about: str,
    now: dt.datetime,
) -> None:
    """Tells these members (ids), in good standing or not: what happened to their data is theirs to know."""
    table = member_table
    for start in range(0, len(member_ids), _CHUNK):
        chosen = member_ids[start : start + _CHUNK]
        statement = sa.select(table.c.id, table.c.email).where(
            table.c.id.in_(chosen), table.c.state != governance_pb2.MEMBER_STATE_ERASED
        )
        told = [_Told(row.id, row.email, subject, text) for row in await connection.execute(statement)]
        await _insert(connection, told, kind, about, now)


async def tell_each(
    connection: AsyncConnection,
    cooperative_id: str,
    letters: Mapping[str, tuple[str, str]],
    kind: int,
    about: str,
    now: dt.datetime,
) -> None:
    """Tells each of these members of the cooperative (ids) something of their own: subject and text. As above, those who
    left are told too; somebody else's members are passed over."""
    table, ids = member_table, list(letters)
    for start in range(0, len(ids), _CHUNK):
        statement = sa.select(table.c.id, table.c.email).where(
            table.c.id.in_(ids[start : start + _CHUNK]),
            table.c.cooperative_id == cooperative_id,
            table.c.state != governance_pb2.MEMBER_STATE_ERASED,
        )
        told = [_Told(row.id, row.email, *letters[row.id]) for row in await connection.execute(statement)]
        await _insert(connection, told, kind, about, now)


async def notices(
    connection: AsyncConnection, member: str, unread_only: bool, before: str | None, limit: int
) -> list[pb.Notice]:
    """A member's (resource name), newest first."""
    table = notice_table
    statement = (
        sa.select(table).where(table.c.member_id == member.rsplit("/", 1)[1]).order_by(table.c.id.desc()).limit(limit)
    )
    if unread_only:
        statement = statement.where(table.c.read_time.is_(None))
    if before is not None:
        statement = statement.where(table.c.id < before)
    return [
        pb.Notice(
            name=f"{member}/notices/{row.id}",
            kind=row.kind,
            subject=row.subject,
            text=row.text,
            about=row.about,
            create_time=to_timestamp(row.create_time),
            read_time=to_timestamp(row.read_time),
        )
        for row in await connection.execute(statement)
    ]


async def read_all(connection: AsyncConnection, member: str, now: dt.datetime) -> int:
    """Marks a member's notices as read; how many were not."""
    table = notice_table
    marked = await connection.execute(
        table.update()
        .where(table.c.member_id == member.rsplit("/", 1)[1], table.c.read_time.is_(None))
        .values(read_time=now)
        .returning(table.c.id)
    )
    return len(marked.all())


async def forget(connection: AsyncConnection, member: str) -> None:
    """Deletes an erased member's inbox."""
    await connection.execute(notice_table.delete().where(notice_table.c.member_id == member.rsplit("/", 1)[1]))


@dataclass(frozen=True)
class Mail:
    """A notice to be mailed."""

    id: str
    to: str
    subject: str
    text: str
    attempts: int


async def to_mail(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[Mail]:
    """What is due, locked; what another process is mailing is passed over."""
    statement = (
        sa.select(
            notice_table.c.id,
            notice_table.c.subject,
            notice_table.c.text,
            notice_table.c.mail_attempts,
            member_table.c.email,
        )
        .join(member_table, member_table.c.id == notice_table.c.member_id)
        .where(notice_table.c.mail_time <= now)
        .order_by(notice_table.c.mail_time)
        .limit(limit)
        .with_for_update(of=notice_table, skip_locked=True)
    )
    return [
        Mail(row.id, row.email, row.subject, row.text, row.mail_attempts) for row in await connection.execute(statement)
    ]


async def mailed(connection: AsyncConnection, ids: Collection[str]) -> None:
    """These were mailed, or will not be."""
    table = notice_table
    await connection.execute(table.update().where(table.c.id.in_(ids)).values(mail_time=None))


async def mail_later(connection: AsyncConnection, id: str, at: dt.datetime) -> None:
    table = notice_table
    await connection.execute(
        table.update().where(table.c.id == id).values(mail_time=at, mail_attempts=table.c.mail_attempts + 1)
    )
