"""Queries on votes: the roll, the board and its head, delegations."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.domain.ballots import Entrusted
from governance.domain.roll import Leaf
from governance.store.vote_tables import ballot_table, delegation_table, vote_table, voter_table
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.clock import to_timestamp


@dataclass(frozen=True)
class Vote:
    """The row all ballots of a proposal pass: its head is the end of the board."""

    proposal_id: str
    open: bool
    frozen_hash: str
    secrecy: int
    sealed_key: bytes | None
    open_time: dt.datetime
    close_time: dt.datetime
    voting_seconds: int
    extension_seconds: int
    extended: bool
    eligible_count: int
    quorum_count: int
    turnout_count: int
    board_length: int
    board_head: str


async def vote(connection: AsyncConnection, proposal_id: str, lock: bool = False) -> Vote | None:
    """One vote; whoever adds to its board or closes it locks it."""
    statement = sa.select(vote_table).where(vote_table.c.proposal_id == proposal_id)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return Vote(**row._mapping) if row is not None else None


async def open_vote(connection: AsyncConnection, vote: Vote, roll: Sequence[Leaf]) -> None:
    """A vote opens, or opens again after an amendment: the board goes on where it was, the roll is a new one."""
    values = {name: getattr(vote, name) for name in vote_table.c.keys()}  # noqa: SIM118 - a collection of columns
    added = insert(vote_table).values(values)
    await connection.execute(added.on_conflict_do_update(index_elements=["proposal_id"], set_=values))
    await connection.execute(voter_table.delete().where(voter_table.c.proposal_id == vote.proposal_id))
    if roll:
        rows = [
            {"proposal_id": vote.proposal_id, "member": one.member, "salt": one.salt, "leaf": one.value} for one in roll
        ]
        await connection.execute(voter_table.insert(), rows)


async def update_vote(connection: AsyncConnection, proposal_id: str, **values: object) -> None:
    table = vote_table
    await connection.execute(table.update().where(table.c.proposal_id == proposal_id).values(**values))


async def voter_salt(connection: AsyncConnection, proposal_id: str, member: str) -> bytes | None:
    """The salt of a member's leaf; None for whoever is not on the roll."""
    table = voter_table
    statement = sa.select(table.c.salt).where(table.c.proposal_id == proposal_id, table.c.member == member)
    row = (await connection.execute(statement)).first()
    return bytes(row.salt) if row is not None else None


async def voters(connection: AsyncConnection, proposal_id: str) -> list[str]:
    """Everybody on the roll, by resource name."""
    statement = sa.select(voter_table.c.member).where(voter_table.c.proposal_id == proposal_id)
    return [row.member for row in await connection.execute(statement)]


async def leaves(connection: AsyncConnection, proposal_id: str) -> list[bytes]:
    statement = sa.select(voter_table.c.leaf).where(voter_table.c.proposal_id == proposal_id)
    return [bytes(row.leaf) for row in await connection.execute(statement)]


async def voters_and_ballots(
    connection: AsyncConnection, proposal_id: str, frozen_hash: str, names: Collection[tuple[str, str]]
) -> tuple[set[str], dict[str, pb.BoardEntry]]:
    """Which of these (member, nullifier) are on the roll, and the line that stands of each, by nullifier."""
    members = sa.select(voter_table.c.member).where(
        voter_table.c.proposal_id == proposal_id, voter_table.c.member == sa.any_(sa.bindparam("members"))
    )
    on_roll = {row.member for row in await connection.execute(members, {"members": [member for member, _ in names]})}
    lines = (
        sa.select(ballot_table)
        .ext(_last_of_each())
        .where(
            ballot_table.c.proposal_id == proposal_id,
            ballot_table.c.nullifier == sa.any_(sa.bindparam("nullifiers")),
            ballot_table.c.frozen_hash == frozen_hash,
        )
        .order_by(ballot_table.c.nullifier, ballot_table.c.sequence.desc())
    )
    rows = await connection.execute(lines, {"nullifiers": [nullifier for _, nullifier in names]})
    return on_roll, {row.nullifier: _line_of(row) for row in rows}


def _last_of_each() -> Any:
    return distinct_on(ballot_table.c.nullifier)


