"""Lines of dividend runs as rows, thousands in a statement, and where their payments go."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.dividend_runs import CHUNK, RunLine
from billing.domain.dividends import Contribution, Line, Part
from billing.store.dividend_tables import line_table, payment_account_table

_line = line_table.c


def _statement(sql: str, **types: Any) -> sa.TextClause:
    return sa.text(sql).bindparams(*(sa.bindparam(name, type_=type_) for name, type_ in types.items()))


_TEXTS, _NUMBERS = ARRAY(sa.Text), ARRAY(sa.BigInteger)
_INSERT = _statement(
    """
    INSERT INTO dividend_line
        (run_id, position, chunk, member_id, equal_minor, parts, cap_change_minor, amount_minor)
    SELECT :run_id, number - 1, (number - 1) / :chunk, member_id, equal_minor, parts::jsonb, cap_change_minor,
           amount_minor
    FROM unnest(:members, :equals, :parts, :changes, :amounts) WITH ORDINALITY
        AS new(member_id, equal_minor, parts, cap_change_minor, amount_minor, number)
    """,
    run_id=sa.Text,
    chunk=sa.Integer,
    members=_TEXTS,
    equals=_NUMBERS,
    parts=_TEXTS,
    changes=_NUMBERS,
    amounts=_NUMBERS,
)
_POSTED = _statement(
    """
    UPDATE dividend_line SET posted = true, carried_in_minor = new.carried_in,
           carried_out_minor = new.carried_in + amount_minor
    FROM unnest(:members, :carried_in) AS new(member_id, carried_in)
    WHERE run_id = :run_id AND dividend_line.member_id = new.member_id
    """,
    run_id=sa.Text,
    members=_TEXTS,
    carried_in=_NUMBERS,
)
_MADE_OUT = _statement(
    """
    UPDATE dividend_line SET carried_in_minor = new.held - amount_minor, paid_minor = new.paid,
           withheld_minor = new.withheld, carried_out_minor = new.held - new.paid - new.withheld,
           carry_reason = new.reason, classification = new.classification, payment_reference = new.reference
    FROM unnest(:members, :held, :paid, :withheld, :reasons, :classifications, :refs)
        AS new(member_id, held, paid, withheld, reason, classification, reference)
    WHERE run_id = :run_id AND dividend_line.member_id = new.member_id
    """,
    run_id=sa.Text,
    members=_TEXTS,
    held=_NUMBERS,
    paid=_NUMBERS,
    withheld=_NUMBERS,
    reasons=_TEXTS,
    classifications=_TEXTS,
    refs=_TEXTS,
)
_ACCOUNTS = _statement(
    """
    INSERT INTO dividend_payment (run_id, member_id, iban, holder)
    SELECT :run_id, member_id, iban, holder FROM unnest(:members, :ibans, :holders) AS new(member_id, iban, holder)
    """,
    run_id=sa.Text,
    members=_TEXTS,
    ibans=_TEXTS,
    holders=_TEXTS,
)


async def replace_lines(connection: AsyncConnection, run_id: str, lines: Sequence[Line]) -> None:
    """All lines of a run anew. The caller holds the run's lock."""
    await connection.execute(line_table.delete().where(_line.run_id == run_id))
    await connection.execute(
        _INSERT,
        {
            "run_id": run_id,
            "chunk": CHUNK,
            "members": [line.member for line in lines],
            "equals": [line.equal_minor for line in lines],
            "parts": [json.dumps([_kept(part) for part in line.parts], separators=(",", ":")) for line in lines],
            "changes": [line.cap_change_minor for line in lines],
            "amounts": [line.amount_minor for line in lines],
        },
    )


def _kept(part: Part) -> list[Any]:
    one = part.contribution
    return [one.version, one.units, one.rows, one.per_mille, one.days, part.amount_minor]


def _of(row: Any) -> RunLine:
    parts = tuple(
        Part(Contribution(row.member_id, version, units, rows, per_mille, days), amount)
        for version, units, rows, per_mille, days, amount in row.parts
    )
    return RunLine(
        member_id=row.member_id,
        line=Line(row.member_id, row.equal_minor, parts, row.cap_change_minor),
        posted=row.posted,
        carried_in_minor=row.carried_in_minor,
        withheld_minor=row.withheld_minor,
        paid_minor=row.paid_minor,
        carried_out_minor=row.carried_out_minor,
        carry_reason=row.carry_reason,
        classification=row.classification,
        payment_reference=row.payment_reference,
        returned=row.returned,
    )


async def get(connection: AsyncConnection, run_id: str, member_id: str) -> RunLine | None:
    statement = sa.select(line_table).where(_line.run_id == run_id, _line.member_id == member_id)
    row = (await connection.execute(statement)).first()
    return _of(row) if row is not None else None


