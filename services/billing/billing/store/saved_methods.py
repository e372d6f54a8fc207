"""Buyers at the rail, what they saved there, and the pages on which they save it, as rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.saved_methods import SavedMethod, Setup
from billing.store.subscription_tables import customer_table, method_setup_table, saved_method_table

_customer, _setup, _method = customer_table.c, method_setup_table.c, saved_method_table.c
_methods = sa.select(saved_method_table, _customer.customer_id).select_from(saved_method_table.join(customer_table))


async def customer(connection: AsyncConnection, organization: str) -> str | None:
    """The rail's id of an organization."""
    statement = sa.select(_customer.customer_id).where(_customer.organization == organization)
    return (await connection.execute(statement)).scalar()


async def keep_customer(connection: AsyncConnection, organization: str, customer_id: str) -> str:
    """The id that is kept: the first one, whoever else made another meanwhile."""
    await connection.execute(
        upsert(customer_table).values(organization=organization, customer_id=customer_id).on_conflict_do_nothing()
    )
    kept = await customer(connection, organization)
    assert kept is not None, "it was just written"
    return kept


def _setup_of(row: Any) -> Setup:
    return Setup(
        id=row.id,
        organization=row.organization,
        request_id=row.request_id,
        success_url=row.success_url,
        cancel_url=row.cancel_url,
        create_time=row.create_time,
        session_id=row.session_id,
        url=row.url,
    )


async def insert_setup(connection: AsyncConnection, setup: Setup) -> None:
    await connection.execute(
        method_setup_table.insert().values(
            id=setup.id,
            organization=setup.organization,
            request_id=setup.request_id,
            success_url=setup.success_url,
            cancel_url=setup.cancel_url,
            create_time=setup.create_time,
            session_id=setup.session_id,
            url=setup.url,
            ask_time=setup.create_time,
        )
    )


async def save_page(connection: AsyncConnection, setup: Setup) -> None:
    await connection.execute(
        method_setup_table.update().where(_setup.id == setup.id).values(session_id=setup.session_id, url=setup.url)
    )


async def setup(connection: AsyncConnection, id: str) -> Setup | None:
    row = (await connection.execute(sa.select(method_setup_table).where(_setup.id == id))).first()
    return _setup_of(row) if row is not None else None


async def setup_of_request(connection: AsyncConnection, organization: str, request_id: str) -> Setup | None:
    statement = sa.select(method_setup_table).where(
        _setup.organization == organization, _setup.request_id == request_id
    )
    row = (await connection.execute(statement)).first()
    return _setup_of(row) if row is not None else None


async def end_setup(connection: AsyncConnection, id: str, now: dt.datetime) -> bool:
    """Whether it had not ended before. Locks its row until the transaction ends."""
    statement = (
        method_setup_table.update()
        .where(_setup.id == id, _setup.end_time.is_(None))
        .values(end_time=now)
        .returning(_setup.id)
    )
    return (await connection.execute(statement)).first() is not None


async def setups_to_ask(connection: AsyncConnection, asked_before: dt.datetime, limit: int) -> list[Setup]:
    """Pages that were opened, have not ended, and were not asked about since."""
    statement = (
        sa.select(method_setup_table)
        .where(_setup.end_time.is_(None), _setup.ask_time <= asked_before, _setup.session_id != "")
        .order_by(_setup.ask_time)
        .limit(limit)
    )
    return [_setup_of(row) for row in await connection.execute(statement)]


async def asked(connection: AsyncConnection, ids: Iterable[str], now: dt.datetime) -> None:
    await connection.execute(method_setup_table.update().where(_setup.id.in_(list(ids))).values(ask_time=now))


def _method_of(row: Any) -> SavedMethod:
    return SavedMethod(
        method_id=row.method_id,
        customer_id=row.customer_id,
        organization=row.organization,
        type=row.type,
        label=row.label,
        expire_month=row.expire_month,
    )


async def current(connection: AsyncConnection, organization: str) -> SavedMethod | None:
    """What an organization is charged with; the database allows one."""
    statement = _methods.where(_method.organization == organization, _method.remove_time.is_(None))
    row = (await connection.execute(statement)).first()
    return _method_of(row) if row is not None else None


async def replace(connection: AsyncConnection, method: SavedMethod, now: dt.datetime) -> None:
    """Saves a method in the place of the one before, which is to be detached. Its customer's row is locked first."""
    await connection.execute(
        sa.select(_customer.organization).where(_customer.organization == method.organization).with_for_update()
    )
    await forget(connection, method.organization, now)
    await connection.execute(
        upsert(saved_method_table)
        .values(
            method_id=method.method_id,
            organization=method.organization,
            type=method.type,
            label=method.label,
            expire_month=method.expire_month,
            save_time=now,
        )
        .on_conflict_do_nothing(index_elements=["method_id"])
    )


async def forget(connection: AsyncConnection, organization: str, now: dt.datetime) -> None:
    """What an organization saved is charged no more, and is to be detached."""
    await connection.execute(
        saved_method_table.update()
        .where(_method.organization == organization, _method.remove_time.is_(None))
        .values(remove_time=now)
    )


async def to_detach(connection: AsyncConnection, limit: int, organization: str | None = None) -> list[str]:
    """Methods that are forgotten here and not yet at the rail."""
    statement = sa.select(_method.method_id).where(_method.remove_time.is_not(None), _method.detach_time.is_(None))
    if organization is not None:
        statement = statement.where(_method.organization == organization)
    return list((await connection.execute(statement.order_by(_method.remove_time).limit(limit))).scalars())


async def detached(connection: AsyncConnection, method_id: str, now: dt.datetime) -> None:
    await connection.execute(saved_method_table.update().where(_method.method_id == method_id).values(detach_time=now))
