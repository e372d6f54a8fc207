"""Queries on rules and grants heard of, revocations applied, and how far the feed was followed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.store.tables import feed_position_table, grant_table, revocation_table, rule_table
from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.governance.v1 import governance_pb2
from rochdale_kit.clock import from_timestamp, to_timestamp

OPEN, CLOSED, REFUSED = "OPEN", "CLOSED", "REFUSED"


@dataclass(frozen=True)
class GrantRow:
    """A grant as it was heard, and what this gateway made of it."""

    chain: broker.GrantChain
    state: str
    state_reason: str
    signed: bool


async def save_grant(connection: AsyncConnection, row: GrantRow, now: dt.datetime) -> None:
    """A grant heard for the first time, or again after it had been refused."""
    statement = insert(grant_table).values(
        id=row.chain.grant.name,
        license=row.chain.grant.license,
        state=row.state,
        state_reason=row.state_reason,
        chain=row.chain.SerializeToString(deterministic=True),
        hear_time=now,
        signed=row.signed,
    )
    changed = {name: statement.excluded[name] for name in ("state", "state_reason", "chain", "hear_time", "signed")}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_=changed, where=grant_table.c.state == REFUSED)
    )


async def close_grant(connection: AsyncConnection, name: str, reason: str) -> None:
    await connection.execute(
        grant_table.update()
        .where(grant_table.c.id == name, grant_table.c.state == OPEN)
        .values(state=CLOSED, state_reason=reason)
    )


async def set_grant_state(connection: AsyncConnection, name: str, state: str, reason: str, signed: bool) -> None:
    """What proving a grant again found. What was closed stays closed."""
    await connection.execute(
        grant_table.update()
        .where(grant_table.c.id == name, grant_table.c.state != CLOSED)
        .values(state=state, state_reason=reason, signed=signed)
    )


async def save_rule(connection: AsyncConnection, rule: governance_pb2.SharingRule, now: dt.datetime) -> None:
    statement = insert(rule_table).values(
        name=rule.name,
        revision=rule.revision,
        rule_hash=rule.rule_hash,
        rule=rule.SerializeToString(deterministic=True),
        hear_time=now,
    )
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name", "revision", "rule_hash"], set_={"rule": statement.excluded.rule}
        )
    )


async def rules(connection: AsyncConnection) -> list[governance_pb2.SharingRule]:
    """Every revision remembered."""
    documents = (await connection.execute(sa.select(rule_table.c.rule))).scalars()
    return [governance_pb2.SharingRule.FromString(document) for document in documents]


async def grants(connection: AsyncConnection) -> list[GrantRow]:
    rows = await connection.execute(sa.select(grant_table))
    return [GrantRow(broker.GrantChain.FromString(row.chain), row.state, row.state_reason, row.signed) for row in rows]


async def save_revocations(
    connection: AsyncConnection, revocations: Iterable[broker.Revocation], applied_sequence: int
) -> None:
    """Keeps revocations and how far nothing was missed; neither is ever taken back."""
    rows = [
        {
            "sequence": one.sequence,
            "kind": one.kind,
            "subject": one.subject,
            "revoke_time": from_timestamp(one.revoke_time),
            "forget_time": from_timestamp(one.forget_time) if one.HasField("forget_time") else None,
        }
        for one in revocations
    ]
    if rows:
        await connection.execute(insert(revocation_table).values(rows).on_conflict_do_nothing())
    table = feed_position_table
    await connection.execute(
        table.update().values(applied_sequence=sa.func.greatest(table.c.applied_sequence, applied_sequence))
    )


async def revocations(connection: AsyncConnection) -> tuple[list[broker.Revocation], int]:
    """Every one that is kept, and the applied sequence."""
    applied = (await connection.execute(sa.select(feed_position_table.c.applied_sequence))).scalar_one()
    rows = await connection.execute(sa.select(revocation_table).order_by(revocation_table.c.sequence))
    found = [
        broker.Revocation(
            sequence=row.sequence,
            kind=row.kind,
            subject=row.subject,
            revoke_time=to_timestamp(row.revoke_time),
            forget_time=to_timestamp(row.forget_time),
        )
        for row in rows
    ]
    return found, int(applied)


async def forget_revocations(connection: AsyncConnection, now: dt.datetime) -> None:
    await connection.execute(revocation_table.delete().where(revocation_table.c.forget_time < now))
