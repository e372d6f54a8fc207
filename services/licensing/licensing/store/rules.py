"""Our own copy of the sharing rules: every revision, with its interval in force."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from licensing.domain.rules import RuleBook
from licensing.store.tables import rule_book_table, sharing_rule_table
from rochdale.governance.v1 import governance_pb2
from rochdale_kit.clock import from_timestamp

_table = sharing_rule_table


async def keep(connection: AsyncConnection, rule: governance_pb2.SharingRule) -> None:
    """Writes a revision down, whichever order revisions arrive in. An end once known is never forgotten."""
    cooperative = rule.name.split("/")[1]
    await connection.execute(insert(rule_book_table).values(cooperative=cooperative).on_conflict_do_nothing())
    await connection.execute(
        sa.select(rule_book_table).where(rule_book_table.c.cooperative == cooperative).with_for_update()
    )
    statement = insert(_table).values(
        name=rule.name,
        revision=rule.revision,
        cooperative=cooperative,
        effect=rule.effect,
        body=rule.SerializeToString(),
        effective_time=from_timestamp(rule.effective_time),
        end_time=from_timestamp(rule.end_time) if rule.HasField("end_time") else None,
    )
    # least() passes over NULL, so the earlier of two known ends counts, and a known one before an unknown.
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name", "revision"],
            set_={"end_time": sa.func.least(_table.c.end_time, statement.excluded.end_time)},
        )
    )
    # A revision ends where a later one begins, whether or not its own end was told.
    later = _table.alias()
    begins = (
        sa.select(sa.func.min(later.c.effective_time))
        .where(later.c.name == _table.c.name, later.c.revision > _table.c.revision)
        .scalar_subquery()
    )
    await connection.execute(
        _table.update().where(_table.c.name == rule.name).values(end_time=sa.func.least(_table.c.end_time, begins))
    )


async def hold(connection: AsyncConnection, cooperative: str) -> None:
    """Keeps a cooperative's rules as they are until the transaction ends."""
    await connection.execute(
        sa.select(rule_book_table).where(rule_book_table.c.cooperative == cooperative).with_for_update(read=True)
    )


async def book(connection: AsyncConnection, cooperative: str, name: str, at: dt.datetime) -> RuleBook:
    """What matters of a cooperative's rules to a deal under the rule of this name."""
    statement = sa.select(_table.c.name, _table.c.effect, _table.c.body).where(
        _table.c.cooperative == cooperative,
        sa.or_(_table.c.effect == governance_pb2.RULE_EFFECT_DENY, _table.c.name == name),
        _table.c.effective_time <= at,
        sa.or_(_table.c.end_time.is_(None), _table.c.end_time > at),
    )
    rule, denials = None, []
    for row in await connection.execute(statement):
        kept = governance_pb2.SharingRule.FromString(row.body)
        if row.effect == governance_pb2.RULE_EFFECT_DENY:
            denials.append(kept)
        else:
            rule = kept
    return RuleBook(name, rule, denials)


async def hold_alone(connection: AsyncConnection, rule: governance_pb2.SharingRule) -> None:
    """One signature after the other under one rule, for rules that count their licenses."""
    await connection.execute(
        sa.select(_table.c.name).where(_table.c.name == rule.name, _table.c.revision == rule.revision).with_for_update()
    )
