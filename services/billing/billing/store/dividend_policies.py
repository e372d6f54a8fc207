"""Cooperatives' keys and the dividend policies signed with them, as governance told them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.store.dividend_tables import cooperative_table, policy_table
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1.dividend_policy_pb2 import DividendPolicy
from rochdale_kit.clock import to_timestamp

_policy = policy_table.c


async def cooperative(connection: AsyncConnection, id: str, *, lock: bool = False) -> governance_pb2.Cooperative | None:
    """What is known of one; no more of it is kept than its keys."""
    statement = sa.select(cooperative_table.c.body).where(cooperative_table.c.id == id)
    body = (await connection.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    return governance_pb2.Cooperative.FromString(body) if body is not None else None


async def keep_cooperative(connection: AsyncConnection, told: governance_pb2.Cooperative) -> None:
    kept = governance_pb2.Cooperative(name=told.name, signing_keys=told.signing_keys)
    statement = upsert(cooperative_table).values(id=told.name.split("/")[1], body=kept.SerializeToString())
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_={"body": statement.excluded.body})
    )


async def insert(connection: AsyncConnection, cooperative_id: str, version: pb.DividendPolicyVersion) -> None:
    """Kept once and never changed; told again, nothing happens."""
    statement = upsert(policy_table).values(
        cooperative=cooperative_id,
        version=int(version.name.rsplit("/", 1)[1]),
        policy=version.policy.SerializeToString(),
        policy_hash=version.policy_hash,
        proposal=version.proposal,
        effective_time=version.effective_time.ToDatetime(tzinfo=dt.UTC),
    )
    await connection.execute(statement.on_conflict_do_nothing())


async def every(connection: AsyncConnection, cooperative_id: str) -> list[pb.DividendPolicyVersion]:
    """Oldest first."""
    statement = sa.select(policy_table).where(_policy.cooperative == cooperative_id).order_by(_policy.version)
    return [_of(row) for row in await connection.execute(statement)]


async def in_force(connection: AsyncConnection, cooperative_id: str, at: dt.datetime) -> int | None:
    """The version in force at a time."""
    statement = (
        sa.select(_policy.version)
        .where(_policy.cooperative == cooperative_id, _policy.effective_time <= at)
        .order_by(_policy.effective_time.desc(), _policy.version.desc())
        .limit(1)
    )
    return (await connection.execute(statement)).scalar_one_or_none()


async def get(connection: AsyncConnection, cooperative_id: str, version: int) -> pb.DividendPolicyVersion:
    statement = sa.select(policy_table).where(_policy.cooperative == cooperative_id, _policy.version == version)
    return _of((await connection.execute(statement)).one())


def _of(row: Any) -> pb.DividendPolicyVersion:
    return pb.DividendPolicyVersion(
        name=f"cooperatives/{row.cooperative}/dividendPolicies/{row.version}",
        policy=DividendPolicy.FromString(row.policy),
        policy_hash=row.policy_hash,
        proposal=row.proposal,
        effective_time=to_timestamp(row.effective_time),
    )
