"""Where members are paid, how their dividends are classified, and what nobody could be paid. Personal, so apart."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.store.dividend_tables import objection_table, payee_table, tax_profile_table, unclaimed_table
from rochdale.billing.v1 import dividends_pb2 as pb

_payee, _unclaimed = payee_table.c, unclaimed_table.c


@dataclass(frozen=True, slots=True)
class Account:
    """A member's account; iban is empty for a member who is to be paid no more, or was erased. returned: a payment to it
    came back, and it gets no other one."""

    iban: str
    holder: str
    usable_time: dt.datetime
    returned: bool = False


async def hold(connection: AsyncConnection, member_id: str) -> None:
    """Until the transaction ends nobody else says where a member is paid. A row could not be held that is not there yet,
    and of two first accounts each would think itself the first."""
    # The first number is arbitrary and this lock's own.
    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(1849, hashtext(:id))"), {"id": member_id})


async def get(connection: AsyncConnection, member_id: str) -> Account | None:
    """None for a member who never named one."""
    row = (await connection.execute(sa.select(payee_table).where(_payee.member_id == member_id))).first()
    return Account(row.iban, row.holder, row.usable_time, row.returned) if row is not None else None


async def named(connection: AsyncConnection, members: Sequence[str]) -> dict[str, Account]:
    """Each member's account; members without one are left out."""
    statement = sa.text(
        "SELECT member_id, iban, holder, usable_time, returned FROM payee WHERE iban <> '' AND member_id = ANY(:members)"
    ).bindparams(sa.bindparam("members", list(members), type_=ARRAY(sa.Text)))
    rows = await connection.execute(statement)
    return {row.member_id: Account(row.iban, row.holder, row.usable_time, row.returned) for row in rows}


async def profiles(connection: AsyncConnection, members: Sequence[str]) -> dict[str, pb.TaxProfile]:
    """By member; most have none."""
    statement = sa.text("SELECT member_id, profile FROM tax_profile WHERE member_id = ANY(:members)").bindparams(
        sa.bindparam("members", list(members), type_=ARRAY(sa.Text))
    )
    rows = await connection.execute(statement)
    return {row.member_id: pb.TaxProfile.FromString(row.profile) for row in rows}


async def found_wrong(connection: AsyncConnection, members: Sequence[str]) -> None:
    """Payments to their accounts came back."""
    await connection.execute(payee_table.update().where(_payee.member_id.in_(members)).values(returned=True))


async def save(connection: AsyncConnection, member_id: str, account: Account) -> None:
    values = dataclasses.asdict(account)
    statement = upsert(payee_table).values(member_id=member_id, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["member_id"], set_=values))


async def forget(connection: AsyncConnection, member_id: str) -> None:
    """Nothing is kept that points at the person, but where a payment that is on its way goes until the bank answered."""
    await connection.execute(payee_table.update().where(_payee.member_id == member_id).values(iban="", holder=""))
    c = objection_table.c
    await connection.execute(objection_table.update().where(c.member_id == member_id).values(text="(erased)"))
    await connection.execute(tax_profile_table.delete().where(tax_profile_table.c.member_id == member_id))


async def tax_profile(connection: AsyncConnection, member_id: str) -> pb.TaxProfile | None:
    c = tax_profile_table.c
    body = (await connection.execute(sa.select(c.profile).where(c.member_id == member_id))).scalar_one_or_none()
    return pb.TaxProfile.FromString(body) if body is not None else None


async def save_tax_profile(connection: AsyncConnection, member_id: str, profile: pb.TaxProfile) -> None:
    statement = upsert(tax_profile_table).values(member_id=member_id, profile=profile.SerializeToString())
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["member_id"], set_={"profile": statement.excluded.profile})
    )


async def unclaimed(connection: AsyncConnection, member_id: str) -> list[tuple[str, int]]:
    """Currency and amount of what is a member's and nobody could be paid."""
    statement = sa.select(unclaimed_table).where(_unclaimed.member_id == member_id, _unclaimed.amount_minor > 0)
    return [
        (row.currency, row.amount_minor) for row in await connection.execute(statement.order_by(_unclaimed.currency))
    ]


async def move_unclaimed(connection: AsyncConnection, member_id: str, currency: str, amount_minor: int) -> int:
    """Adds to what is unclaimed, or takes off it; returns how often it moved, this time included."""
    # First empty, because a negative amount is refused as a new row even where there is one to take it off.
    empty = upsert(unclaimed_table).values(member_id=member_id, currency=currency, amount_minor=0, moves=0)
    await connection.execute(empty.on_conflict_do_nothing())
    moved = await connection.execute(
        unclaimed_table.update()
        .where(_unclaimed.member_id == member_id, _unclaimed.currency == currency)
        .values(amount_minor=_unclaimed.amount_minor + amount_minor, moves=_unclaimed.moves + 1)
        .returning(_unclaimed.moves)
    )
    moves: int = moved.scalar_one()
    return moves


async def lost(connection: AsyncConnection, before: dt.datetime, limit: int) -> list[Any]:
    """Members who left or were erased, name no account, are owed something, and had no run posted since a time: rows with
    member_id, cooperative and currency."""
    statement = sa.text(
        """
        SELECT member.id AS member_id, member.cooperative, account.currency
        FROM member
        LEFT JOIN payee ON payee.member_id = member.id AND payee.iban <> ''
        JOIN account ON account.book = 'coop:' || member.cooperative AND account.balance_minor <> 0
            AND account.code = 'member:' || member.id || '\\:payable'
        WHERE (member.leave_time < :before OR member.erase_time < :before) AND payee.member_id IS NULL
            AND NOT EXISTS (
                SELECT FROM dividend_line JOIN dividend_run ON dividend_run.id = dividend_line.run_id
                WHERE dividend_line.member_id = member.id AND dividend_line.amount_minor > 0
                    AND (dividend_run.post_time >= :before OR dividend_run.state IN (5, 6))
            )
        ORDER BY member.id, account.currency LIMIT :limit
        """
    )
    return list(await connection.execute(statement, {"before": before, "limit": limit}))
