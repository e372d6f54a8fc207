"""The RPCs of the debate: drafting, sponsoring, freezing, commenting, and reading proposals."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from governance import domain, store
from governance.domain.proposals import UNFROZEN
from governance.service.base import Context, Voice, last, voice
from governance.service.course import Course
from governance.service.preview import impact_of
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit import paging
from rochdale_kit.clock import now
from rochdale_kit.database import Database, first_answer, remember
from rochdale_kit.identity import caller, optional_caller
from rochdale_kit.refusals import Kind, Refusal, not_found


class Debate:
    """What happens before members vote."""

    def __init__(self, database: Database, course: Course) -> None:
        self._database = database
        self._course = course

    async def CreateProposal(self, request: pb.CreateProposalRequest, context: Context) -> pb.Proposal:
        id = last(request.parent)
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Proposal):
                return earlier
            cooperative = await store.cooperatives.cooperative(connection, id)
            if cooperative is None or caller().organization != id:
                raise not_found(request.parent)
            speaker = await voice(connection, id)
            wish = pb.Proposal(
                title=request.title,
                body=request.body,
                author=speaker.author,
                beneficiaries=request.beneficiaries,
                supersedes=request.supersedes,
            )
            await self._require_superseded(connection, cooperative, request)
            proposal = await self._course.draft(connection, cooperative, wish, request.delta, now())
            return await remember(connection, caller().organization, request, proposal)

    async def AmendProposal(self, request: pb.AmendProposalRequest, context: Context) -> pb.Proposal:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Proposal):
                return earlier
            at = now()
            proposal, speaker = await self._decide(connection, request.name, at)
            require_author_or_steward(proposal, speaker, "amend")
            domain.proposals.require_revision(proposal, request.revision)
            if proposal.state not in domain.proposals.AMENDABLE:
                raise domain.proposals.wrong_state("PROPOSAL_NOT_AMENDABLE", proposal, "can no longer be changed")
            cooperative = await self._cooperative(connection, proposal)
            proposal.title, proposal.body = request.title, request.body
            proposal.revision += 1
            await self._course.write(connection, cooperative, proposal, request.delta)
            if proposal.state == pb.PROPOSAL_STATE_SPONSORING:
                # They sponsored another text.
                await store.proposals.forget_sponsors(connection, last(proposal.name))
                proposal.sponsor_count = 0
            if proposal.state not in UNFROZEN:
                await self._reopen(connection, proposal, at)
            else:
                await self._course.settle(connection, proposal, at)
            return await remember(connection, caller().organization, request, proposal)

    async def _reopen(self, connection: AsyncConnection, proposal: pb.Proposal, at: dt.datetime) -> None:
        """Back to the debate: what was frozen, who could vote and how they voted is void."""
        id = last(proposal.name)
        if await store.votes.vote(connection, id, lock=True) is not None:
            await store.votes.update_vote(connection, id, open=False, sealed_key=None, turnout_count=0)
            await store.votes.void_lines(connection, id)
        await store.proposals.replace_found_interests(connection, id, [])
        declared = [interest for interest in proposal.interests if interest.declared]
        del proposal.interests[:]
        proposal.interests.extend(declared)
        for name in ("impact", "roll", "freeze_time", "open_time", "close_time"):
            proposal.ClearField(name)
        proposal.frozen_hash, proposal.turnout_count = "", 0
        proposal.state = pb.PROPOSAL_STATE_DELIBERATION
        await self._course.moved(connection, proposal, at)

    async def SubmitProposal(self, request: pb.SubmitProposalRequest, context: Context) -> pb.Proposal:
        async with self._database.begin() as connection:
            at = now()
            proposal, speaker = await self._decide(connection, request.name, at)
            require_author_or_steward(proposal, speaker, "submit")
            domain.proposals.require_revision(proposal, request.revision)
            if proposal.state in (pb.PROPOSAL_STATE_SPONSORING, pb.PROPOSAL_STATE_DELIBERATION):
                return proposal
            if proposal.state != pb.PROPOSAL_STATE_DRAFT:
                raise domain.proposals.wrong_state("PROPOSAL_OVER", proposal, "is no draft any more")
            if speaker.steward:
                domain.interests.require_none(proposal, speaker.holder, speaker.affiliations, "submit")
            until = at + domain.proposals.SPONSORING
            await store.proposals.set_sponsor_until(connection, last(proposal.name), until)
            # Whoever submits a proposal sponsors it.
            await store.proposals.add_sponsor(connection, last(proposal.name), speaker.holder, speaker.steward, at)
            proposal.sponsor_count += 1
            proposal.state = pb.PROPOSAL_STATE_SPONSORING
            await self._course.moved(connection, proposal, at)
            return await self._course.settle(connection, proposal, at)

    async def SponsorProposal(self, request: pb.SponsorProposalRequest, context: Context) -> pb.Proposal:
        async with self._database.begin() as connection:
            at = now()
            proposal, speaker = await self._decide(connection, request.name, at)
            domain.proposals.require_revision(proposal, request.revision)
            domain.interests.require_none(proposal, speaker.holder, speaker.affiliations, "sponsor")
            if await store.proposals.sponsors_already(connection, last(proposal.name), speaker.holder):
                return proposal
            if proposal.state != pb.PROPOSAL_STATE_SPONSORING:
                raise domain.proposals.wrong_state("PROPOSAL_NOT_SPONSORED", proposal, "looks for no sponsors")
            await store.proposals.add_sponsor(connection, last(proposal.name), speaker.holder, speaker.steward, at)
            proposal.sponsor_count += 1
            return await self._course.settle(connection, proposal, at)

    async def FreezeProposal(self, request: pb.FreezeProposalRequest, context: Context) -> pb.Proposal:
        async with self._database.begin() as connection:
            at = now()
            proposal, speaker = await self._decide(connection, request.name, at)
            require_author_or_steward(proposal, speaker, "freeze")
            domain.proposals.require_revision(proposal, request.revision)
            if proposal.frozen_hash and proposal.state not in UNFROZEN:
                return proposal
            if proposal.state != pb.PROPOSAL_STATE_DELIBERATION:
                raise domain.proposals.wrong_state("PROPOSAL_NOT_DEBATED", proposal, "is not debated")
            if speaker.steward:
                domain.interests.require_none(proposal, speaker.holder, speaker.affiliations, "freeze")
            cooperative = await self._cooperative(connection, proposal)
            if not cooperative.signing_keys:
                raise Refusal(
                    "COOPERATIVE_KEY_MISSING",
                    f"{cooperative.name} has no signing key yet, so nothing it decides could be enacted.",
                    Kind.STATE,
                    cooperative=cooperative.name,
                )
            ends = await self._course.ends(connection, proposal)
            domain.delta.settle_again(proposal.delta, cooperative, ends)
            self._course.classify(cooperative, proposal, ends)
            proposal.impact.CopyFrom(await impact_of(connection, proposal, ends))
            proposal.frozen_hash = domain.proposals.frozen_hash(proposal)
            proposal.state = pb.PROPOSAL_STATE_FROZEN
            rule = proposal.decision_rule
            opening = at + dt.timedelta(seconds=rule.notice_seconds)
            proposal.freeze_time.FromDatetime(at)
            proposal.open_time.FromDatetime(opening)
            proposal.close_time.FromDatetime(opening + dt.timedelta(seconds=rule.voting_seconds))
            await self._course.moved(connection, proposal, at)
            return await self._course.settle(connection, proposal, at)

    async def WithdrawProposal(self, request: pb.WithdrawProposalRequest, context: Context) -> pb.Proposal:
        async with self._database.begin() as connection:
            at = now()
            proposal, speaker = await self._decide(connection, request.name, at)
            require_author_or_steward(proposal, speaker, "take back")
            domain.proposals.require_revision(proposal, request.revision)
            if proposal.state == pb.PROPOSAL_STATE_WITHDRAWN:
                return proposal
            if proposal.state not in domain.proposals.NOT_OPENED:
                raise domain.proposals.wrong_state("PROPOSAL_OVER", proposal, "cannot be taken back any more")
            proposal.state = pb.PROPOSAL_STATE_WITHDRAWN
            await self._course.moved(connection, proposal, at)
            return proposal

    async def CommentOnProposal(self, request: pb.CommentOnProposalRequest, context: Context) -> pb.Comment:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Comment):
                return earlier
            at = now()
            proposal, speaker = await self._decide(connection, request.name, at)
            if proposal.state >= pb.PROPOSAL_STATE_ENACTED:
                raise domain.proposals.wrong_state("PROPOSAL_OVER", proposal, "is no longer debated")
            comment = await store.proposals.insert_comment(
                connection, last(proposal.name), speaker.author, request.text, at
            )
            return await remember(connection, caller().organization, request, comment)

    async def ListComments(self, request: pb.ListCommentsRequest, context: Context) -> pb.ListCommentsResponse:
        name, size = f"{request.parent}/comments", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, int)
        after = position[0] if position else 0
        assert isinstance(after, int)
        async with self._database.read() as connection:
            await self._visible(connection, request.parent)
            rows = await store.proposals.comments(connection, last(request.parent), after, size + 1)
        shown, token = paging.page(name, rows, size, lambda row: (row.number,))
        return pb.ListCommentsResponse(comments=shown, next_page_token=token)

    async def DeclareInterest(self, request: pb.DeclareInterestRequest, context: Context) -> pb.Proposal:
        async with self._database.begin() as connection:
            at = now()
            proposal, speaker = await self._decide(connection, request.name, at)
            if proposal.state not in domain.proposals.NOT_OPENED:
                raise domain.proposals.wrong_state(
                    "INTEREST_TOO_LATE",
                    proposal,
                    "takes no interests any more; they are declared before the vote opens",
                )
            await store.proposals.declare_interest(connection, last(proposal.name), speaker.holder, request.statement)
            whole = await store.proposals.proposal(connection, proposal.name)
            assert whole is not None
            return self._shown(whole)

    async def GetProposal(self, request: pb.GetProposalRequest, context: Context) -> pb.Proposal:
        async with self._database.read() as connection:
            proposal = await self._visible(connection, request.name)
        if domain.proposals.overdue(proposal, now()):
            async with self._database.begin() as connection:
                proposal = await self._locked(connection, request.name, now())
        return self._shown(proposal)

    async def ListProposals(self, request: pb.ListProposalsRequest, context: Context) -> pb.ListProposalsResponse:
        id, size, principal = last(request.parent), paging.size(request.page_size), optional_caller()
        visible, who = store.proposals.public(), "public"
        if principal is not None and (principal.is_operator or principal.organization == id):
            if principal.is_operator or identity_pb2.ROLE_STEWARD in principal.roles:
                visible, who = store.proposals.everything(), "stewards"
            elif principal.member:
                visible, who = store.proposals.members_see(principal.member), principal.member
        name = f"{request.parent}/proposals?{request.state}&{who}"
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            if await store.cooperatives.cooperative(connection, id) is None:
                raise not_found(request.parent)
            rows = await store.proposals.proposals(
                connection, id, str(position[0]) if position else None, size + 1, request.state, visible
            )
        shown, token = paging.page(name, rows, size, lambda row: (last(row.name),))
        return pb.ListProposalsResponse(proposals=[self._shown(one) for one in shown], next_page_token=token)

    # ---- what the RPCs of votes and of enactment share with these ----

    async def _visible(self, connection: AsyncConnection, name: str) -> pb.Proposal:
        """A proposal the caller may see; any other answers as if it did not exist."""
        proposal = await store.proposals.proposal(connection, name)
        if proposal is None or not domain.proposals.sees(optional_caller(), proposal, name.split("/")[1]):
            raise not_found(name)
        return proposal

    async def _locked(self, connection: AsyncConnection, name: str, at: dt.datetime) -> pb.Proposal:
        """A proposal the caller may see, locked, as it stands once everything due has happened."""
        proposal = await store.proposals.proposal(connection, name, lock=True)
        if proposal is None or not domain.proposals.sees(optional_caller(), proposal, name.split("/")[1]):
            raise not_found(name)
        return await self._course.settle(connection, proposal, at)

    async def _decide(self, connection: AsyncConnection, name: str, at: dt.datetime) -> tuple[pb.Proposal, Voice]:
        """A proposal, locked and up to date, and who speaks. Refuses with NOT_FOUND, NOT_A_MEMBER."""
        proposal = await self._locked(connection, name, at)
        return proposal, await voice(connection, name.split("/")[1])

    @staticmethod
    def _shown(proposal: pb.Proposal) -> pb.Proposal:
        return domain.proposals.shown_to(optional_caller(), proposal, proposal.name.split("/")[1])

    @staticmethod
    async def _cooperative(connection: AsyncConnection, proposal: pb.Proposal) -> governance.Cooperative:
        cooperative = await store.cooperatives.cooperative(connection, proposal.name.split("/")[1])
        assert cooperative is not None, "a proposal is a cooperative's"
        return cooperative

    @staticmethod
    async def _require_superseded(
        connection: AsyncConnection, cooperative: governance.Cooperative, request: pb.CreateProposalRequest
    ) -> None:
        if not request.supersedes:
            return
        found = None
        if request.supersedes.startswith(f"{cooperative.name}/proposals/") and request.supersedes.count("/") == 3:
            found = await store.proposals.proposal(connection, request.supersedes)
        if found is None or found.state not in (pb.PROPOSAL_STATE_ENACTED, pb.PROPOSAL_STATE_REVIEW_DUE):
            raise Refusal(
                "DELTA_ILL_FORMED",
                f"The proposal takes the place of {request.supersedes}, which is not in force.",
                Kind.INVALID,
                supersedes=request.supersedes,
            )


def require_author_or_steward(proposal: pb.Proposal, speaker: Voice, what: str) -> None:
    if speaker.steward or speaker.member == proposal.author:
        return
    raise Refusal(
        "ROLE_MISSING",
        f"Only its author or a steward can {what} {proposal.name}.",
        Kind.FORBIDDEN,
        name=proposal.name,
    )
