"""The RPCs of the vote: ballots, the public board, a voter's place on the roll, delegations."""

from __future__ import annotations

from governance import domain, store
from governance.domain.proposals import VOTING
from governance.service.ballot_box import BallotBox, Cast, not_on_roll
from governance.service.base import Context, last, not_a_member
from governance.service.course import Course
from governance.service.proposals import Debate
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.database import Database
from rochdale_kit.identity import caller
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.refusals import Kind, Refusal, not_found

BOARD_PAGE = 1000


class Votes(Debate):
    """What happens while members vote."""

    def __init__(self, database: Database, course: Course, keys: LiveKeyring, box: BallotBox) -> None:
        super().__init__(database, course)
        self._keys = keys
        self._box = box

    async def CastBallot(self, request: pb.CastBallotRequest, context: Context) -> pb.BallotReceipt:
        # Unlike other RPCs it loads no proposal: all a ballot needs was frozen beside the board when the vote opened.
        member = caller().member
        if not member.startswith(f"cooperatives/{request.name.split('/')[1]}/members/"):
            async with self._database.read() as connection:
                await self._visible(connection, request.name)
            raise not_a_member(request.name.partition("/proposals/")[0])
        try:
            cast = await self._box.cast(request.name, member, request.frozen_hash, request.choice)
        except Refusal as refusal:
            if refusal.reason != "VOTE_NOT_OPEN":
                raise
            cast = await self._cast_late(request, member)
        if cast.everybody:
            async with self._database.begin() as connection:
                await self._locked(connection, request.name, now())
        return domain.ballots.receipt(request.name, cast.line, self._keys.current)

    async def _cast_late(self, request: pb.CastBallotRequest, member: str) -> Cast:
        """The board was closed: perhaps only because nobody has opened it yet, though it is time."""
        async with self._database.begin() as connection:
            proposal = await self._locked(connection, request.name, now())
        if proposal.state != VOTING:
            raise domain.proposals.wrong_state("VOTE_NOT_OPEN", proposal, "is not open for votes")
        return await self._box.cast(request.name, member, request.frozen_hash, request.choice)

    async def ListBoard(self, request: pb.ListBoardRequest, context: Context) -> pb.ListBoardResponse:
        name, size = f"{request.parent}/board", request.page_size or BOARD_PAGE
        position = paging.decode(name, request.page_token, int)
        after = position[0] if position else 0
        assert isinstance(after, int)
        async with self._database.read() as connection:
            proposal = await self._visible(connection, request.parent)
            rows = await store.votes.lines(connection, last(request.parent), after, size + 1)
        opened = proposal.HasField("tally") and not proposal.tally.withheld
        lines, token = paging.page(name, rows, size, lambda row: (row.sequence,))
        return pb.ListBoardResponse(
            entries=lines if opened else [domain.ballots.closed(line) for line in lines], next_page_token=token
        )

    async def GetRollProof(self, request: pb.GetRollProofRequest, context: Context) -> pb.RollProof:
        member = caller().member
        async with self._database.read() as connection:
            proposal = await self._visible(connection, request.name)
            if not member.startswith(f"cooperatives/{request.name.split('/')[1]}/members/"):
                raise not_a_member(request.name.partition("/proposals/")[0])
            if not proposal.HasField("roll"):
                raise domain.proposals.wrong_state("VOTE_NOT_OPEN", proposal, "has no roll yet")
            salt = await store.votes.voter_salt(connection, last(request.name), member)
            if salt is None:
                raise not_on_roll(request.name, member)
            leaves = await store.votes.leaves(connection, last(request.name))
        return domain.roll.proof(proposal.roll, member, salt, leaves)

    async def SetDelegation(self, request: pb.SetDelegationRequest, context: Context) -> pb.Delegation:
        _, cooperative_id, _, _ = request.parent.split("/")
        async with self._database.begin() as connection:
            if caller().member != request.parent:
                raise not_found(request.parent)
            member = await store.members.member(connection, request.parent)
            cooperative = await store.cooperatives.cooperative(connection, cooperative_id)
            if member is None or member.state != governance.MEMBER_STATE_ACTIVE or cooperative is None:
                raise not_found(request.parent)
            if request.delegate:
                if not domain.charter.rule_for(cooperative.charter, request.decision_class).delegation:
                    raise _no_delegation("The charter lets nobody vote for others in decisions of this class.")
                delegate = None
                own = request.delegate.startswith(f"{cooperative.name}/members/")
                if own and request.delegate.count("/") == 3 and request.delegate != request.parent:
                    delegate = await store.members.member(connection, request.delegate)
                if delegate is None or delegate.state != governance.MEMBER_STATE_ACTIVE:
                    raise _no_delegation(f"{request.delegate} is not another member of {cooperative.name}.")
            at = now()
            await store.votes.set_delegation(
                connection, cooperative_id, request.parent, request.decision_class, request.delegate, at
            )
            await store.members.touch(connection, request.parent, at)
            kept = await store.votes.delegations(connection, request.parent)
        ended = pb.Delegation(
            member=request.parent, decision_class=request.decision_class, create_time=to_timestamp(at)
        )
        return next((one for one in kept if one.decision_class == request.decision_class), ended)

    async def ListDelegations(self, request: pb.ListDelegationsRequest, context: Context) -> pb.ListDelegationsResponse:
        if caller().member != request.parent:
            raise not_found(request.parent)
        async with self._database.read() as connection:
            kept = await store.votes.delegations(connection, request.parent)
            counts = await store.votes.entrusted_counts(connection, request.parent)
        classes = (decisions.DECISION_CLASS_ROUTINE, decisions.DECISION_CLASS_SENSITIVE)
        return pb.ListDelegationsResponse(
            delegations=kept, entrusted_counts=[counts.get(decision_class, 0) for decision_class in classes]
        )


def _no_delegation(why: str) -> Refusal:
    return Refusal("DELEGATION_NOT_ALLOWED", why, Kind.STATE)
