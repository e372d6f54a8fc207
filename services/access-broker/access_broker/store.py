"""The broker's tables and the only queries on them, but for the hot one in issuance."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from access_broker.domain.tokens import HeldGrant, Issuance
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale_kit.clock import to_timestamp

# Of its own, not the kit's: several services may live in one process, and a gateway has a table of revocations too.
tables = sa.MetaData()
Time = sa.DateTime(timezone=True)

grant_table = sa.Table(
    "access_grant",
    tables,
    sa.Column("id", sa.Text, primary_key=True),
    # One grant a license, whatever races and whatever is heard twice.
    sa.Column("license", sa.Text, nullable=False, unique=True),
    sa.Column("terms_hash", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("state_reason", sa.Text, nullable=False),
    sa.Column("terms", sa.LargeBinary, nullable=False),
    # What the terms cite, as it was checked; absent where it could not be found.
    sa.Column("sharing_rule", sa.LargeBinary),
    sa.Column("offering", sa.LargeBinary),
    sa.Column("create_time", Time, nullable=False),
    sa.Column("open_time", Time),
    sa.Column("end_time", Time),
    sa.Index("grant_of_holder", "holder", sa.text("id DESC")),
    sa.Index("grant_of_cooperative", "cooperative", sa.text("id DESC")),
)
ended_license_table = sa.Table(
    "ended_license",
    tables,
    sa.Column("license", sa.Text, primary_key=True),
    sa.Column("hear_time", Time, nullable=False),
)
gateway_table = sa.Table(
    "gateway",
    tables,
    sa.Column("cooperative", sa.Text, primary_key=True),
    sa.Column("public_url", sa.Text, nullable=False),
    sa.Column("control_address", sa.Text, nullable=False),
    sa.Column("register_time", Time, nullable=False),
)
feed_table = sa.Table(
    "gateway_feed",
    tables,
    sa.Column("cooperative", sa.Text, primary_key=True),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
)
revocation_table = sa.Table(
    "revocation",
    tables,
    sa.Column("cooperative", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("revoke_time", Time, nullable=False),
    sa.Column("forget_time", Time),
)
issuance_table = sa.Table(
    "issuance",
    tables,
    sa.Column("token_id", sa.Text, primary_key=True),
    sa.Column("organization", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("request", sa.LargeBinary, nullable=False),
    # Not a foreign key: it would lock the grant's row for every token, and grants are never deleted.
    sa.Column("grant_id", sa.Text, nullable=False),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("issue_time", Time, nullable=False),
    sa.Column("expire_time", Time, nullable=False),
    sa.Column("revoke_time", Time),
    sa.UniqueConstraint("organization", "request_id", name="issuance_of_request"),
)


@dataclass(frozen=True)
class GrantRow:
    """A grant with what it stands on, as stored. cooperative and holder are bare ids."""

    grant: pb.Grant
    terms: licensing_pb2.LicenseTerms
    sharing_rule: governance_pb2.SharingRule | None
    offering: catalog_pb2.Offering | None
    cooperative: str
    holder: str
    end_time: dt.datetime | None

    @property
    def id(self) -> str:
        return self.grant.name.removeprefix("grants/")

    @property
    def held(self) -> HeldGrant:
        """For a grant that was opened."""
        assert self.end_time is not None, "only a void grant has no end"
        return HeldGrant(self.id, self.grant.license, self.cooperative, self.holder, self.grant.scope, self.end_time)

    @property
    def chain(self) -> pb.GrantChain:
        """For a grant that was opened."""
        return pb.GrantChain(grant=self.grant, terms=self.terms, sharing_rule=self.sharing_rule, offering=self.offering)


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
    )
    return GrantRow(
        grant=grant,
        terms=terms,
        sharing_rule=None if row.sharing_rule is None else governance_pb2.SharingRule.FromString(row.sharing_rule),
        offering=None if row.offering is None else catalog_pb2.Offering.FromString(row.offering),
        cooperative=row.cooperative,
        holder=row.holder,
        end_time=row.end_time,
    )


async def lock_license(connection: AsyncConnection, license: str) -> None:
    """Until the transaction ends, nobody else decides about this license, even while it has no row of its own yet."""
    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(license, 1844))))


async def insert_grant(
    connection: AsyncConnection,
    *,
    id: str,
    license: str,
    terms_hash: str,
    holder: str,
    cooperative: str,
    state: int,
    state_reason: str,
    terms: licensing_pb2.LicenseTerms,
    sharing_rule: governance_pb2.SharingRule | None,
    offering: catalog_pb2.Offering | None,
    now: dt.datetime,
    end_time: dt.datetime | None,
) -> GrantRow | None:
    """The new grant, or None if the license has one."""
    statement = (
        insert(grant_table)
        .values(
            id=id,
            license=license,
            terms_hash=terms_hash,
            holder=holder,
            cooperative=cooperative,
            state=state,
            state_reason=state_reason,
            terms=terms.SerializeToString(deterministic=True),
            sharing_rule=None if sharing_rule is None else sharing_rule.SerializeToString(deterministic=True),
            offering=None if offering is None else offering.SerializeToString(deterministic=True),
            create_time=now,
            open_time=now if state == pb.GRANT_STATE_OPEN else None,
            end_time=end_time,
        )
        .on_conflict_do_nothing(index_elements=["license"])
        .returning(grant_table)
    )
    row = (await connection.execute(statement)).first()
    return None if row is None else _grant_of(row)


async def grant_of_license(connection: AsyncConnection, license: str, lock: bool = False) -> GrantRow | None:
    statement = sa.select(grant_table).where(grant_table.c.license == license)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return None if row is None else _grant_of(row)


def _visible_to(organization: str | None) -> sa.ColumnElement[bool]:
    """organization: whose grants, as holder or as cooperative; None for an operator, who sees all."""
    if organization is None:
        return sa.true()
    return sa.or_(grant_table.c.holder == organization, grant_table.c.cooperative == organization)


async def grant(connection: AsyncConnection, id: str, organization: str | None) -> GrantRow | None:
    statement = sa.select(grant_table).where(grant_table.c.id == id, _visible_to(organization))
    row = (await connection.execute(statement)).first()
    return None if row is None else _grant_of(row)


async def grants(
    connection: AsyncConnection, organization: str | None, license: str, before: str | None, limit: int
) -> list[GrantRow]:
    """Newest first. license: only of this one, or empty."""
    statement = sa.select(grant_table).where(_visible_to(organization)).order_by(grant_table.c.id.desc()).limit(limit)
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


def _gateway_of(row: sa.Row[tuple[object, ...]]) -> pb.Gateway:
    return pb.Gateway(
        name=f"gateways/{row.cooperative}",
        public_url=row.public_url,
        control_address=row.control_address,
        register_time=to_timestamp(row.register_time),
    )


async def register_gateway(
    connection: AsyncConnection, cooperative: str, public_url: str, control_address: str, now: dt.datetime
) -> pb.Gateway:
    """The gateway as it is now; its feed begins with it, or before it if something was revoked already."""
    said = {"public_url": public_url, "control_address": control_address, "register_time": now}
    statement = (
        insert(gateway_table)
        .values(cooperative=cooperative, **said)
        .on_conflict_do_update(index_elements=["cooperative"], set_=said)
        .returning(gateway_table)
    )
    row = (await connection.execute(statement)).one()
    await connection.execute(
        insert(feed_table).values(cooperative=cooperative, last_sequence=0).on_conflict_do_nothing()
    )
    return _gateway_of(row)


async def gateway(connection: AsyncConnection, cooperative: str) -> pb.Gateway | None:
    statement = sa.select(gateway_table).where(gateway_table.c.cooperative == cooperative)
    row = (await connection.execute(statement)).first()
    return None if row is None else _gateway_of(row)


async def feeds(connection: AsyncConnection) -> list[tuple[str, int]]:
    """Every registered gateway with the last number committed to its feed."""
    statement = sa.select(gateway_table.c.cooperative, feed_table.c.last_sequence).join(
        feed_table, feed_table.c.cooperative == gateway_table.c.cooperative
    )
    return [(row.cooperative, row.last_sequence) for row in await connection.execute(statement)]


async def insert_revocation(
    connection: AsyncConnection,
    cooperative: str,
    kind: pb.RevocationKind.ValueType,
    subject: str,
    now: dt.datetime,
    forget_time: dt.datetime | None,
) -> pb.Revocation:
    """The next entry of a gateway's feed."""
    # The update holds the feed's row until the commit: the next number is given out only when this one is there to be
    # read, or was never used. A database sequence would leave a gap behind every rollback, and a gap looks like a miss.
    number = (
        await connection.execute(
            insert(feed_table)
            .values(cooperative=cooperative, last_sequence=1)
            .on_conflict_do_update(
                index_elements=["cooperative"], set_={"last_sequence": feed_table.c.last_sequence + 1}
            )
            .returning(feed_table.c.last_sequence)
        )
    ).scalar_one()
    row = (
        await connection.execute(
            revocation_table.insert()
            .values(
                cooperative=cooperative,
                sequence=number,
                kind=kind,
                subject=subject,
                revoke_time=now,
                forget_time=forget_time,
            )
            .returning(revocation_table)
        )
    ).one()
    return _revocation_of(row)


