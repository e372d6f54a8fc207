"""Identity's tables and the only queries on them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from identity.domain import OPERATOR, KeyHolder
from rochdale.identity.v1 import identity_pb2 as pb
from rochdale_kit.clock import new_id, to_timestamp

# Identity's own, not the kit's: several services may live in one process, and each has its own tables.
metadata = sa.MetaData()

organization_table = sa.Table(
    "organization",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("contact_email", sa.Text, nullable=False),
    sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("verify_time", sa.DateTime(timezone=True)),
)
api_key_table = sa.Table(
    "api_key",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organization.id"), nullable=False),
    sa.Column("key_hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("roles", ARRAY(sa.SmallInteger), nullable=False),
    sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("revoke_time", sa.DateTime(timezone=True)),
    sa.Column("expire_time", sa.DateTime(timezone=True)),
    sa.Column("member", sa.Text, nullable=False, server_default=""),
    sa.Index("api_key_of_organization", "organization_id", sa.text("id DESC")),
)


async def ensure_operator(connection: AsyncConnection, key_hash: bytes, now: dt.datetime) -> None:
    """The operator's organization and first key, made once."""
    await connection.execute(
        insert(organization_table)
        .values(
            id=OPERATOR,
            kind=pb.ORGANIZATION_KIND_OPERATOR,
            display_name="Operator",
            contact_email="",
            create_time=now,
            verify_time=now,
        )
        .on_conflict_do_nothing()
    )
    await connection.execute(
        insert(api_key_table)
        .values(
            id=new_id("key"),
            organization_id=OPERATOR,
            key_hash=key_hash,
            label="first key",
            roles=[pb.ROLE_OPERATOR],
            create_time=now,
        )
        .on_conflict_do_nothing(index_elements=["key_hash"])
    )


def organization_of(row: sa.Row[tuple[object, ...]]) -> pb.Organization:
    return pb.Organization(
        name=f"organizations/{row.id}",
        kind=row.kind,
        display_name=row.display_name,
        contact_email=row.contact_email,
        verified=row.verify_time is not None,
        create_time=to_timestamp(row.create_time),
        verify_time=to_timestamp(row.verify_time),
    )


def api_key_of(row: sa.Row[tuple[object, ...]]) -> pb.ApiKey:
    return pb.ApiKey(
        name=f"organizations/{row.organization_id}/apiKeys/{row.id}",
        label=row.label,
        roles=row.roles,
        create_time=to_timestamp(row.create_time),
        revoke_time=to_timestamp(row.revoke_time),
        expire_time=to_timestamp(row.expire_time),
        member=row.member,
    )


async def insert_organization(
    connection: AsyncConnection, id: str, kind: int, display_name: str, contact_email: str, now: dt.datetime
) -> pb.Organization | None:
    """The new organization, or None if the id is taken."""
    statement = (
        insert(organization_table)
        .values(id=id, kind=kind, display_name=display_name, contact_email=contact_email, create_time=now)
        .on_conflict_do_nothing()
        .returning(organization_table)
    )
    row = (await connection.execute(statement)).first()
    return organization_of(row) if row is not None else None


async def insert_api_key(
    connection: AsyncConnection,
    id: str,
    organization_id: str,
    key_hash: bytes,
    label: str,
    roles: Sequence[int],
    now: dt.datetime,
    expire_time: dt.datetime | None = None,
) -> pb.ApiKey | None:
    """The new key, or None if another has the same hash."""
    statement = (
        insert(api_key_table)
        .values(
            id=id,
            organization_id=organization_id,
            key_hash=key_hash,
            label=label,
            roles=list(roles),
            create_time=now,
            expire_time=expire_time,
        )
        .on_conflict_do_nothing(index_elements=["key_hash"])
        .returning(api_key_table)
    )
    row = (await connection.execute(statement)).first()
    return api_key_of(row) if row is not None else None


