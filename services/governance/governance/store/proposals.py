"""Queries on proposals, and on what members said about them: sponsors, interests, comments, challenges."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.vote_tables import (
    challenge_table,
    comment_table,
    interest_table,
    proposal_table,
    sponsor_table,
    vote_table,
)
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.clock import from_timestamp, to_timestamp

M = TypeVar("M", bound=Message)
_TIMES = ("freeze_time", "open_time", "close_time", "dissent_end_time", "enact_time")


def _proposal_of(row: Any) -> pb.Proposal:
    """Without sponsors, interests and challenges, which are asked for apart."""
    proposal = pb.Proposal(
        name=f"cooperatives/{row.cooperative_id}/proposals/{row.id}",
        revision=row.revision,
        title=row.title,
        body=row.body,
        delta=pb.PolicyDelta.FromString(row.delta),
        decision_class=row.decision_class,
        class_reasons=row.class_reasons,
        decision_rule=decisions.DecisionRule.FromString(row.decision_rule),
        state=row.state,
        author=row.author,
        beneficiaries=row.beneficiaries,
        frozen_hash=row.frozen_hash,
        impact=_parsed(pb.ImpactPreview, row.impact),
        roll=_parsed(pb.Roll, row.roll),
        tally=_parsed(pb.Tally, row.tally),
        mandate_request=row.mandate_request,
        supersedes=row.supersedes,
        create_time=to_timestamp(row.create_time),
        **{name: to_timestamp(getattr(row, name)) for name in _TIMES},
    )
    # While members vote the close is the vote's own business: a late quorum moves it.
    if row.state == pb.PROPOSAL_STATE_VOTING and row.vote_close_time is not None:
        proposal.close_time.FromDatetime(row.vote_close_time)
    if row.vote_hash is not None and row.vote_hash == row.frozen_hash:
        proposal.turnout_count = row.turnout_count
    return proposal


def _parsed(kind: type[M], raw: bytes | None) -> M | None:
    return None if raw is None else kind.FromString(raw)


def _time(stamp: Timestamp, present: bool) -> dt.datetime | None:
    return from_timestamp(stamp) if present else None


def _values(proposal: pb.Proposal) -> dict[str, object]:
    return {
        "revision": proposal.revision,
        "title": proposal.title,
        "body": proposal.body,
        "delta": proposal.delta.SerializeToString(deterministic=True),
        "decision_class": proposal.decision_class,
        "class_reasons": list(proposal.class_reasons),
        "decision_rule": proposal.decision_rule.SerializeToString(deterministic=True),
        "state": proposal.state,
        "beneficiaries": list(proposal.beneficiaries),
        "frozen_hash": proposal.frozen_hash,
        **{
            name: getattr(proposal, name).SerializeToString(deterministic=True) if proposal.HasField(name) else None
            for name in ("impact", "roll", "tally")
        },
        **{name: _time(getattr(proposal, name), proposal.HasField(name)) for name in _TIMES},  # type: ignore[arg-type]
    }


def _select() -> sa.Select[Any]:
    return sa.select(
        proposal_table,
        vote_table.c.close_time.label("vote_close_time"),
        vote_table.c.frozen_hash.label("vote_hash"),
        vote_table.c.turnout_count,
    ).select_from(proposal_table.outerjoin(vote_table, vote_table.c.proposal_id == proposal_table.c.id))


async def insert_proposal(
    connection: AsyncConnection, proposal: pb.Proposal, sponsor_until: dt.datetime | None, due: dt.datetime | None
) -> None:
    _, cooperative_id, _, id = proposal.name.split("/")
    await connection.execute(
        proposal_table.insert().values(
            id=id,
            cooperative_id=cooperative_id,
            author=proposal.author,
            mandate_request=proposal.mandate_request,
            supersedes=proposal.supersedes,
            create_time=from_timestamp(proposal.create_time),
            sponsor_until=sponsor_until,
            due_time=due,
            **_values(proposal),
        )
    )


async def update_proposal(connection: AsyncConnection, proposal: pb.Proposal, due: dt.datetime | None) -> None:
    """Writes the proposal as it is now, and when it moves on by itself."""
    table = proposal_table
    await connection.execute(
        table.update().where(table.c.id == proposal.name.rsplit("/", 1)[1]).values(due_time=due, **_values(proposal))
    )


async def set_sponsor_until(connection: AsyncConnection, id: str, until: dt.datetime) -> None:
    table = proposal_table
    await connection.execute(table.update().where(table.c.id == id).values(sponsor_until=until))


async def set_review_time(connection: AsyncConnection, id: str, at: dt.datetime | None) -> None:
    table = proposal_table
    await connection.execute(table.update().where(table.c.id == id).values(review_time=at))


async def clocks(connection: AsyncConnection, id: str) -> tuple[dt.datetime | None, dt.datetime | None]:
    """By when a proposal must find sponsors, and when its rules come under review."""
    table = proposal_table
    row = (
        await connection.execute(sa.select(table.c.sponsor_until, table.c.review_time).where(table.c.id == id))
    ).one()
    return row.sponsor_until, row.review_time


async def wake(connection: AsyncConnection, ids: Collection[str], now: dt.datetime) -> None:
    """Lets the loop look at these proposals at once."""
    table = proposal_table
    await connection.execute(table.update().where(table.c.id.in_(ids)).values(due_time=now))


async def due(connection: AsyncConnection, now: dt.datetime, limit: int) -> list[str]:
    """Resource names of the proposals that move on by themselves, the longest due first."""
    table = proposal_table
    statement = (
        sa.select(table.c.cooperative_id, table.c.id)
        .where(table.c.due_time <= now)
        .order_by(table.c.due_time)
        .limit(limit)
    )
    return [f"cooperatives/{row.cooperative_id}/proposals/{row.id}" for row in await connection.execute(statement)]


async def proposal(connection: AsyncConnection, name: str, lock: bool = False) -> pb.Proposal | None:
    """One proposal, whole. Whoever decides about it locks it; voters do not, they lock the vote."""
    _, cooperative_id, _, id = name.split("/")
    table = proposal_table
    if lock:
        # By itself and first: what is joined to a locked row is not read again after the wait for the lock. Ballots refer
        # to the row while they hold the vote, so the lock lets references pass.
        await connection.execute(sa.select(table.c.id).where(table.c.id == id).with_for_update(key_share=True))
    row = (
        await connection.execute(_select().where(table.c.cooperative_id == cooperative_id, table.c.id == id))
    ).first()
    if row is None:
        return None
    found = _proposal_of(row)
    await _add_debate(connection, {id: found})
    return found


async def proposal_of_request(connection: AsyncConnection, mandate_request: str) -> str | None:
    """Resource name of the proposal that answers a request outside the mandate."""
    table = proposal_table
    row = (
        await connection.execute(
            sa.select(table.c.cooperative_id, table.c.id).where(table.c.mandate_request == mandate_request)
        )
    ).first()
    return f"cooperatives/{row.cooperative_id}/proposals/{row.id}" if row is not None else None


async def proposals(
    connection: AsyncConnection,
    cooperative_id: str,
    before: str | None,
    limit: int,
    state: int,
    visible: sa.ColumnElement[bool],
) -> list[pb.Proposal]:
    """Newest first. state: only those in it, 0 for any. visible: what the caller may see (public, members_see, …)."""
    table = proposal_table
    statement = (
        _select().where(table.c.cooperative_id == cooperative_id, visible).order_by(table.c.id.desc()).limit(limit)
    )
    if state:
        statement = statement.where(table.c.state == state)
    if before is not None:
        statement = statement.where(table.c.id < before)
    rows = (await connection.execute(statement)).all()
    found = {row.id: _proposal_of(row) for row in rows}
    await _add_debate(connection, found)
    return list(found.values())


def public() -> sa.ColumnElement[bool]:
    """Those frozen once and since."""
    return proposal_table.c.frozen_hash != ""


def everything() -> sa.ColumnElement[bool]:
    return sa.true()


def members_see(member: str) -> sa.ColumnElement[bool]:
    """All but others' drafts."""
    table = proposal_table
    return sa.or_(table.c.state != pb.PROPOSAL_STATE_DRAFT, table.c.author == member)


