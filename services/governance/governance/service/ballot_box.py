"""Takes ballots, many in one transaction: a board is a chain, so ballots of one vote follow one another anyway."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from governance import store
from governance.domain import ballots
from governance.sealing import Sealer
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.clock import now
from rochdale_kit.database import Database
from rochdale_kit.refusals import Kind, Refusal

# As many as fit a transaction of some ten milliseconds.
BATCH = 128


@dataclass(frozen=True)
class Cast:
    """A ballot taken: its line, and whether with it everybody on the roll has voted in person."""

    line: pb.BoardEntry
    everybody: bool


@dataclass(frozen=True)
class _Wish:
    member: str
    frozen_hash: str
    choice: pb.BallotChoice.ValueType
    taken: asyncio.Future[Cast]


class BallotBox:
    """One a process. Several processes may take ballots for one vote: the lock of its row keeps the chain."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._waiting: dict[str, list[_Wish]] = {}
        self._workers: set[asyncio.Task[None]] = set()

    async def cast(self, proposal: str, member: str, frozen_hash: str, choice: pb.BallotChoice.ValueType) -> Cast:
        """Puts a ballot on the board, or finds the same one there. proposal, member: resource names.

        Refuses with VOTE_NOT_OPEN, BALLOT_STALE, NOT_ON_ROLL.
        """
        taken: asyncio.Future[Cast] = asyncio.get_running_loop().create_future()
        wish = _Wish(member, frozen_hash, choice, taken)
        if (queue := self._waiting.get(proposal)) is not None:
            queue.append(wish)
        else:
            self._waiting[proposal] = [wish]
            # A task of its own: the caller whose ballot comes first may hang up, and others wait for the rest.
            worker = asyncio.create_task(self._work(proposal))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return await taken

    async def _work(self, proposal: str) -> None:
        while queue := self._waiting[proposal]:
            batch, self._waiting[proposal] = queue[:BATCH], queue[BATCH:]
            try:
                answers = await self._take(proposal, batch)
            except BaseException as error:
                if not isinstance(error, Exception):
                    # Those who came while the batch was being taken wait as well.
                    for wish in (*batch, *self._waiting.pop(proposal)):
                        wish.taken.cancel()
                    raise
                answers = [error] * len(batch)
            for wish, answer in zip(batch, answers, strict=True):
                if wish.taken.done():
                    continue
                if isinstance(answer, Cast):
                    wish.taken.set_result(answer)
                else:
                    wish.taken.set_exception(answer)
        del self._waiting[proposal]

    async def _take(self, proposal: str, batch: list[_Wish]) -> list[Cast | Exception]:
        id = proposal.rsplit("/", 1)[1]
        answers: list[Cast | Exception] = []
        async with self._database.begin() as connection:
            vote = await store.votes.vote(connection, id, lock=True)
            # After the lock: who waited for it long may come too late.
            at = now()
            if vote is None or not vote.open or not vote.open_time <= at < vote.close_time:
                refusal = Refusal("VOTE_NOT_OPEN", f"{proposal} is not open.", Kind.STATE, name=proposal)
                return [refusal] * len(batch)
            key = self._key(vote)
            names = {wish.member: ballots.nullifier(vote.secrecy, key, wish.member) for wish in batch}
            on_roll, standing = await store.votes.voters_and_ballots(
                connection, id, vote.frozen_hash, list(names.items())
            )
            added: list[pb.BoardEntry] = []
            turnout, length, head = vote.turnout_count, vote.board_length, vote.board_head
            for wish in batch:
                if wish.member not in on_roll:
                    answers.append(not_on_roll(proposal, wish.member))
                    continue
                if wish.frozen_hash != vote.frozen_hash:
                    answers.append(_stale(proposal, vote.frozen_hash))
                    continue
                name = names[wish.member]
                line = standing.get(name)
                turnout += line is None
                if line is None or line.choice != wish.choice:
                    line = ballots.entry(length + 1, head, name, vote.frozen_hash, wish.choice, os.urandom(16))
                    length, head, standing[name] = line.sequence, line.entry_hash, line
                    added.append(line)
                answers.append(Cast(line, turnout == vote.eligible_count))
            if added:
                await store.votes.insert_lines(connection, id, added)
                close, extended = ballots.late_quorum(
                    at, vote.close_time, vote.voting_seconds, vote.extension_seconds, vote.extended,
                    before=vote.turnout_count, after=turnout, quorum=vote.quorum_count,
                )  # fmt: skip
                await store.votes.update_vote(
                    connection,
                    id,
                    turnout_count=turnout,
                    board_length=length,
                    board_head=head,
                    close_time=close,
                    extended=extended,
                )
        return answers

    def _key(self, vote: store.votes.Vote) -> bytes:
        # Opened for each batch and kept nowhere: after the close it is gone from memory as it is from the database.
        if vote.secrecy == decisions.SECRECY_ROLL_CALL or vote.sealed_key is None:
            return b""
        return self._sealer.open(vote.sealed_key, vote.frozen_hash)


def not_on_roll(proposal: str, member: str) -> Refusal:
    return Refusal(
        "NOT_ON_ROLL",
        f"You are not on the roll of {proposal}: it was taken when the vote opened, without those who had joined too "
        "late, had an interest, or contributed nothing where only contributors vote.",
        Kind.FORBIDDEN,
        name=proposal,
        member=member,
    )


def _stale(proposal: str, frozen_hash: str) -> Refusal:
    return Refusal(
        "BALLOT_STALE",
        f"What you read is not what {proposal} puts to the vote; read it again.",
        Kind.STATE,
        name=proposal,
        frozen_hash=frozen_hash,
    )
