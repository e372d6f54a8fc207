"""Licensees as rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from licensing.domain.categories import Approval, Assessment, Known
from licensing.store.tables import (
    Row,
    licensee_table,
    mandate_request_table,
    negotiation_table,
    register_claim_table,
)
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import to_timestamp

_table = licensee_table


def _licensee_of(row: Row, claims: Sequence[pb.RegisterClaim] = ()) -> pb.Licensee:
    return pb.Licensee(
        name=f"licensees/{row.id}",
        category=row.category,
        claimed_category=row.claimed_category,
        evidence=row.evidence,
        territory=row.territory,
        create_time=to_timestamp(row.create_time),
        attest_time=to_timestamp(row.attest_time),
        attest_expire_time=to_timestamp(row.attest_expire_time),
        category_reason=row.category_reason,
        claims=claims,
        approvals=[one["key"] for one in row.approvals],
        approved_category=row.approved_category,
    )


async def licensee(connection: AsyncConnection, id: str, *, lock: bool = False) -> pb.Licensee | None:
    """One licensee; lock=True keeps its category from changing until the transaction ends."""
    statement = sa.select(_table).where(_table.c.id == id)
    row = (await connection.execute(statement.with_for_update(read=True) if lock else statement)).first()
    return _licensee_of(row, (await _claims(connection, id))[id]) if row is not None else None


async def licensee_seen_by(connection: AsyncConnection, id: str, organization: str) -> pb.Licensee | None:
    """A licensee that is the organization itself or has negotiated with it, or asked its members."""
    met = sa.exists().where(negotiation_table.c.licensee == id, negotiation_table.c.cooperative == organization)
    asked = sa.exists().where(
        mandate_request_table.c.licensee == id, mandate_request_table.c.cooperative == organization
    )
    statement = sa.select(_table).where(_table.c.id == id, sa.or_(_table.c.id == organization, met, asked))
    row = (await connection.execute(statement)).first()
    return _licensee_of(row, (await _claims(connection, id))[id]) if row is not None else None


async def claim(connection: AsyncConnection, id: str, request: pb.RegisterLicenseeRequest, now: dt.datetime) -> None:
    """The licensee with this claim, new or changed; what operators said of the earlier one no longer counts."""
    claimed = {
        "claimed_category": request.claimed_category,
        "evidence": request.evidence,
        "territory": request.territory,
        "approvals": [],
        "approved_category": 0,
    }
    await connection.execute(
        insert(_table)
        .values(id=id, create_time=now, category=0, category_reason="", **claimed)
        .on_conflict_do_update(index_elements=["id"], set_=claimed)
    )


async def known(connection: AsyncConnection, id: str) -> Known | None:
    """All a category is computed from, locked against everybody else who would change it."""
    row = (await connection.execute(sa.select(_table).where(_table.c.id == id).with_for_update())).first()
    if row is None:
        return None
    approvals = [Approval(one["key"], dt.datetime.fromisoformat(one["time"])) for one in row.approvals]
    return Known(row.evidence, (await _claims(connection, id))[id], row.approved_category, approvals)


async def approve(connection: AsyncConnection, id: str, category: int, approvals: Sequence[Approval]) -> None:
    """What operators said. The caller holds the licensee by known()."""
    said = [{"key": one.key, "time": one.time.isoformat()} for one in approvals]
    await connection.execute(
        _table.update().where(_table.c.id == id).values(approved_category=category, approvals=said)
    )


async def keep_claim(connection: AsyncConnection, id: str, claim: pb.RegisterClaim, answer: bytes) -> None:
    """What a register said, in the place of what it said before of the same entry."""
    statement = insert(register_claim_table).values(
        licensee=id,
        register=claim.register,
        identifier=claim.identifier,
        body=claim.SerializeToString(),
        answer=answer,
    )
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["licensee", "register", "identifier"],
            set_={"body": statement.excluded.body, "answer": statement.excluded.answer},
        )
    )


async def assessed(connection: AsyncConnection, id: str, assessment: Assessment, now: dt.datetime) -> pb.Licensee:
    """The licensee with its category as computed."""
    nothing = assessment.expire_time is None
    await connection.execute(
        _table.update()
        .where(_table.c.id == id)
        .values(
            category=assessment.category,
            category_reason=assessment.reason,
            attest_time=None if nothing else now,
            attest_expire_time=assessment.expire_time,
        )
    )
    found = await licensee(connection, id)
    assert found is not None, "the caller holds it"
    return found


async def _claims(connection: AsyncConnection, *ids: str) -> dict[str, list[pb.RegisterClaim]]:
    """Each one's, in one order, whichever came first."""
    table = register_claim_table
    found: dict[str, list[pb.RegisterClaim]] = {id: [] for id in ids}
    statement = sa.select(table.c.licensee, table.c.body).where(table.c.licensee.in_(ids))
    for row in await connection.execute(statement.order_by(table.c.register, table.c.identifier)):
        found[row.licensee].append(pb.RegisterClaim.FromString(row.body))
    return found


async def licensees(
    connection: AsyncConnection,
    after: tuple[dt.datetime, str] | None,
    limit: int,
    waiting_at: dt.datetime | None,
) -> list[pb.Licensee]:
    """Oldest first. waiting_at: only those whose claim waits then: it is not the category, or the
    attestation is over."""
    statement = sa.select(_table).order_by(_table.c.create_time, _table.c.id).limit(limit)
    if waiting_at is not None:
        over = sa.or_(_table.c.attest_time.is_(None), _table.c.attest_expire_time <= waiting_at)
        statement = statement.where(sa.or_(over, _table.c.category != _table.c.claimed_category))
    if after is not None:
        statement = statement.where(sa.tuple_(_table.c.create_time, _table.c.id) > sa.tuple_(*map(sa.literal, after)))
    rows = (await connection.execute(statement)).all()
    claims = await _claims(connection, *(row.id for row in rows))
    return [_licensee_of(row, claims[row.id]) for row in rows]
