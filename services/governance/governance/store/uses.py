"""Queries on licenses heard of and on what was delivered under them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.domain.deletions import Delivered
from governance.store.membership_tables import (
    contribution_table,
    deletion_notice_table,
    deletion_table,
    delivery_table,
    licensed_table,
)
from governance.store.tables import rule_table
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1.money_pb2 import Money


@dataclass(frozen=True)
class Used:
    """One delivery of a member's rows, with what came of it. deletion_notice: its id, empty for none."""

    delivered: Delivered
    sharing_rule: str
    proposal: str
    price: Money
    deletion_notice: str
    attest_time: dt.datetime | None


async def keep_license(connection: AsyncConnection, license: licensing_pb2.License, over: bool = False) -> None:
    """What a license is, as agreed, and that it is over once that was told; told again it changes nothing."""
    terms, table = license.terms, licensed_table
    await connection.execute(
        insert(table)
        .values(
            license=license.name,
            cooperative_id=terms.licensor.rsplit("/", 1)[-1],
            recipient=f"organizations/{terms.licensee.rsplit('/', 1)[-1]}",
            category=terms.category,
            purposes=list(terms.scope.purposes),
            sharing_rule=terms.sharing_rule,
            price=terms.price.SerializeToString(),
            over=over,
        )
        .on_conflict_do_update(index_elements=["license"], set_={"over": sa.or_(table.c.over, sa.literal(over))})
    )


async def live_count(connection: AsyncConnection, rules: Collection[str]) -> int:
    """How many licenses under these rules (resource names) are not over."""
    table = licensed_table
    statement = sa.select(sa.func.count()).where(table.c.sharing_rule.in_(rules), ~table.c.over)
    return int((await connection.execute(statement)).scalar_one())


async def cooperative_of(connection: AsyncConnection, license: str) -> str | None:
    """Whose license it is; None if it was not heard of."""
    statement = sa.select(licensed_table.c.cooperative_id).where(licensed_table.c.license == license)
    found: str | None = (await connection.execute(statement)).scalar_one_or_none()
    return found


async def keep_delivery(
    connection: AsyncConnection, cooperative_id: str, license: str, version: str, at: dt.datetime
) -> bool:
    """Notes a delivery; whether it was the first of this version under this license."""
    table = delivery_table
    statement = insert(table).values(
        license=license, version=version, cooperative_id=cooperative_id, first_time=at, last_time=at
    )
    row: sa.Row[tuple[bool]] = (
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=["license", "version"],
                set_={
                    "first_time": sa.func.least(table.c.first_time, at),
                    "last_time": sa.func.greatest(table.c.last_time, at),
                },
            ).returning(sa.literal_column("xmax = 0").label("new"))
        )
    ).one()
    return bool(row.new)


async def licenses_delivered(connection: AsyncConnection, version: str) -> list[str]:
    """Under which licenses a version was delivered."""
    statement = sa.select(delivery_table.c.license).where(delivery_table.c.version == version)
    return list((await connection.execute(statement)).scalars())


def _delivered() -> sa.Select[Any]:
    return (
        sa.select(
            contribution_table.c.member_id,
            contribution_table.c.dataset,
            contribution_table.c.version,
            contribution_table.c.row_count,
            contribution_table.c.rows_hash,
            delivery_table.c.first_time,
            delivery_table.c.last_time,
            licensed_table.c.license,
            licensed_table.c.recipient,
            licensed_table.c.category,
            licensed_table.c.purposes,
            licensed_table.c.sharing_rule,
            licensed_table.c.price,
        )
        .select_from(contribution_table)
        .join(delivery_table, delivery_table.c.version == contribution_table.c.version)
        .join(licensed_table, licensed_table.c.license == delivery_table.c.license)
    )


def _of(row: Any) -> Delivered:
    return Delivered(
        row.license,
        row.recipient,
        row.category,
        tuple(row.purposes),
        row.dataset,
        row.version,
        row.row_count,
        row.rows_hash,
        row.first_time,
        row.last_time,
    )


async def delivered_of(
    connection: AsyncConnection, member_id: str, datasets: Collection[str] | None
) -> list[Delivered]:
    """What was delivered of versions a member has rows in; datasets: only of these, None for all."""
    statement = _delivered().where(contribution_table.c.member_id == member_id)
    if datasets is not None:
        statement = statement.where(contribution_table.c.dataset.in_(datasets))
    return [_of(row) for row in await connection.execute(statement)]


async def delivered_to(connection: AsyncConnection, license: str, version: str) -> list[tuple[str, Delivered]]:
    """(member id, what) of every contributor to a version delivered under a license."""
    statement = _delivered().where(licensed_table.c.license == license, contribution_table.c.version == version)
    return [(row.member_id, _of(row)) for row in await connection.execute(statement)]


async def uses(connection: AsyncConnection, member_id: str) -> list[Used]:
    """All deliveries of versions with a member's rows, the latest first. Which of them had the rows is for the domain."""
    proposal = (
        sa.select(rule_table.c.proposal)
        .where(
            rule_table.c.id == sa.func.split_part(licensed_table.c.sharing_rule, "/", 4), rule_table.c.proposal != ""
        )
        .limit(1)
        .scalar_subquery()
    )
    statement = (
        _delivered()
        .add_columns(
            proposal.label("proposal"),
            deletion_notice_table.c.id.label("notice"),
            deletion_notice_table.c.attest_time,
        )
        .outerjoin(
            deletion_table,
            sa.and_(
                deletion_table.c.member_id == contribution_table.c.member_id,
                deletion_table.c.license == licensed_table.c.license,
                deletion_table.c.version == contribution_table.c.version,
            ),
        )
        .outerjoin(deletion_notice_table, deletion_notice_table.c.id == deletion_table.c.notice_id)
        .where(contribution_table.c.member_id == member_id)
        .order_by(
            delivery_table.c.last_time.desc(), licensed_table.c.license.desc(), contribution_table.c.version.desc()
        )
    )
    return [
        Used(
            _of(row),
            row.sharing_rule,
            row.proposal or "",
            Money.FromString(row.price),
            row.notice or "",
            row.attest_time,
        )
        for row in await connection.execute(statement)
    ]