def _revocation_of(row: sa.Row[tuple[object, ...]]) -> pb.Revocation:
    return pb.Revocation(
        sequence=row.sequence,
        kind=row.kind,
        subject=row.subject,
        revoke_time=to_timestamp(row.revoke_time),
        forget_time=to_timestamp(row.forget_time),
    )


async def revocations(
    connection: AsyncConnection, cooperative: str, after: int, limit: int
) -> tuple[list[pb.Revocation], int]:
    """A page of a gateway's feed in order, and the last number in it."""
    last = (
        await connection.execute(sa.select(feed_table.c.last_sequence).where(feed_table.c.cooperative == cooperative))
    ).scalar_one_or_none() or 0
    table = revocation_table
    rows = await connection.execute(
        sa.select(table)
        # Up to `last`, so that one recorded between the two queries is not shown beyond the end that was told.
        .where(table.c.cooperative == cooperative, table.c.sequence > after, table.c.sequence <= last)
        .order_by(table.c.sequence)
        .limit(limit)
    )
    return [_revocation_of(row) for row in rows], last


def _issuance_of(row: sa.Row[tuple[object, ...]]) -> Issuance:
    return Issuance(
        token_id=row.token_id,
        organization=row.organization,
        request_id=row.request_id,
        request=row.request,
        grant_id=row.grant_id,
        client=row.client,
        issue_time=row.issue_time,
        expire_time=row.expire_time,
    )


