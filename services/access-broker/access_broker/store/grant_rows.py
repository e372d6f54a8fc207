"""Grants as they are kept, and licenses that ended before they began."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from access_broker.domain.tokens import HeldGrant
from access_broker.store.tables import ended_license_table, grant_table
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import signature_pb2
from rochdale_kit.clock import from_timestamp, to_timestamp


@dataclass(frozen=True)
class GrantRow:
    """A grant with what it stands on, as stored. cooperative and holder are bare ids."""

    grant: pb.Grant
    terms: licensing_pb2.LicenseTerms
    sharing_rule: governance_pb2.SharingRule | None
    offering: catalog_pb2.Offering | None
    license_signature: signature_pb2.Signature
    cooperative: str
    holder: str
    end_time: dt.datetime | None
    seal: bytes
    license_end_time: dt.datetime | None
    suspend_time: dt.datetime | None
    suspension_count: int

    @property
    def id(self) -> str:
        return self.grant.name.removeprefix("grants/")

    @property
    def held(self) -> HeldGrant:
        """For a grant that was opened."""
        assert self.end_time is not None, "only a void grant has no end"
        grant = self.grant
        return HeldGrant(
            self.id, grant.license, self.cooperative, self.holder, grant.scope, self.end_time, grant.grant_hash
        )


def _grant_of(row: sa.Row[tuple[object, ...]]) -> GrantRow:
    terms = licensing_pb2.LicenseTerms.FromString(row.terms)
    grant = pb.Grant(
        name=f"grants/{row.id}",
        license=row.license,
        terms_hash=row.terms_hash,
        holder=f"organizations/{row.holder}",
        gateway=f"gateways/{row.cooperative}",
        scope=terms.scope,
        state=row.state,
        state_reason=row.state_reason,
        open_time=to_timestamp(row.open_time),
        end_time=to_timestamp(row.end_time),
        grant_hash=row.grant_hash or "",
    )
    return GrantRow(
        grant=grant,
        terms=terms,
        sharing_rule=None if row.sharing_rule is None else governance_pb2.SharingRule.FromString(row.sharing_rule),
        offering=None if row.offering is None else catalog_pb2.Offering.FromString(row.offering),
        license_signature=signature_pb2.Signature.FromString(row.license_signature or b""),
        cooperative=row.cooperative,
        holder=row.holder,
        end_time=row.end_time,
        seal=row.seal or b"",
        license_end_time=row.license_end_time,
        suspend_time=row.suspend_time,
        suspension_count=row.suspension_count,
    )


async def lock_license(connection: AsyncConnection, license: str) -> None:
    """Until the transaction ends, nobody else decides about this license, even while it has no row of its own yet."""
    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(license, 1844))))


async def insert_grant(
    connection: AsyncConnection,
    grant: pb.Grant,
    *,
    license: licensing_pb2.License,
    sharing_rule: governance_pb2.SharingRule | None,
    offering: catalog_pb2.Offering | None,
    seal: bytes | None,
    suspension_count: int,
    now: dt.datetime,
) -> GrantRow:
    """The new grant. Lock its license first, and close the grant before it."""
    opened = grant.HasField("open_time")
    statement = (
        insert(grant_table)
        .values(
            id=grant.name.removeprefix("grants/"),
            license=grant.license,
            terms_hash=grant.terms_hash,
            holder=grant.holder.removeprefix("organizations/"),
            cooperative=grant.gateway.removeprefix("gateways/"),
            state=grant.state,
            state_reason=grant.state_reason,
            terms=license.terms.SerializeToString(deterministic=True),
            sharing_rule=None if sharing_rule is None else sharing_rule.SerializeToString(deterministic=True),
            offering=None if offering is None else offering.SerializeToString(deterministic=True),
            create_time=now,
            open_time=from_timestamp(grant.open_time) if opened else None,
            end_time=from_timestamp(grant.end_time) if grant.HasField("end_time") else None,
            license_signature=license.signature.SerializeToString(deterministic=True),
            grant_hash=grant.grant_hash or None,
            seal=seal,
            license_end_time=from_timestamp(license.end_time) if license.HasField("end_time") else None,
            suspension_count=suspension_count,
        )
        .returning(grant_table)
    )
    return _grant_of((await connection.execute(statement)).one())


async def grant_of_license(connection: AsyncConnection, license: str, lock: bool = False) -> GrantRow | None:
    """The latest: after a suspension there is a new one, and those before it are closed."""
    statement = (
        sa.select(grant_table).where(grant_table.c.license == license).order_by(grant_table.c.id.desc()).limit(1)
    )
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return None if row is None else _grant_of(row)


@dataclass(frozen=True)
class GrantReference:
    """An open grant by its names alone, which can be read even where somebody spoiled the rest. cooperative: bare id."""

    id: str
    license: str
    cooperative: str


async def references(
    connection: AsyncConnection, cooperative: str | None, license: str, now: dt.datetime
) -> list[GrantReference]:
    """Open grants that are not over, oldest first. cooperative: None for all. license: only of this one, or empty."""
    table = grant_table
    statement = (
        sa.select(table.c.id, table.c.license, table.c.cooperative)
        .where(table.c.state == pb.GRANT_STATE_OPEN, table.c.end_time > now)
        .order_by(table.c.id)
    )
    if cooperative is not None:
        statement = statement.where(table.c.cooperative == cooperative)
    if license:
        statement = statement.where(table.c.license == license)
    return [GrantReference(row.id, row.license, row.cooperative) for row in await connection.execute(statement)]


async def is_open(connection: AsyncConnection, id: str) -> bool:
    """Whether a grant is open, locked."""
    statement = sa.select(grant_table.c.state).where(grant_table.c.id == id).with_for_update()
    return (await connection.execute(statement)).scalar() == pb.GRANT_STATE_OPEN


async def set_suspended(
    connection: AsyncConnection, id: str, suspend_time: dt.datetime, license_end_time: dt.datetime | None
) -> None:
    """Since when the license is suspended, and the end it had then."""
    await connection.execute(
        grant_table.update()
        .where(grant_table.c.id == id)
        .values(suspend_time=suspend_time, license_end_time=license_end_time)
    )


def visible_to(organization: str | None) -> sa.ColumnElement[bool]:
    """organization: whose grants, as holder or as cooperative; None for an operator, who sees all."""
    if organization is None:
        return sa.true()
    return sa.or_(grant_table.c.holder == organization, grant_table.c.cooperative == organization)


async def grant(connection: AsyncConnection, id: str, organization: str | None) -> GrantRow | None:
    statement = sa.select(grant_table).where(grant_table.c.id == id, visible_to(organization))
    row = (await connection.execute(statement)).first()
    return None if row is None else _grant_of(row)


async def grants(
    connection: AsyncConnection, organization: str | None, license: str, before: str | None, limit: int
) -> list[GrantRow]:
    """Newest first. license: only of this one, or empty."""
    statement = sa.select(grant_table).where(visible_to(organization)).order_by(grant_table.c.id.desc()).limit(limit)
    if license:
        statement = statement.where(grant_table.c.license == license)
    if before is not None:
        statement = statement.where(grant_table.c.id < before)
    return [_grant_of(row) for row in await connection.execute(statement)]


async def open_grants(
    connection: AsyncConnection, cooperative: str, now: dt.datetime, after: str | None, limit: int
) -> list[GrantRow]:
    """A gateway's, oldest first: open and not over."""
    table = grant_table
    statement = (
        sa.select(table)
        .where(table.c.cooperative == cooperative, table.c.state == pb.GRANT_STATE_OPEN, table.c.end_time > now)
        .order_by(table.c.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(table.c.id > after)
    return [_grant_of(row) for row in await connection.execute(statement)]


async def set_grant_state(connection: AsyncConnection, id: str, state: int, state_reason: str) -> None:
    await connection.execute(
        grant_table.update().where(grant_table.c.id == id).values(state=state, state_reason=state_reason)
    )


async def remember_ended(connection: AsyncConnection, license: str, now: dt.datetime) -> None:
    """A license that ended before it was heard to begin."""
    await connection.execute(
        insert(ended_license_table).values(license=license, hear_time=now).on_conflict_do_nothing()
    )


async def is_ended(connection: AsyncConnection, license: str) -> bool:
    statement = sa.select(ended_license_table.c.license).where(ended_license_table.c.license == license)
    return (await connection.execute(statement)).first() is not None
