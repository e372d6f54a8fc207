"""Queries on members, as far as the gateway knows them, and their consents."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
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


async def meet(connection: AsyncConnection, found: Mapping[str, str], now: dt.datetime) -> dict[str, str]:
    """The pseudonyms of members, kept when heard for the first time; who was erased is left out. found: pseudonym by
    member name, empty for one no row can have."""
    rows = [{"name": name, "pseudonym": known, "hear_time": now} for name, known in sorted(found.items()) if known]
    if rows:
        await connection.execute(insert(member_table).values(rows).on_conflict_do_nothing())
    statement = sa.select(member_table.c.name, member_table.c.pseudonym).where(
        member_table.c.name == sa.any_(sa.literal(list(found))), member_table.c.erase_time.is_(None)
    )
    return {row.name: row.pseudonym for row in await connection.execute(statement)}


async def save_consents(
    connection: AsyncConnection, consents: Iterable[tuple[str, membership_pb2.Consent]], now: dt.datetime
) -> list[tuple[str, membership_pb2.Consent]]:
    """Keeps records (of member, record) unless later ones are known; answers those that were kept."""
    heard = list(consents)
    table = consent_table
    statement = (
        sa.select(table)
        .where(table.c.member == sa.any_(sa.literal([member for member, _ in heard])))
        .order_by(table.c.member, table.c.dataset)
        .with_for_update()
    )
    known = {
        (row.member, row.dataset): (row.status, membership_pb2.Consent.FromString(row.consent))
        for row in await connection.execute(statement)
    }
    kept: dict[tuple[str, str], membership_pb2.Consent] = {}
    for member, consent in heard:
        key = (member, consent.dataset)
        if key not in known or _replaces(consent, *known[key]):
            known[key] = (consent.status, consent)
            kept[key] = consent
    rows = [
        {
            "member": member,
            "dataset": dataset,
            "status": consent.status,
            "end_time": from_timestamp(consent.end_time) if consent.HasField("end_time") else None,
            "consent": consent.SerializeToString(deterministic=True),
            "hear_time": now,
        }
        for (member, dataset), consent in sorted(kept.items(), key=lambda item: item[0])
    ]
    if rows:
        upsert = insert(table).values(rows)
        changed = {name: upsert.excluded[name] for name in ("status", "end_time", "consent", "hear_time")}
        await connection.execute(upsert.on_conflict_do_update(index_elements=["member", "dataset"], set_=changed))
    return [(member, consent) for (member, _), consent in kept.items()]


def _replaces(heard: membership_pb2.Consent, status: int, known: membership_pb2.Consent) -> bool:
    # What was missing in a list of those that stand, and is in a later one.
    back = (
        status == membership_pb2.CONSENT_STATUS_EXPIRED
        and (heard.name, heard.status) == (known.name, membership_pb2.CONSENT_STATUS_GIVEN)
        and not heard.HasField("end_time")
    )
    return back or is_later(heard, known)


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