async def issuance_of_request(connection: AsyncConnection, organization: str, request_id: str) -> Issuance | None:
    table = issuance_table
    statement = sa.select(table).where(table.c.organization == organization, table.c.request_id == request_id)
    row = (await connection.execute(statement)).first()
    return None if row is None else _issuance_of(row)


@dataclass(frozen=True)
class IssuedRow:
    """A token as RevokeToken finds it."""

    cooperative: str
    expire_time: dt.datetime
    revoke_time: dt.datetime | None


async def lock_issuance(connection: AsyncConnection, token_id: str, organization: str | None) -> IssuedRow | None:
    """The token, locked, if the organization may see its grant."""
    statement = (
        sa.select(issuance_table.c.expire_time, issuance_table.c.revoke_time, grant_table.c.cooperative)
        .join(grant_table, grant_table.c.id == issuance_table.c.grant_id)
        .where(issuance_table.c.token_id == token_id, _visible_to(organization))
        .with_for_update(of=issuance_table)
    )
    row = (await connection.execute(statement)).first()
    return None if row is None else IssuedRow(row.cooperative, row.expire_time, row.revoke_time)


async def set_revoked(connection: AsyncConnection, token_id: str, now: dt.datetime) -> None:
    await connection.execute(
        issuance_table.update().where(issuance_table.c.token_id == token_id).values(revoke_time=now)
    )
