"""Governance's tables and the only queries on them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rochdale.governance.v1 import governance_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import from_timestamp, to_timestamp

# Governance's own, not the kit's: several services may live in one process, and each has its own tables.
metadata = sa.MetaData()

cooperative_table = sa.Table(
    "cooperative",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("charter", sa.LargeBinary, nullable=False),
    sa.Column("member_count", sa.BigInteger, nullable=False),
    sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
)
member_table = sa.Table(
    "member",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("join_time", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("cooperative_id", "reference"),
)
# One row a revision. The migration's trigger keeps it as it was enacted: only its end may be written once.
rule_table = sa.Table(
    "sharing_rule",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("cooperative_id", sa.Text, sa.ForeignKey("cooperative.id"), nullable=False),
    sa.Column("effect", sa.SmallInteger, nullable=False),
    sa.Column("scope", sa.LargeBinary, nullable=False),
    sa.Column("rationale", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("effective_time", sa.DateTime(timezone=True)),
    sa.Column("end_time", sa.DateTime(timezone=True)),
    sa.Column("approvals", ARRAY(sa.Text), nullable=False),
    sa.Column("rule_hash", sa.Text, nullable=False),
    sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
)


def cooperative_of(row: sa.Row[tuple[object, ...]]) -> pb.Cooperative:
    return pb.Cooperative(
        name=f"cooperatives/{row.id}",
        display_name=row.display_name,
        description=row.description,
        charter=pb.Charter.FromString(row.charter),
        member_count=row.member_count,
        create_time=to_timestamp(row.create_time),
    )


def member_of(row: sa.Row[tuple[object, ...]]) -> pb.Member:
    return pb.Member(
        name=f"cooperatives/{row.cooperative_id}/members/{row.id}",
        reference=row.reference,
        join_time=to_timestamp(row.join_time),
    )


def rule_of(row: sa.Row[tuple[object, ...]]) -> pb.SharingRule:
    return pb.SharingRule(
        name=f"cooperatives/{row.cooperative_id}/sharingRules/{row.id}",
        revision=row.revision,
        effect=row.effect,
        scope=scope_pb2.SharingScope.FromString(row.scope),
        rationale=row.rationale,
        state=row.state,
        effective_time=to_timestamp(row.effective_time),
        end_time=to_timestamp(row.end_time),
        approvals=row.approvals,
        rule_hash=row.rule_hash,
        create_time=to_timestamp(row.create_time),
    )


async def insert_cooperative(
    connection: AsyncConnection, id: str, display_name: str, description: str, charter: pb.Charter, now: dt.datetime
) -> pb.Cooperative | None:
    """The new cooperative, or None if the organization has one."""
    statement = (
        insert(cooperative_table)
        .values(
            id=id,
            display_name=display_name,
            description=description,
            charter=charter.SerializeToString(),
            member_count=0,
            create_time=now,
        )
        .on_conflict_do_nothing()
        .returning(cooperative_table)
    )
    row = (await connection.execute(statement)).first()
    return cooperative_of(row) if row is not None else None


async def cooperative(connection: AsyncConnection, id: str, lock: bool = False) -> pb.Cooperative | None:
    """One cooperative. Whoever decides about its members or rules locks it first, so that one decision follows another."""
    statement = sa.select(cooperative_table).where(cooperative_table.c.id == id)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return cooperative_of(row) if row is not None else None


async def cooperatives(connection: AsyncConnection, after: str | None, limit: int) -> list[pb.Cooperative]:
    """By id."""
    table = cooperative_table
    statement = sa.select(table).order_by(table.c.id).limit(limit)
    if after is not None:
        statement = statement.where(table.c.id > after)
    return [cooperative_of(row) for row in await connection.execute(statement)]


async def insert_members(
    connection: AsyncConnection, cooperative_id: str, new: Sequence[tuple[str, str]], now: dt.datetime
) -> list[str]:
    """Adds those of (id, reference) who are no members yet, and counts them; resource names of the added, in order."""
    table = member_table
    rows = [
        {"id": id, "cooperative_id": cooperative_id, "reference": reference, "join_time": now} for id, reference in new
    ]
    statement = insert(table).values(rows).on_conflict_do_nothing(index_elements=["cooperative_id", "reference"])
    added = sorted(row.id for row in await connection.execute(statement.returning(table.c.id)))
    await connection.execute(
        cooperative_table.update()
        .where(cooperative_table.c.id == cooperative_id)
        .values(member_count=cooperative_table.c.member_count + len(added))
    )
    return [f"cooperatives/{cooperative_id}/members/{id}" for id in added]


async def members(connection: AsyncConnection, cooperative_id: str, after: str | None, limit: int) -> list[pb.Member]:
    """By reference."""
    table = member_table
    statement = (
        sa.select(table).where(table.c.cooperative_id == cooperative_id).order_by(table.c.reference).limit(limit)
    )
    if after is not None:
        statement = statement.where(table.c.reference > after)
    return [member_of(row) for row in await connection.execute(statement)]


async def insert_rule(connection: AsyncConnection, rule: pb.SharingRule) -> None:
    """A revision, as it was decided."""
    cooperative_id, id = _ids(rule.name)
    await connection.execute(
        rule_table.insert().values(
            id=id,
            revision=rule.revision,
            cooperative_id=cooperative_id,
            effect=rule.effect,
            scope=rule.scope.SerializeToString(deterministic=True),
            rationale=rule.rationale,
            create_time=from_timestamp(rule.create_time),
            **_progress(rule),
        )
    )


async def update_rule(connection: AsyncConnection, rule: pb.SharingRule) -> None:
    """Writes how far a revision has come: its approvals, its entry into force, its end."""
    _, id = _ids(rule.name)
    table = rule_table
    await connection.execute(
        table.update().where(table.c.id == id, table.c.revision == rule.revision).values(**_progress(rule))
    )


async def rule(connection: AsyncConnection, cooperative_id: str, id: str, revision: int = 0) -> pb.SharingRule | None:
    """One revision of a rule; 0 is the latest."""
    table = rule_table
    statement = (
        sa.select(table)
        .where(table.c.cooperative_id == cooperative_id, table.c.id == id)
        .order_by(table.c.revision.desc())
        .limit(1)
    )
    if revision:
        statement = statement.where(table.c.revision == revision)
    row = (await connection.execute(statement)).first()
    return rule_of(row) if row is not None else None


async def rules(
    connection: AsyncConnection, cooperative_id: str, before: str | None, limit: int, proposed: bool
) -> list[pb.SharingRule]:
    """Latest revisions, newest rule first; proposed ones only if asked for."""
    table = rule_table
    statement = (
        sa.select(table)
        .ext(distinct_on(table.c.id))
        .where(table.c.cooperative_id == cooperative_id)
        .order_by(table.c.id.desc(), table.c.revision.desc())
        .limit(limit)
    )
    if not proposed:
        statement = statement.where(table.c.state != pb.RULE_STATE_PROPOSED)
    if before is not None:
        statement = statement.where(table.c.id < before)
    return [rule_of(row) for row in await connection.execute(statement)]


def _progress(rule: pb.SharingRule) -> dict[str, object]:
    return {
        "state": rule.state,
        "effective_time": from_timestamp(rule.effective_time) if rule.HasField("effective_time") else None,
        "end_time": from_timestamp(rule.end_time) if rule.HasField("end_time") else None,
        "approvals": list(rule.approvals),
        "rule_hash": rule.rule_hash,
    }


def _ids(name: str) -> tuple[str, str]:
    """The ids of the cooperative and of the rule in a rule's resource name."""
    _, cooperative_id, _, id = name.split("/")
    return cooperative_id, id
