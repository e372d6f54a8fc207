"""Queries on sharing rules."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.tables import rule_table
from rochdale.governance.v1 import governance_pb2 as pb
from rochdale.type.v1 import scope_pb2, signature_pb2
from rochdale_kit.clock import from_timestamp, to_timestamp


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
        proposal=row.proposal,
        tally_hash=row.tally_hash,
        expire_time=to_timestamp(row.expire_time),
        member_recall=row.member_recall,
        emergency=row.emergency,
        signature=_signature(row.signature),
        end_signature=_signature(row.end_signature),
    )


def _signature(raw: bytes | None) -> signature_pb2.Signature | None:
    return None if raw is None else signature_pb2.Signature.FromString(raw)


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
            proposal=rule.proposal,
            tally_hash=rule.tally_hash,
            member_recall=rule.member_recall,
            emergency=rule.emergency,
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


async def rules_named(
    connection: AsyncConnection, cooperative_id: str, names: Collection[str]
) -> dict[str, pb.SharingRule]:
    """Latest revisions of these rules of the cooperative, by resource name; what is not its own is left out."""
    if not names:
        return {}
    table = rule_table
    statement = (
        sa.select(table)
        .ext(distinct_on(table.c.id))
        .where(table.c.cooperative_id == cooperative_id, table.c.id.in_([name.rsplit("/", 1)[-1] for name in names]))
        .order_by(table.c.id, table.c.revision.desc())
    )
    found = [rule_of(row) for row in await connection.execute(statement)]
    return {rule.name: rule for rule in found if rule.name in names}


async def rules_of_proposal(connection: AsyncConnection, proposal: str) -> list[pb.SharingRule]:
    """Latest revisions of the rules a proposal (resource name) enacted."""
    table = rule_table
    statement = (
        sa.select(table)
        .ext(distinct_on(table.c.id))
        .where(table.c.proposal == proposal)
        .order_by(table.c.id, table.c.revision.desc())
    )
    return [rule_of(row) for row in await connection.execute(statement)]


async def expired_rules(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[pb.SharingRule]:
    """Rules whose time is over and that nobody has ended yet, the first to expire first."""
    table = rule_table
    statement = (
        sa.select(table)
        .where(table.c.state == pb.RULE_STATE_IN_FORCE, table.c.expire_time <= now)
        .order_by(table.c.expire_time)
        .limit(limit)
    )
    return [rule_of(row) for row in await connection.execute(statement)]


def _progress(rule: pb.SharingRule) -> dict[str, object]:
    return {
        "state": rule.state,
        "effective_time": from_timestamp(rule.effective_time) if rule.HasField("effective_time") else None,
        "end_time": from_timestamp(rule.end_time) if rule.HasField("end_time") else None,
        "approvals": list(rule.approvals),
        "rule_hash": rule.rule_hash,
        "expire_time": from_timestamp(rule.expire_time) if rule.HasField("expire_time") else None,
        "signature": rule.signature.SerializeToString() if rule.HasField("signature") else None,
        "end_signature": rule.end_signature.SerializeToString() if rule.HasField("end_signature") else None,
    }


def _ids(name: str) -> tuple[str, str]:
    """The ids of the cooperative and of the rule in a rule's resource name."""
    _, cooperative_id, _, id = name.split("/")
    return cooperative_id, id
