"""Queries on deletion notices, and on whose rows each is about."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.membership_tables import deletion_notice_table, deletion_table
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit.clock import to_timestamp


def notice_of(row: Any) -> pb.DeletionNotice:
    notice = pb.DeletionNotice.FromString(row.notice)
    if row.attest_time is not None:
        notice.attest_time.CopyFrom(to_timestamp(row.attest_time))
    notice.attestation, notice.attested_by = row.attestation, row.attested_by
    return notice


async def noticed(connection: AsyncConnection, member_id: str) -> set[tuple[str, str]]:
    """(license, version) for which a notice about this member's rows was issued."""
    table = deletion_table
    statement = sa.select(table.c.license, table.c.version).where(table.c.member_id == member_id)
    return {(row.license, row.version) for row in await connection.execute(statement)}


async def insert_notice(
    connection: AsyncConnection, notice: pb.DeletionNotice, member_id: str, versions: Iterable[str]
) -> None:
    id = notice.name.rsplit("/", 1)[1]
    await connection.execute(
        deletion_notice_table.insert().values(
            id=id,
            cooperative_id=notice.cooperative.rsplit("/", 1)[1],
            recipient=notice.recipient,
            license=notice.license,
            notice=notice.SerializeToString(deterministic=True),
            attestation="",
            attested_by="",
        )
    )
    rows = [
        {"member_id": member_id, "license": notice.license, "version": version, "notice_id": id} for version in versions
    ]
    await connection.execute(insert(deletion_table).values(rows).on_conflict_do_nothing())


def _visible(organization: str | None) -> sa.ColumnElement[bool]:
    """organization: bare id of recipient or cooperative; None for an operator, who sees all."""
    table = deletion_notice_table
    if organization is None:
        return sa.true()
    return sa.or_(table.c.recipient == f"organizations/{organization}", table.c.cooperative_id == organization)


async def notice(
    connection: AsyncConnection, id: str, organization: str | None, lock: bool = False
) -> pb.DeletionNotice | None:
    statement = sa.select(deletion_notice_table).where(deletion_notice_table.c.id == id, _visible(organization))
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return notice_of(row) if row is not None else None


async def notices(
    connection: AsyncConnection, organization: str | None, open_only: bool, before: str | None, limit: int
) -> list[pb.DeletionNotice]:
    """Newest first."""
    table = deletion_notice_table
    statement = sa.select(table).where(_visible(organization)).order_by(table.c.id.desc()).limit(limit)
    if open_only:
        statement = statement.where(table.c.attest_time.is_(None))
    if before is not None:
        statement = statement.where(table.c.id < before)
    return [notice_of(row) for row in await connection.execute(statement)]


async def attest(
    connection: AsyncConnection, id: str, attestation: str, attested_by: str, now: dt.datetime
) -> Collection[str]:
    """Notes the attestation; ids of the members whose rows it is about."""
    table = deletion_notice_table
    await connection.execute(
        table.update().where(table.c.id == id).values(attest_time=now, attestation=attestation, attested_by=attested_by)
    )
    about = sa.select(deletion_table.c.member_id).where(deletion_table.c.notice_id == id).distinct()
    return list((await connection.execute(about)).scalars())
