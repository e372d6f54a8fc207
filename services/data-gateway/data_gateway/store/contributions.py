"""Queries on whose rows are where in which version."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.ingest import Positions
from data_gateway.store.deliveries import pack, unpack
from data_gateway.store.tables import contribution_table as table
from data_gateway.store.tables import member_table

BATCH = 1_000


@dataclass(frozen=True)
class Contribution:
    """One pseudonym's rows in a version: dataset is a resource name, positions are those of the version as published."""

    dataset: str
    number: int
    pseudonym: str
    row_count: int
    rows_hash: str
    positions: Positions


@dataclass(frozen=True)
class Untold:
    """A contribution of a member whom governance has named, and was not told about."""

    dataset: str
    number: int
    pseudonym: str
    member: str
    row_count: int
    rows_hash: str


async def save(connection: AsyncConnection, contributions: Iterable[Contribution]) -> None:
    """Keeps contributions; the same again changes nothing."""
    rows = [
        {
            "dataset": one.dataset,
            "number": one.number,
            "pseudonym": one.pseudonym,
            "row_count": one.row_count,
            "rows_hash": one.rows_hash,
            "positions": pack(one.positions),
        }
        for one in contributions
    ]
    for at in range(0, len(rows), BATCH):
        await connection.execute(insert(table).values(rows[at : at + BATCH]).on_conflict_do_nothing())


async def untold(connection: AsyncConnection) -> list[Untold]:
    """Up to a thousand, all of one version."""
    erased = sa.select(member_table.c.name).where(member_table.c.erase_time.is_not(None))
    statement = (
        sa.select(table, member_table.c.name)
        .join(member_table, member_table.c.pseudonym == table.c.pseudonym)
        .where(
            member_table.c.erase_time.is_(None),
            # Somebody erased may have joined again.
            sa.or_(table.c.told_member.is_(None), table.c.told_member.in_(erased)),
        )
        .order_by(table.c.dataset, table.c.number)
        .limit(BATCH)
    )
    rows = [
        Untold(row.dataset, row.number, row.pseudonym, row.name, row.row_count, row.rows_hash)
        for row in await connection.execute(statement)
    ]
    return [row for row in rows if (row.dataset, row.number) == (rows[0].dataset, rows[0].number)]


async def set_told(connection: AsyncConnection, told: Collection[Untold]) -> None:
    """told: all of one version."""
    first = next(iter(told))
    await connection.execute(
        table.update()
        .where(
            table.c.dataset == first.dataset,
            table.c.number == first.number,
            table.c.pseudonym == sa.any_(sa.literal([one.pseudonym for one in told])),
            member_table.c.name == sa.any_(sa.literal([one.member for one in told])),
            member_table.c.pseudonym == table.c.pseudonym,
        )
        .values(told_member=member_table.c.name)
    )


async def row_counts(
    connection: AsyncConnection, dataset: str, number: int, pseudonyms: Collection[str]
) -> dict[str, int]:
    """How many rows each of these has in a version; who has none is not in it."""
    statement = sa.select(table.c.pseudonym, table.c.row_count).where(
        table.c.dataset == dataset, table.c.number == number, table.c.pseudonym == sa.any_(sa.literal(list(pseudonyms)))
    )
    return {row.pseudonym: row.row_count for row in await connection.execute(statement)}


async def of(
    connection: AsyncConnection, dataset: str, number: int, pseudonyms: Collection[str]
) -> dict[str, Contribution]:
    """By pseudonym."""
    statement = sa.select(table).where(
        table.c.dataset == dataset, table.c.number == number, table.c.pseudonym == sa.any_(sa.literal(list(pseudonyms)))
    )
    return {
        row.pseudonym: Contribution(
            row.dataset, row.number, row.pseudonym, row.row_count, row.rows_hash, unpack(row.positions)
        )
        for row in await connection.execute(statement)
    }


async def to_purge(connection: AsyncConnection) -> dict[tuple[str, int], set[str]]:
    """Versions (dataset, number) and the pseudonyms of erased members who have, or had, rows in them."""
    statement = (
        sa.select(table.c.dataset, table.c.number, table.c.pseudonym)
        .join(member_table, member_table.c.pseudonym == table.c.pseudonym)
        .where(member_table.c.erase_time.is_not(None))
    )
    found: dict[tuple[str, int], set[str]] = {}
    for row in await connection.execute(statement):
        found.setdefault((row.dataset, row.number), set()).add(row.pseudonym)
    return found