async def _add_debate(connection: AsyncConnection, proposals: dict[str, pb.Proposal]) -> None:
    if not proposals:
        return
    ids = list(proposals)
    sponsors = (
        sa.select(sponsor_table.c.proposal_id, sa.func.count().label("number"))
        .where(sponsor_table.c.proposal_id.in_(ids))
        .group_by(sponsor_table.c.proposal_id)
    )
    for row in await connection.execute(sponsors):
        proposals[row.proposal_id].sponsor_count = row.number
    interests = (
        sa.select(interest_table)
        .where(interest_table.c.proposal_id.in_(ids))
        .order_by(interest_table.c.declared.desc(), interest_table.c.holder)
    )
    for row in await connection.execute(interests):
        proposals[row.proposal_id].interests.add(holder=row.holder, statement=row.statement, declared=row.declared)
    challenges = (
        sa.select(challenge_table).where(challenge_table.c.proposal_id.in_(ids)).order_by(challenge_table.c.number)
    )
    for row in await connection.execute(challenges):
        proposals[row.proposal_id].challenges.add().CopyFrom(pb.Challenge.FromString(row.challenge))


async def add_sponsor(
    connection: AsyncConnection, proposal_id: str, holder: str, steward: bool, now: dt.datetime
) -> bool:
    """Whether the sponsor is new."""
    statement = (
        insert(sponsor_table)
        .values(proposal_id=proposal_id, holder=holder, steward=steward, create_time=now)
        .on_conflict_do_nothing()
        .returning(sponsor_table.c.holder)
    )
    return (await connection.execute(statement)).first() is not None


