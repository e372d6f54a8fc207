"""Queries on members, as far as the gateway knows them, and their consents."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.domain.consents import is_later
from data_gateway.store.tables import consent_table, member_table
from rochdale.governance.v1 import membership_pb2
from rochdale_kit.clock import from_timestamp


@dataclass(frozen=True)
class LiveConsent:
    """member is a resource name."""

    member: str
    pseudonym: str
    consent: membership_pb2.Consent


@dataclass(frozen=True)
class Gone:
    """A pseudonym whose rows of a dataset nobody may have any more, and since when."""

    pseudonym: str
    since: dt.datetime
    erased: bool


async def meet(connection: AsyncConnection, member: str, pseudonym: str, now: dt.datetime) -> str | None:
    """A member's pseudonym, kept when it is heard for the first time; None for one who was erased or has none."""
    if pseudonym:
        statement = insert(member_table).values(name=member, pseudonym=pseudonym, hear_time=now)
        await connection.execute(statement.on_conflict_do_nothing())
    row = (await connection.execute(sa.select(member_table).where(member_table.c.name == member))).first()
    return None if row is None or row.erase_time is not None else str(row.pseudonym)


async def save_consent(
    connection: AsyncConnection, member: str, consent: membership_pb2.Consent, now: dt.datetime
) -> bool:
    """Keeps a record unless a later one is known; answers whether it was kept."""
    table = consent_table
    found = sa.select(table).where(table.c.member == member, table.c.dataset == consent.dataset).with_for_update()
    row = (await connection.execute(found)).first()
    if row is not None:
        known = membership_pb2.Consent.FromString(row.consent)
        # What was missing in a list of those that stand, and is in a later one.
        back = (
            row.status == membership_pb2.CONSENT_STATUS_EXPIRED
            and (consent.name, consent.status) == (known.name, membership_pb2.CONSENT_STATUS_GIVEN)
            and not consent.HasField("end_time")
        )
        if not back and not is_later(consent, known):
            return False
    values = {
        "status": consent.status,
        "end_time": from_timestamp(consent.end_time) if consent.HasField("end_time") else None,
        "consent": consent.SerializeToString(deterministic=True),
        "hear_time": now,
    }
    statement = insert(table).values(member=member, dataset=consent.dataset, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["member", "dataset"], set_=values))
    return True


async def live_consents(connection: AsyncConnection) -> list[LiveConsent]:
    statement = (
        sa.select(consent_table.c.member, member_table.c.pseudonym, consent_table.c.consent)
        .join(member_table, member_table.c.name == consent_table.c.member)
        .where(consent_table.c.status == membership_pb2.CONSENT_STATUS_GIVEN, member_table.c.erase_time.is_(None))
    )
    rows = await connection.execute(statement)
    return [LiveConsent(row.member, row.pseudonym, membership_pb2.Consent.FromString(row.consent)) for row in rows]


async def end_all_but(
    connection: AsyncConnection, standing: Collection[tuple[str, str]], before: dt.datetime
) -> list[tuple[str, str]]:
    """Ends the consents heard of before and not among those standing (member, dataset); answers which."""
    table = consent_table
    given = sa.select(table.c.member, table.c.dataset).where(
        table.c.status == membership_pb2.CONSENT_STATUS_GIVEN, table.c.hear_time < before
    )
    over = [(row.member, row.dataset) for row in await connection.execute(given)]
    over = [one for one in over if one not in standing]
    for member, dataset in over:
        await connection.execute(
            table.update()
            .where(table.c.member == member, table.c.dataset == dataset)
            .values(status=membership_pb2.CONSENT_STATUS_EXPIRED)
        )
    return over


async def erase(connection: AsyncConnection, member: str, now: dt.datetime) -> None:
    await connection.execute(consent_table.delete().where(consent_table.c.member == member))
    await connection.execute(
        member_table.update()
        .where(member_table.c.name == member, member_table.c.erase_time.is_(None))
        .values(erase_time=now)
    )


async def gone(connection: AsyncConnection, dataset: str) -> list[Gone]:
    """Pseudonyms whose members withdrew consent for a dataset or were erased, unless another consent of the same person
    stands."""
    standing = (
        sa.select(member_table.c.pseudonym)
        .join(consent_table, consent_table.c.member == member_table.c.name)
        .where(
            consent_table.c.dataset == dataset,
            consent_table.c.status == membership_pb2.CONSENT_STATUS_GIVEN,
            member_table.c.erase_time.is_(None),
        )
    )
    withdrawn = (
        sa.select(member_table.c.pseudonym, consent_table.c.end_time.label("since"), sa.false().label("erased"))
        .join(consent_table, consent_table.c.member == member_table.c.name)
        .where(
            consent_table.c.dataset == dataset,
            consent_table.c.status == membership_pb2.CONSENT_STATUS_WITHDRAWN,
            member_table.c.erase_time.is_(None),
        )
    )
    erased = sa.select(
        member_table.c.pseudonym, member_table.c.erase_time.label("since"), sa.true().label("erased")
    ).where(member_table.c.erase_time.is_not(None))
    every = sa.union_all(withdrawn, erased).subquery()
    rows = await connection.execute(sa.select(every).where(every.c.pseudonym.not_in(standing)))
    return [Gone(row.pseudonym, row.since, row.erased) for row in rows]