async def organization(connection: AsyncConnection, id: str, lock: bool = False) -> pb.Organization | None:
    statement = sa.select(organization_table).where(organization_table.c.id == id)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return organization_of(row) if row is not None else None


async def organizations(
    connection: AsyncConnection, after: tuple[dt.datetime, str] | None, limit: int, unverified_only: bool
) -> list[pb.Organization]:
    """Oldest first."""
    table = organization_table
    statement = sa.select(table).order_by(table.c.create_time, table.c.id).limit(limit)
    if unverified_only:
        statement = statement.where(table.c.verify_time.is_(None))
    if after is not None:
        statement = statement.where(sa.tuple_(table.c.create_time, table.c.id) > sa.tuple_(*map(sa.literal, after)))
    return [organization_of(row) for row in await connection.execute(statement)]


async def verify_organization(connection: AsyncConnection, id: str, now: dt.datetime) -> pb.Organization:
    table = organization_table
    row = (
        await connection.execute(table.update().where(table.c.id == id).values(verify_time=now).returning(table))
    ).one()
    return organization_of(row)


async def api_keys(
    connection: AsyncConnection, organization_id: str, before: str | None, limit: int
) -> list[pb.ApiKey]:
    """Newest first."""
    table = api_key_table
    statement = (
        sa.select(table).where(table.c.organization_id == organization_id).order_by(table.c.id.desc()).limit(limit)
    )
    if before is not None:
        statement = statement.where(table.c.id < before)
    return [api_key_of(row) for row in await connection.execute(statement)]


async def revoke_api_key(
    connection: AsyncConnection, organization_id: str, id: str, now: dt.datetime
) -> tuple[pb.ApiKey, bool] | None:
    """The key and whether this call revoked it; None if there is none."""
    table = api_key_table
    mine = sa.and_(table.c.organization_id == organization_id, table.c.id == id)
    revoked = (
        await connection.execute(
            table.update().where(mine, table.c.revoke_time.is_(None)).values(revoke_time=now).returning(table)
        )
    ).first()
    if revoked is not None:
        return api_key_of(revoked), True
    row = (await connection.execute(sa.select(table).where(mine))).first()
    return (api_key_of(row), False) if row is not None else None


async def authorize_member_key(
    connection: AsyncConnection,
    id: str,
    organization_id: str,
    key_hash: bytes,
    member: str,
    roles: Sequence[int],
    now: dt.datetime,
) -> pb.ApiKey | None:
    """The member's key with these roles, new or known; None if the hash is another's."""
    table = api_key_table
    statement = insert(table).values(
        id=id,
        organization_id=organization_id,
        key_hash=key_hash,
        label="member",
        roles=list(roles),
        create_time=now,
        member=member,
    )
    row = (
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=["key_hash"], set_={"roles": statement.excluded.roles}, where=table.c.member == member
            ).returning(table)
        )
    ).first()
    return api_key_of(row) if row is not None else None


async def revoke_member_keys(
    connection: AsyncConnection, member: str, kept: bytes, now: dt.datetime
) -> list[pb.ApiKey]:
    """The keys this call revoked: all of the member's but the one with that hash."""
    table = api_key_table
    revoked = await connection.execute(
        table.update()
        .where(table.c.member == member, table.c.key_hash != kept, table.c.revoke_time.is_(None))
        .values(revoke_time=now)
        .returning(table)
    )
    return [api_key_of(row) for row in revoked]


async def holder_of(connection: AsyncConnection, key_hash: bytes) -> KeyHolder | None:
    """Whose key has this hash."""
    key_row = (await connection.execute(sa.select(api_key_table).where(api_key_table.c.key_hash == key_hash))).first()
    if key_row is None:
        return None
    organization_row = (
        await connection.execute(
            sa.select(organization_table).where(organization_table.c.id == key_row.organization_id)
        )
    ).one()
    return KeyHolder(api_key_of(key_row), organization_of(organization_row))
