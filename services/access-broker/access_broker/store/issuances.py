"""Tokens as they were issued, but for the one hot statement in issuance."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from access_broker.domain.tokens import Issuance
from access_broker.store.grant_rows import visible_to
from access_broker.store.tables import grant_table, issuance_table


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
        .where(issuance_table.c.token_id == token_id, visible_to(organization))
        .with_for_update(of=issuance_table)
    )
    row = (await connection.execute(statement)).first()
    return None if row is None else IssuedRow(row.cooperative, row.expire_time, row.revoke_time)


async def set_revoked(connection: AsyncConnection, token_id: str, now: dt.datetime) -> None:
    await connection.execute(
        issuance_table.update().where(issuance_table.c.token_id == token_id).values(revoke_time=now)
    )
