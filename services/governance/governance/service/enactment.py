"""The RPCs after the vote: challenges, their answers, and bringing into force what members decided."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from governance import domain, store
from governance.domain.proposals import CHALLENGEABLE
from governance.service.base import Context, Voice, last, voice
from governance.service.votes import Votes
from rochdale.governance.v1 import events_pb2, proposals_pb2_grpc
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.clock import from_timestamp, now, to_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import PUBLIC, caller, roles
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ProposalService"]
_MEMBER = roles(identity_pb2.ROLE_MEMBER, identity_pb2.ROLE_STEWARD)
_STEWARD = roles(identity_pb2.ROLE_STEWARD)
ACCESS = {
    "CreateProposal": _MEMBER,
    "AmendProposal": _MEMBER,
    "SubmitProposal": _MEMBER,
    "SponsorProposal": _MEMBER,
    "FreezeProposal": _MEMBER,
    "WithdrawProposal": _MEMBER,
    "CommentOnProposal": _MEMBER,
    "ListComments": PUBLIC,
    "DeclareInterest": _MEMBER,
    "CastBallot": _MEMBER,
    "ListBoard": PUBLIC,
    "GetRollProof": _MEMBER,
    "SetDelegation": _MEMBER,
    "ListDelegations": _MEMBER,
    "GetProposal": PUBLIC,
    "ListProposals": PUBLIC,
    "ChallengeProposal": _MEMBER,
    "ResolveChallenge": _STEWARD,
    "EnactProposal": _STEWARD,
}


class ProposalService(Votes, proposals_pb2_grpc.ProposalServiceServicer):
    """The whole way of a proposal: the debate, the vote, and what comes of it."""

    async def ChallengeProposal(self, request: pb.ChallengeProposalRequest, context: Context) -> pb.Proposal:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Proposal):
                return earlier
            at = now()
            proposal, speaker = await self._decide(connection, request.name, at)
            if proposal.state not in CHALLENGEABLE:
                raise domain.proposals.wrong_state(
                    "PROPOSAL_NOT_CHALLENGEABLE", proposal, "can be challenged from the vote to the enactment"
                )
            id = last(proposal.name)
            on_roll = speaker.member and await store.votes.voter_salt(connection, id, speaker.member) is not None
            if not on_roll:
                raise Refusal(
                    "NOT_ON_ROLL",
                    f"Only who is on the roll of {proposal.name} can challenge the vote.",
                    Kind.FORBIDDEN,
                    name=proposal.name,
                )
            challenge = proposal.challenges.add(
                number=len(proposal.challenges) + 1,
                member=speaker.member,
                ground=request.ground,
                statement=request.statement,
                create_time=to_timestamp(at),
            )
            await store.proposals.save_challenge(connection, id, challenge)
            return await remember(connection, caller().organization, request, self._shown(proposal))

    async def ResolveChallenge(self, request: pb.ResolveChallengeRequest, context: Context) -> pb.Proposal:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Proposal):
                return earlier
            at = now()
            proposal, speaker = await self._decide(connection, request.name, at)
            challenge = next((one for one in proposal.challenges if one.number == request.number), None)
            if challenge is None:
                raise Refusal(
                    "NOT_FOUND",
                    f"{proposal.name} has no challenge {request.number}.",
                    Kind.NOT_FOUND,
                    name=proposal.name,
                    number=request.number,
                )
            _require_steward(proposal, speaker)
            _require_judge(proposal, challenge, speaker)
            if challenge.HasField("resolve_time"):
                raise Refusal(
                    "CHALLENGE_RESOLVED",
                    f"Challenge {request.number} of {proposal.name} has been answered.",
                    Kind.STATE,
                    name=proposal.name,
                    number=request.number,
                )
            challenge.resolve_time.FromDatetime(at)
            challenge.upheld, challenge.answer = request.upheld, request.answer
            id = last(proposal.name)
            await store.proposals.save_challenge(connection, id, challenge)
            if request.upheld and proposal.state in CHALLENGEABLE:
                if proposal.state == pb.PROPOSAL_STATE_VOTING:
                    await store.votes.update_vote(connection, id, open=False, sealed_key=None)
                proposal.state = pb.PROPOSAL_STATE_ANNULLED
                await self._course.moved(connection, proposal, at)
            return await remember(connection, caller().organization, request, self._shown(proposal))

    async def EnactProposal(self, request: pb.EnactProposalRequest, context: Context) -> pb.EnactProposalResponse:
        await self._annul_if_edited(request.name)
        parent, _, id = request.name.partition("/proposals/")
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.EnactProposalResponse):
                return earlier
            at = now()
            # The cooperative before its proposal: whoever decides about rules takes this lock first.
            cooperative = await store.cooperatives.cooperative(connection, last(parent), lock=True)
            proposal, speaker = await self._decide(connection, request.name, at)
            assert cooperative is not None, "a proposal is a cooperative's"
            _require_steward(proposal, speaker)
            domain.interests.require_none(proposal, speaker.holder, speaker.affiliations, "enact")
            if proposal.state != pb.PROPOSAL_STATE_AWAITING_SIGNATURE:
                raise domain.proposals.wrong_state("PROPOSAL_NOT_PASSED", proposal, "cannot be enacted")
            if waiting := [one.number for one in proposal.challenges if not one.HasField("resolve_time")]:
                raise Refusal(
                    "CHALLENGE_OPEN",
                    f"Challenge {waiting[0]} of {proposal.name} has not been answered.",
                    Kind.STATE,
                    name=proposal.name,
                    number=waiting[0],
                )
            effective = domain.rules.effective_time(request.effective_time, at)
            if effective < from_timestamp(proposal.dissent_end_time):
                raise domain.rules.effective_time_invalid(request.effective_time, "before the dissent window's end")
            keys = CooperativeKeys.follow(cooperative.name, cooperative.signing_keys)
            rules = domain.delta.enacted_rules(proposal, effective, at)
            domain.rules.sign(rules, request.rule_signatures, keys)
            over = await self._ended(connection, proposal, request, effective, keys)
            policy = await self._policy(connection, proposal, request, effective, keys)

            for rule in rules:
                await store.rules.insert_rule(connection, rule)
            for rule in over:
                await store.rules.update_rule(connection, rule)
            if proposal.delta.HasField("charter"):
                await store.cooperatives.set_charter(connection, last(parent), proposal.delta.charter)
            if policy is not None:
                await store.dividend_policies.insert(connection, policy)
            proposal.state = pb.PROPOSAL_STATE_ENACTED
            proposal.enact_time.FromDatetime(at)
            reviews = [domain.proposals.review_time(effective, from_timestamp(rule.expire_time)) for rule in rules]
            await store.proposals.set_review_time(connection, id, min(reviews, default=None))

            for rule in rules:
                await announce(connection, events_pb2.RuleEnacted(sharing_rule=rule))
            for rule in over:
                await announce(connection, events_pb2.RuleNarrowed(sharing_rule=rule))
            if policy is not None:
                await announce(connection, policy)
            await self._course.moved(connection, proposal, at)
            await self._give_way(connection, proposal, over, at)
            proposal = await self._course.settle(connection, proposal, at)
            reply = pb.EnactProposalResponse(proposal=self._shown(proposal), sharing_rules=rules)
            return await remember(connection, caller().organization, request, reply)

    async def _annul_if_edited(self, name: str) -> None:
        """Text, delta and tally are hashed again as they are stored: whoever changed the row by hand gains nothing.

        In a transaction of its own, because the refusal would take the annulment back with it.
        """
        async with self._database.begin() as connection:
            at = now()
            proposal = await self._locked(connection, name, at)
            await voice(connection, name.split("/")[1])
            passed = (pb.PROPOSAL_STATE_DISSENT_WINDOW, pb.PROPOSAL_STATE_AWAITING_SIGNATURE)
            if proposal.state not in (*passed, pb.PROPOSAL_STATE_ANNULLED):
                return
            if domain.proposals.intact(proposal, self._keys.keys) and (
                proposal.state == pb.PROPOSAL_STATE_ANNULLED or proposal.tally.passed
            ):
                return
            if proposal.state in passed:
                proposal.state = pb.PROPOSAL_STATE_ANNULLED
                await self._course.moved(connection, proposal, at)
        raise Refusal(
            "TEXT_MISMATCH",
            f"{name} is no longer what was frozen and voted on; it is annulled.",
            Kind.STATE,
            name=name,
        )

    async def _ended(
        self,
        connection: AsyncConnection,
        proposal: pb.Proposal,
        request: pb.EnactProposalRequest,
        effective: dt.datetime,
        keys: CooperativeKeys,
    ) -> list[governance.SharingRule]:
        """The rules that end, signed as ended, in the order of the delta."""
        ends = await self._course.ends(connection, proposal)
        over = []
        for name in proposal.delta.end_rules:
            rule = ends.get(name)
            if rule is None or rule.state != governance.RULE_STATE_IN_FORCE:
                raise domain.rules.not_in_force(name, rule)
            if effective < from_timestamp(rule.effective_time):
                raise domain.rules.effective_time_invalid(request.effective_time, f"before {name} began")
            over.append(domain.delta.ended(rule, effective)[0])
        domain.rules.sign_ends(over, request.end_signatures, keys)
        return over

    @staticmethod
    async def _policy(
        connection: AsyncConnection,
        proposal: pb.Proposal,
        request: pb.EnactProposalRequest,
        effective: dt.datetime,
        keys: CooperativeKeys,
    ) -> events_pb2.DividendPolicyEnacted | None:
        """How surplus is divided from now on, signed; None if it stays as it was. The cooperative is locked."""
        if not proposal.delta.HasField("dividend_policy"):
            domain.dividends.require_no_signature(proposal, request.dividend_policy_signature)
            return None
        version = await store.dividend_policies.next_version(connection, proposal.name.split("/")[1])
        return domain.dividends.enacted(proposal, version, effective, request.dividend_policy_signature, keys)

    @staticmethod
    async def _give_way(
        connection: AsyncConnection, proposal: pb.Proposal, over: list[governance.SharingRule], at: dt.datetime
    ) -> None:
        """Decisions whose rules ended are looked at again: without a rule left they are superseded."""
        earlier = {last(rule.proposal) for rule in over if rule.proposal}
        await store.proposals.wake(connection, earlier - {last(proposal.name)}, at)


def _require_steward(proposal: pb.Proposal, speaker: Voice) -> None:
    """Somebody who is a steward now: a session may outlive an office."""
    if not speaker.steward:
        raise Refusal("ROLE_MISSING", "You are no steward any more.", Kind.FORBIDDEN, name=proposal.name)


def _require_judge(proposal: pb.Proposal, challenge: pb.Challenge, speaker: Voice) -> None:
    """A steward who neither gains, nor wrote the proposal, nor made the challenge.

    A key without a member cannot show that it did not write what was written in the cooperative's name, unless the market
    did.
    """
    domain.interests.require_none(proposal, speaker.holder, speaker.affiliations, "judge")
    wrote = speaker.author == proposal.author and not proposal.mandate_request
    if wrote or speaker.holder == challenge.member:
        raise Refusal(
            "STEWARD_CONFLICTED",
            f"You wrote {proposal.name} or made the challenge; somebody else has to answer it.",
            Kind.FORBIDDEN,
            name=proposal.name,
        )
