"""Licenses as rows: the terms as the bytes that were hashed, beside them what changes."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from licensing.domain.licenses import BILLING, LIVE, LONGEST_SUSPENSION, Standing
from licensing.store.tables import Row, bare, license_table, seen_by
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import signature_pb2
from rochdale_kit.clock import from_timestamp, to_timestamp

_table = license_table


def _license_of(row: Row) -> pb.License:
    return pb.License(
        name=f"licenses/{row.id}",
        terms=pb.LicenseTerms.FromString(row.terms),
        terms_hash=row.terms_hash,
        state=row.state,
        negotiation=f"negotiations/{row.negotiation}",
        activate_time=to_timestamp(row.activate_time),
        end_time=to_timestamp(row.end_time),
        end_reason=row.end_reason,
        signature=signature_pb2.Signature.FromString(row.signature) if row.signature else None,
        suspend_time=to_timestamp(row.suspend_time),
        suspended_by=row.suspended_by,
        suspension_count=row.suspension_count,
    )


async def insert(connection: AsyncConnection, license: pb.License, pay_by_time: dt.datetime) -> None:
    terms = license.terms
    await connection.execute(
        _table.insert().values(
            id=bare(license.name),
            negotiation=bare(license.negotiation),
            offering=terms.offering,
            sharing_rule=terms.sharing_rule,
            rule_revision=terms.rule_revision,
            licensee=bare(terms.licensee),
            cooperative=bare(terms.licensor),
            terms=terms.SerializeToString(),
            terms_hash=license.terms_hash,
            signature=license.signature.SerializeToString(),
            member_recall=terms.member_recall,
            state=license.state,
            pay_by_time=pay_by_time,
            end_reason="",
            suspended_by="",
            suspension_count=0,
            standing_sequence=0,
            held="",
        )
    )


async def save(connection: AsyncConnection, license: pb.License) -> None:
    """What may change of a license. The caller holds its lock."""
    await connection.execute(
        _table.update()
        .where(_table.c.id == bare(license.name))
        .values(
            state=license.state,
            activate_time=from_timestamp(license.activate_time) if license.HasField("activate_time") else None,
            end_time=from_timestamp(license.end_time) if license.HasField("end_time") else None,
            end_reason=license.end_reason,
            suspend_time=from_timestamp(license.suspend_time) if license.HasField("suspend_time") else None,
            suspended_by=license.suspended_by,
            suspension_count=license.suspension_count,
        )
    )


async def license(
    connection: AsyncConnection, id: str, organization: str | None, *, lock: bool = False
) -> pb.License | None:
    """One license, as far as the organization may see it; None sees all."""
    statement = sa.select(_table).where(_table.c.id == id, seen_by(_table, organization))
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return _license_of(row) if row is not None else None


async def licenses(
    connection: AsyncConnection, organization: str | None, state: int, before: str | None, limit: int
) -> list[pb.License]:
    """Newest first; state 0 is any."""
    statement = sa.select(_table).where(seen_by(_table, organization)).order_by(_table.c.id.desc()).limit(limit)
    if state:
        statement = statement.where(_table.c.state == state)
    if before is not None:
        statement = statement.where(_table.c.id < before)
    return [_license_of(row) for row in await connection.execute(statement)]


async def live(connection: AsyncConnection, offering: str, sharing_rule: str) -> tuple[int, int]:
    """How many licenses live under an offering, and how many under a rule."""
    alive = _table.c.state.in_(LIVE)
    counts = [
        sa.select(sa.func.count()).select_from(_table).where(alive, column == value).scalar_subquery()
        for column, value in ((_table.c.offering, offering), (_table.c.sharing_rule, sharing_rule))
    ]
    of_offering, of_rule = (await connection.execute(sa.select(*counts))).one()
    return of_offering, of_rule


async def recallable(connection: AsyncConnection, cooperative: str, sharing_rule: str = "") -> list[pb.License]:
    """Live licenses of a cooperative (under one rule, or all) that members may recall, locked."""
    statement = sa.select(_table).where(
        _table.c.cooperative == cooperative, _table.c.state.in_(LIVE), _table.c.member_recall
    )
    if sharing_rule:
        statement = statement.where(_table.c.sharing_rule == sharing_rule)
    return await _locked(connection, statement)


async def suspendable(connection: AsyncConnection, cooperative: str) -> list[pb.License]:
    """Licenses of a cooperative that no emergency suspends, locked: active, or held by billing."""
    free = sa.or_(_table.c.state == pb.LICENSE_STATE_ACTIVE, _held())
    return await _locked(connection, sa.select(_table).where(_table.c.cooperative == cooperative, free))


async def standing(connection: AsyncConnection, name: str) -> Standing:
    """What billing said last of a license. The caller holds its lock."""
    statement = sa.select(_table.c.standing_sequence, _table.c.held).where(_table.c.id == bare(name))
    row = (await connection.execute(statement)).one()
    return Standing(row.standing_sequence, row.held)


async def set_standing(connection: AsyncConnection, name: str, standing: Standing) -> None:
    await connection.execute(
        _table.update().where(_table.c.id == bare(name)).values(standing_sequence=standing.sequence, held=standing.held)
    )


async def suspended(connection: AsyncConnection, cooperative: str, emergency: str) -> list[pb.License]:
    """Licenses this emergency suspends, locked."""
    return await _locked(
        connection,
        sa.select(_table).where(
            _table.c.cooperative == cooperative,
            _table.c.state == pb.LICENSE_STATE_SUSPENDED,
            _table.c.suspended_by == emergency,
        ),
    )


async def over(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[pb.License]:
    """Licenses whose end has come, locked; those another replica holds are left to it.

    One that an emergency suspends ends only when the longest extension there can be is over too: before, it is resumed
    first. What billing holds ends when it says.
    """
    active = sa.and_(sa.or_(_table.c.state == pb.LICENSE_STATE_ACTIVE, _held()), _table.c.end_time <= now)
    suspended = sa.and_(_table.c.state == pb.LICENSE_STATE_SUSPENDED, _table.c.end_time <= now - LONGEST_SUSPENSION)
    return await _due(connection, sa.or_(active, suspended), _table.c.end_time, limit)


async def unpaid(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[pb.License]:
    """Agreed licenses whose time to be paid is over, likewise."""
    due = sa.and_(_table.c.state == pb.LICENSE_STATE_AGREED, _table.c.pay_by_time <= now)
    return await _due(connection, due, _table.c.pay_by_time, limit)


def _held() -> sa.ColumnElement[bool]:
    return sa.and_(_table.c.state == pb.LICENSE_STATE_SUSPENDED, _table.c.suspended_by.startswith(BILLING))


async def _due(
    connection: AsyncConnection, condition: sa.ColumnElement[bool], order: sa.Column[dt.datetime], limit: int
) -> list[pb.License]:
    statement = sa.select(_table).where(condition).order_by(order).limit(limit).with_for_update(skip_locked=True)
    return [_license_of(row) for row in await connection.execute(statement)]


async def _locked(connection: AsyncConnection, statement: sa.Select[tuple[object, ...]]) -> list[pb.License]:
    # In one order, so that two who want several never wait for each other.
    rows = await connection.execute(statement.order_by(_table.c.id).with_for_update())
    return [_license_of(row) for row in rows]