def _line_of(row: Any) -> pb.BoardEntry:
    return pb.BoardEntry(
        sequence=row.sequence,
        previous_hash=row.previous_hash,
        nullifier=row.nullifier,
        frozen_hash=row.frozen_hash,
        commitment=row.commitment,
        delegate_nullifier=row.delegate_nullifier,
        entry_hash=row.entry_hash,
        choice=row.choice,
        salt=row.salt,
    )


async def insert_lines(connection: AsyncConnection, proposal_id: str, lines: Sequence[pb.BoardEntry]) -> None:
    """Adds to the board; the vote is locked."""
    if not lines:
        return
    rows = [
        {
            "proposal_id": proposal_id,
            "sequence": line.sequence,
            "previous_hash": line.previous_hash,
            "nullifier": line.nullifier,
            "frozen_hash": line.frozen_hash,
            "commitment": line.commitment,
            "delegate_nullifier": line.delegate_nullifier,
            "entry_hash": line.entry_hash,
            "choice": line.choice,
            "salt": line.salt,
        }
        for line in lines
    ]
    await connection.execute(ballot_table.insert(), rows)


async def lines(connection: AsyncConnection, proposal_id: str, after: int, limit: int) -> list[pb.BoardEntry]:
    """The board in order."""
    table = ballot_table
    statement = (
        sa.select(table)
        .where(table.c.proposal_id == proposal_id, table.c.sequence > after)
        .order_by(table.c.sequence)
        .limit(limit)
    )
    return [_line_of(row) for row in await connection.execute(statement)]


async def standing(connection: AsyncConnection, proposal_id: str, frozen_hash: str) -> list[pb.BoardEntry]:
    """The line that counts of each name."""
    table = ballot_table
    statement = (
        sa.select(table)
        .ext(_last_of_each())
        .where(table.c.proposal_id == proposal_id, table.c.frozen_hash == frozen_hash)
        .order_by(table.c.nullifier, table.c.sequence.desc())
    )
    return [_line_of(row) for row in await connection.execute(statement)]


async def void_lines(connection: AsyncConnection, proposal_id: str) -> None:
    """Ballots on what is no longer proposed: the lines stay, what they said is forgotten."""
    table = ballot_table
    await connection.execute(
        table.update().where(table.c.proposal_id == proposal_id).values(choice=pb.BALLOT_CHOICE_UNSPECIFIED, salt="")
    )


async def set_delegation(
    connection: AsyncConnection,
    cooperative_id: str,
    member: str,
    decision_class: int,
    delegate: str,
    now: dt.datetime,
) -> None:
    """An empty delegate ends it. The same again keeps its age, by which a cap decides."""
    table = delegation_table
    if not delegate:
        await connection.execute(
            table.delete().where(table.c.member == member, table.c.decision_class == decision_class)
        )
        return
    added = insert(table).values(
        cooperative_id=cooperative_id,
        member=member,
        decision_class=decision_class,
        delegate=delegate,
        create_time=now,
    )
    await connection.execute(
        added.on_conflict_do_update(
            index_elements=["cooperative_id", "member", "decision_class"],
            set_={"delegate": delegate, "create_time": now},
            where=table.c.delegate != delegate,
        )
    )


async def delegations(connection: AsyncConnection, member: str) -> list[pb.Delegation]:
    """A member's own, by class."""
    table = delegation_table
    statement = sa.select(table).where(table.c.member == member).order_by(table.c.decision_class)
    return [
        pb.Delegation(
            member=row.member,
            decision_class=row.decision_class,
            delegate=row.delegate,
            create_time=to_timestamp(row.create_time),
        )
        for row in await connection.execute(statement)
    ]


async def entrusted_counts(connection: AsyncConnection, delegate: str) -> dict[int, int]:
    """How many delegations point at a member, by class."""
    table = delegation_table
    statement = (
        sa.select(table.c.decision_class, sa.func.count().label("number"))
        .where(table.c.delegate == delegate)
        .group_by(table.c.decision_class)
    )
    return {row.decision_class: row.number for row in await connection.execute(statement)}


async def entrusted(connection: AsyncConnection, cooperative_id: str, decision_class: int) -> list[Entrusted]:
    """All delegations of a cooperative for a class, the oldest first."""
    table = delegation_table
    statement = (
        sa.select(table.c.member, table.c.delegate)
        .where(table.c.cooperative_id == cooperative_id, table.c.decision_class == decision_class)
        .order_by(table.c.create_time, table.c.member)
    )
    return [Entrusted(row.member, row.delegate) for row in await connection.execute(statement)]