async def sponsors_already(connection: AsyncConnection, proposal_id: str, holder: str) -> bool:
    table = sponsor_table
    statement = sa.select(table.c.holder).where(table.c.proposal_id == proposal_id, table.c.holder == holder)
    return (await connection.execute(statement)).first() is not None


async def forget_sponsors(connection: AsyncConnection, proposal_id: str) -> None:
    table = sponsor_table
    await connection.execute(table.delete().where(table.c.proposal_id == proposal_id))


async def steward_sponsors(connection: AsyncConnection, proposal_id: str) -> bool:
    table = sponsor_table
    statement = sa.select(table.c.holder).where(table.c.proposal_id == proposal_id, table.c.steward).limit(1)
    return (await connection.execute(statement)).first() is not None


async def declare_interest(connection: AsyncConnection, proposal_id: str, holder: str, statement: str) -> None:
    added = insert(interest_table).values(proposal_id=proposal_id, holder=holder, statement=statement, declared=True)
    await connection.execute(
        added.on_conflict_do_update(
            index_elements=["proposal_id", "holder"], set_={"statement": statement, "declared": True}
        )
    )


async def replace_found_interests(
    connection: AsyncConnection, proposal_id: str, found: Sequence[tuple[str, str]]
) -> None:
    """(holder, what matched) of the interests found; those found before are forgotten, those declared stay."""
    table = interest_table
    await connection.execute(table.delete().where(table.c.proposal_id == proposal_id, sa.not_(table.c.declared)))
    if found:
        rows = [
            {"proposal_id": proposal_id, "holder": holder, "statement": statement, "declared": False}
            for holder, statement in found
        ]
        await connection.execute(insert(table).on_conflict_do_nothing(), rows)


async def insert_comment(
    connection: AsyncConnection, proposal_id: str, author: str, text: str, now: dt.datetime
) -> pb.Comment:
    """The next comment; the proposal is locked, so that numbers have no gaps."""
    table = comment_table
    last = await connection.scalar(sa.select(sa.func.max(table.c.number)).where(table.c.proposal_id == proposal_id))
    number = (last or 0) + 1
    await connection.execute(
        table.insert().values(proposal_id=proposal_id, number=number, author=author, text=text, create_time=now)
    )
    return pb.Comment(number=number, author=author, text=text, create_time=to_timestamp(now))


async def comments(connection: AsyncConnection, proposal_id: str, after: int, limit: int) -> list[pb.Comment]:
    table = comment_table
    statement = (
        sa.select(table)
        .where(table.c.proposal_id == proposal_id, table.c.number > after)
        .order_by(table.c.number)
        .limit(limit)
    )
    return [
        pb.Comment(number=row.number, author=row.author, text=row.text, create_time=to_timestamp(row.create_time))
        for row in await connection.execute(statement)
    ]


async def save_challenge(connection: AsyncConnection, proposal_id: str, challenge: pb.Challenge) -> None:
    """A new challenge, or an old one with its answer."""
    raw = challenge.SerializeToString(deterministic=True)
    added = insert(challenge_table).values(proposal_id=proposal_id, number=challenge.number, challenge=raw)
    await connection.execute(
        added.on_conflict_do_update(index_elements=["proposal_id", "number"], set_={"challenge": raw})
    )