async def page(
    connection: AsyncConnection, member_id: str, run_states: Sequence[int], before: str | None, limit: int
) -> list[tuple[str, RunLine]]:
    """A member's lines with their runs' ids, newest first, of runs in one of these states."""
    runs = sa.text("SELECT id FROM dividend_run WHERE state = ANY(:states)").bindparams(
        sa.bindparam("states", list(run_states), type_=ARRAY(sa.SmallInteger))
    )
    statement = (
        sa.select(line_table)
        .where(_line.member_id == member_id, _line.run_id.in_(runs.columns(sa.column("id", sa.Text))))
        .order_by(_line.run_id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(_line.run_id < before)
    return [(row.run_id, _of(row)) for row in await connection.execute(statement)]


async def next_chunk(connection: AsyncConnection, run_id: str) -> int | None:
    """The first part of a run that is not posted."""
    statement = sa.select(sa.func.min(_line.chunk)).where(_line.run_id == run_id, _line.posted.is_(False))
    found: int | None = (await connection.execute(statement)).scalar_one()
    return found


async def amounts(connection: AsyncConnection, run_id: str, chunk: int | None = None) -> list[tuple[str, int]]:
    """Members and what the run allots them, in the run's order; of one part or of all."""
    statement = sa.select(_line.member_id, _line.amount_minor).where(_line.run_id == run_id).order_by(_line.position)
    if chunk is not None:
        statement = statement.where(_line.chunk == chunk)
    return [(row.member_id, row.amount_minor) for row in await connection.execute(statement)]


async def set_posted(connection: AsyncConnection, run_id: str, carried_in: Mapping[str, int]) -> None:
    """carried_in: what each member of the part had before."""
    values = {"run_id": run_id, "members": list(carried_in), "carried_in": list(carried_in.values())}
    await connection.execute(_POSTED, values)


async def posted_count(connection: AsyncConnection, run_id: str) -> int:
    statement = sa.select(sa.func.count()).select_from(line_table).where(_line.run_id == run_id, _line.posted.is_(True))
    return int((await connection.execute(statement)).scalar_one())


async def set_made_out(
    connection: AsyncConnection, run_id: str, lines: Sequence[tuple[str, int, int, int, str, str, str]]
) -> None:
    """lines: member, what they had, paid, withheld, why carried, classification, reference of the payment."""
    columns = [list(column) for column in zip(*lines, strict=True)] or [[]] * 7
    names = ("members", "held", "paid", "withheld", "reasons", "classifications", "refs")
    await connection.execute(_MADE_OUT, {"run_id": run_id, **dict(zip(names, columns, strict=True))})


async def keep_payment_accounts(
    connection: AsyncConnection, run_id: str, accounts: Mapping[str, tuple[str, str]]
) -> None:
    """Where each payment goes, IBAN and holder by member: a change while it is on its way changes no file."""
    ibans, holders = [iban for iban, _ in accounts.values()], [holder for _, holder in accounts.values()]
    await connection.execute(
        _ACCOUNTS, {"run_id": run_id, "members": list(accounts), "ibans": ibans, "holders": holders}
    )


async def payments(connection: AsyncConnection, run_id: str) -> list[Any]:
    """What was made out and has not come back: rows with member_id, paid_minor, payment_reference, in order."""
    statement = (
        sa.select(_line.member_id, _line.paid_minor, _line.payment_reference, _line.returned)
        .where(_line.run_id == run_id, _line.payment_reference != "")
        .order_by(_line.position)
    )
    return list(await connection.execute(statement))


async def payment_accounts(connection: AsyncConnection, run_id: str) -> dict[str, tuple[str, str]]:
    """Holder and IBAN by member, of payments the bank has not answered yet."""
    c = payment_account_table.c
    statement = sa.select(c.member_id, c.holder, c.iban).where(c.run_id == run_id)
    return {row.member_id: (row.holder, row.iban) for row in await connection.execute(statement)}


async def forget_payment_accounts(connection: AsyncConnection, run_id: str) -> None:
    await connection.execute(payment_account_table.delete().where(payment_account_table.c.run_id == run_id))


async def set_returned(connection: AsyncConnection, run_id: str, members: Sequence[str], reason: str) -> None:
    """Their payments came back: what was paid is carried forward."""
    await connection.execute(
        line_table.update()
        .where(_line.run_id == run_id, _line.member_id.in_(members))
        .values(
            returned=True,
            carried_out_minor=_line.carried_out_minor + _line.paid_minor,
            paid_minor=0,
            carry_reason=reason,
        )
    )
