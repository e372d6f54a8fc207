"""Our own copy of the sharing rules: every revision, with its interval in force."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from licensing.domain.rules import RuleBook
from licensing.store.tables import Row, rule_book_table, sharing_rule_table
from rochdale.governance.v1 import governance_pb2
from rochdale_kit.clock import from_timestamp, to_timestamp

_table = sharing_rule_table
_DENY = governance_pb2.RULE_EFFECT_DENY


def _rule_of(row: Row) -> governance_pb2.SharingRule:
    """The revision as it was told, with the end that is believed."""
    rule = governance_pb2.SharingRule.FromString(row.body)
    rule.ClearField("end_time")
    if row.end_time is not None:
        rule.end_time.CopyFrom(to_timestamp(row.end_time))
    return rule


async def keep(
    connection: AsyncConnection, rule: governance_pb2.SharingRule, end: dt.datetime | None, expire: dt.datetime | None
) -> None:
    """Writes a revision down, whichever order revisions arrive in. An end once known is never forgotten.

    end, expire: as far as they are believed. The caller holds the book alone.
    """
    statement = insert(_table).values(
        name=rule.name,
        revision=rule.revision,
        cooperative=rule.name.split("/")[1],
        effect=rule.effect,
        body=rule.SerializeToString(),
        effective_time=from_timestamp(rule.effective_time),
        end_time=end,
        expire_time=expire,
    )
    # least() passes over NULL, so the earlier of two known ends counts, and a known one before an unknown.
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name", "revision"],
            set_={"end_time": sa.func.least(_table.c.end_time, statement.excluded.end_time)},
        )
    )
    if rule.effect == _DENY:
        # What forbids ends by a signed end of its own or by itself. A later revision might forbid less.
        return
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


async def hold_alone(connection: AsyncConnection, cooperative: str) -> None:
    """The book of a cooperative for one who changes it, or carries out what it says: nobody signs meanwhile."""
    await connection.execute(insert(rule_book_table).values(cooperative=cooperative).on_conflict_do_nothing())
    await connection.execute(
        sa.select(rule_book_table).where(rule_book_table.c.cooperative == cooperative).with_for_update()
    )


def _in_force(at: dt.datetime) -> sa.ColumnElement[bool]:
    # By its own expiry too: the event that tells it may be late.
    return sa.and_(
        _table.c.effective_time <= at,
        sa.or_(_table.c.end_time.is_(None), _table.c.end_time > at),
        sa.or_(_table.c.expire_time.is_(None), _table.c.expire_time > at),
    )


async def book(connection: AsyncConnection, cooperative: str, name: str, at: dt.datetime) -> RuleBook:
    """What matters of a cooperative's rules to a deal under the rule of this name."""
    statement = sa.select(_table).where(
        _table.c.cooperative == cooperative, sa.or_(_table.c.effect == _DENY, _table.c.name == name), _in_force(at)
    )
    rule, denials = None, []
    for row in await connection.execute(statement):
        if row.effect == _DENY:
            denials.append(_rule_of(row))
        else:
            rule = _rule_of(row)
    return RuleBook(name, rule, denials)


async def in_force(connection: AsyncConnection, cooperative: str, at: dt.datetime) -> list[governance_pb2.SharingRule]:
    """All rules of a cooperative in force, those that allow and those that forbid, oldest first."""
    statement = (
        sa.select(_table)
        .where(_table.c.cooperative == cooperative, _in_force(at))
        .order_by(_table.c.effective_time, _table.c.name)
    )
    return [_rule_of(row) for row in await connection.execute(statement)]


async def latest(connection: AsyncConnection, name: str) -> governance_pb2.SharingRule | None:
    """The latest revision heard of, in force or not."""
    statement = sa.select(_table).where(_table.c.name == name).order_by(_table.c.revision.desc()).limit(1)
    row = (await connection.execute(statement)).first()
    return _rule_of(row) if row is not None else None


async def settle_at(connection: AsyncConnection, name: str, revision: int, at: dt.datetime | None) -> None:
    """When the rule has to be carried out the next time; None for never again."""
    # Of all revisions, so that an earlier one is not looked at for ever.
    due = sa.case((_table.c.revision == revision, sa.cast(at, sa.DateTime(timezone=True))), else_=None)
    await connection.execute(_table.update().where(_table.c.name == name).values(settle_time=due))


async def to_settle(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[str]:
    """Names of rules whose time to be carried out has come. Nothing is locked: the book comes first."""
    statement = (
        sa.select(_table.c.name)
        .where(_table.c.settle_time <= now)
        .group_by(_table.c.name)
        .order_by(sa.func.min(_table.c.settle_time))
        .limit(limit)
    )
    return list((await connection.execute(statement)).scalars())


async def one_at_a_time(connection: AsyncConnection, rule: governance_pb2.SharingRule) -> None:
    """One signature after the other under one rule, for rules that count their licenses."""
    await connection.execute(
        sa.select(_table.c.name).where(_table.c.name == rule.name, _table.c.revision == rule.revision).with_for_update()
    )
