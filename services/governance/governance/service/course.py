"""A proposal's course: what time, sponsors and voters bring about, done to the database step by step.

Which step comes next is domain.proposals.advance; here each is carried out, announced and told to members.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os

from sqlalchemy.ext.asyncio import AsyncConnection

from governance import domain, store
from governance.domain.ballots import delegated, entry, nullifier, standing
from governance.domain.proposals import Facts, Step
from governance.domain.roll import Leaf
from governance.sealing import Sealer
from governance.store.votes import Vote
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import events_pb2, membership_pb2
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.clock import from_timestamp, new_id, now, to_timestamp
from rochdale_kit.database import LOST, Database, is_lost
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.outbox import announce

log = logging.getLogger(__name__)

LOOP_SECONDS = 0.5
BATCH = 50
ABOUT_PROPOSAL = membership_pb2.NOTICE_KIND_PROPOSAL
ABOUT_DECISION = membership_pb2.NOTICE_KIND_DECISION


class Course:
    """Moves proposals on, and lets rules expire."""

    def __init__(self, database: Database, keys: LiveKeyring, sealer: Sealer) -> None:
        self._database = database
        self._keys = keys
        self._sealer = sealer

    async def run(self) -> None:
        """Looks twice a second for what is due, until canceled. A database that is away is waited out."""
        while True:
            try:
                if not await self.pass_over(now()):
                    await asyncio.sleep(LOOP_SECONDS)
            except LOST as error:
                if not is_lost(error):
                    raise
                log.warning("proposals wait: %s", error)
                await asyncio.sleep(LOOP_SECONDS)

    async def pass_over(self, at: dt.datetime) -> int:
        """Does what is due at that time; how much that was."""
        async with self._database.read() as connection:
            expired = await store.rules.expired_rules(connection, at, BATCH)
        for rule in expired:
            await self._expire(rule, at)
        async with self._database.read() as connection:
            due = await store.proposals.due(connection, at, BATCH)
        for name in due:
            async with self._database.begin() as connection:
                proposal = await store.proposals.proposal(connection, name, lock=True)
                assert proposal is not None, "proposals are never deleted"
                await self.settle(connection, proposal, at)
        return len(expired) + len(due)

    async def _expire(self, rule: governance.SharingRule, at: dt.datetime) -> None:
        _, cooperative_id, _, id = rule.name.split("/")
        async with self._database.begin() as connection:
            # Whoever narrows or ends a rule locks its cooperative first, and so does its own end.
            await store.cooperatives.cooperative(connection, cooperative_id, lock=True)
            found = await store.rules.rule(connection, cooperative_id, id)
            if found is None or found.state != governance.RULE_STATE_IN_FORCE or found.revision != rule.revision:
                return
            over, _hash = domain.delta.ended(found, from_timestamp(found.expire_time))
            await store.rules.update_rule(connection, over)
            await announce(connection, events_pb2.RuleNarrowed(sharing_rule=over))
            if over.proposal:
                await store.proposals.wake(connection, [over.proposal.rsplit("/", 1)[1]], at)

    async def settle(self, connection: AsyncConnection, proposal: pb.Proposal, at: dt.datetime) -> pb.Proposal:
        """Takes every step that is due; the proposal as it stands then. The caller holds the proposal's lock."""
        while True:
            facts = await self._facts(connection, proposal)
            step = domain.proposals.advance(proposal, at, facts)
            if step is None:
                # What is due and does not move waits for nothing that time brings.
                due = domain.proposals.due_time(proposal, facts)
                await store.proposals.update_proposal(connection, proposal, due if due and due > at else None)
                return proposal
            proposal = await self._take(connection, proposal, step, at)

    async def _facts(self, connection: AsyncConnection, proposal: pb.Proposal) -> Facts:
        id = proposal.name.rsplit("/", 1)[1]
        if proposal.state == pb.PROPOSAL_STATE_SPONSORING:
            until, _ = await store.proposals.clocks(connection, id)
            return Facts(sponsor_until=until, sponsored=await store.proposals.steward_sponsors(connection, id))
        if proposal.state == pb.PROPOSAL_STATE_VOTING:
            vote = await store.votes.vote(connection, id, lock=True)
            assert vote is not None, "a vote that is open has its row"
            everybody = 0 < vote.eligible_count <= vote.turnout_count
            return Facts(close_time=vote.close_time, all_voted=everybody)
        if proposal.state in (pb.PROPOSAL_STATE_ENACTED, pb.PROPOSAL_STATE_REVIEW_DUE):
            rules = await store.rules.rules_of_proposal(connection, proposal.name)
            live = [rule for rule in rules if rule.state == governance.RULE_STATE_IN_FORCE]
            lapsed = [rule for rule in rules if rule.HasField("end_time") and rule.end_time == rule.expire_time]
            _, review = await store.proposals.clocks(connection, id)
            return Facts(review_time=review, live_rules=len(live), lapsed_rules=len(lapsed))
        return Facts()

    async def _take(
        self, connection: AsyncConnection, proposal: pb.Proposal, step: Step, at: dt.datetime
    ) -> pb.Proposal:
        if step is Step.OPEN:
            await self._open(connection, proposal, at)
        elif step is Step.CLOSE:
            await self._close(connection, proposal, at)
        else:
            proposal.state = {
                Step.ADMIT: pb.PROPOSAL_STATE_DELIBERATION,
                Step.DISMISS: pb.PROPOSAL_STATE_NOT_ADMITTED,
                Step.END_DISSENT: pb.PROPOSAL_STATE_AWAITING_SIGNATURE,
                Step.REVIEW: pb.PROPOSAL_STATE_REVIEW_DUE,
                Step.EXPIRE: pb.PROPOSAL_STATE_EXPIRED,
                Step.GIVE_WAY: pb.PROPOSAL_STATE_SUPERSEDED,
            }[step]
        if step is Step.REVIEW:
            await self._draft_renewal(connection, proposal, at)
        await self.moved(connection, proposal, at)
        return proposal

    async def moved(self, connection: AsyncConnection, proposal: pb.Proposal, at: dt.datetime) -> None:
        """Saves, announces and tells members a state just reached; settle() says later when it is due again."""
        await store.proposals.update_proposal(connection, proposal, None)
        await announce(connection, events_pb2.ProposalMoved(proposal=domain.proposals.told(proposal)), at)
        if (news := domain.words.news(proposal)) is not None:
            kind = ABOUT_PROPOSAL if proposal.state in domain.words.BEFORE_THE_COUNT else ABOUT_DECISION
            await store.notices.tell(
                connection, proposal.name.split("/")[1], kind, news.subject, news.text, proposal.name, at
            )

    async def _open(self, connection: AsyncConnection, proposal: pb.Proposal, at: dt.datetime) -> None:
        """Takes the roll and opens the vote; a text that is no longer the frozen one is not voted on."""
        if not domain.proposals.intact(proposal, self._keys.keys):
            proposal.state = pb.PROPOSAL_STATE_ANNULLED
            return
        _, cooperative_id, _, id = proposal.name.split("/")
        rule = proposal.decision_rule
        voters = await store.members.voters(
            connection,
            cooperative_id,
            at - dt.timedelta(seconds=rule.min_membership_seconds),
            at - dt.timedelta(days=rule.active_days or domain.charter.ACTIVE_DAYS),
        )
        # What concerns no dataset, a charter or how surplus is divided, concerns everybody.
        if rule.contributors_only and (
            datasets := domain.delta.datasets(proposal.delta, await self.ends(connection, proposal))
        ):
            contributors = await store.contributions.contributors(connection, datasets)
            voters = [voter for voter in voters if voter.name in contributors]
        declared = {interest.holder for interest in proposal.interests if interest.declared}
        found = [
            (voter.name, matched)
            for voter in voters
            if voter.name not in declared
            and (matched := domain.interests.matched(voter.affiliations, proposal.beneficiaries))
        ]
        excluded = declared | {name for name, _ in found}
        await store.proposals.replace_found_interests(connection, id, found)
        leaves = [Leaf(voter.name, os.urandom(16), voter.active) for voter in voters if voter.name not in excluded]
        active_only = rule.quorum_base == decisions.QUORUM_BASE_ACTIVE
        # Only those left out who would have been on it.
        left_out = len(voters) - len(leaves)
        proposal.roll.CopyFrom(domain.roll.take(leaves, left_out, active_only, at))
        proposal.state = pb.PROPOSAL_STATE_VOTING
        proposal.open_time.FromDatetime(at)
        close = at + dt.timedelta(seconds=rule.voting_seconds)
        proposal.close_time.FromDatetime(close)
        earlier = await store.votes.vote(connection, id, lock=True)
        secret = rule.secrecy != decisions.SECRECY_ROLL_CALL
        vote = Vote(
            proposal_id=id,
            open=True,
            frozen_hash=proposal.frozen_hash,
            secrecy=rule.secrecy,
            sealed_key=self._sealer.seal(os.urandom(32), proposal.frozen_hash) if secret else None,
            open_time=at,
            close_time=close,
            voting_seconds=rule.voting_seconds,
            extension_seconds=rule.late_quorum_extension_seconds,
            extended=False,
            eligible_count=len(leaves),
            quorum_count=domain.tally.quorum_count(rule, proposal.roll.quorum_base_count),
            turnout_count=0,
            board_length=earlier.board_length if earlier else 0,
            board_head=earlier.board_head if earlier else "",
        )
        await store.votes.open_vote(connection, vote, leaves)
        del proposal.interests[:]
        whole = await store.proposals.proposal(connection, proposal.name)
        assert whole is not None
        proposal.interests.extend(whole.interests)

    async def _close(self, connection: AsyncConnection, proposal: pb.Proposal, at: dt.datetime) -> None:
        """Adds what was delegated to the board, counts, signs, and destroys the key that links members to lines."""
        _, cooperative_id, _, id = proposal.name.split("/")
        vote = await store.votes.vote(connection, id, lock=True)
        assert vote is not None, "a vote that is open has its row"
        proposal.close_time.FromDatetime(at)
        rule, length, head = proposal.decision_rule, vote.board_length, vote.board_head
        if not domain.proposals.intact(proposal, self._keys.keys) or vote.frozen_hash != proposal.frozen_hash:
            proposal.state = pb.PROPOSAL_STATE_ANNULLED
        else:
            key = self._sealer.open(vote.sealed_key, vote.frozen_hash) if vote.sealed_key else b""
            lines = await store.votes.standing(connection, id, vote.frozen_hash)
            by_name = standing(lines, vote.frozen_hash)
            roll = await store.votes.voters(connection, id)
            names = {member: nullifier(vote.secrecy, key, member) for member in roll}
            in_person = {member: by_name[name].choice for member, name in names.items() if name in by_name}
            added = []
            if rule.delegation and proposal.decision_class != decisions.DECISION_CLASS_CONSTITUTIONAL:
                entrusted = await store.votes.entrusted(connection, cooperative_id, proposal.decision_class)
                cap = rule.delegation_cap or domain.charter.DELEGATION_CAP
                for member, delegate, choice in delegated(entrusted, roll, in_person, cap):
                    line = entry(
                        length + 1, head, names[member], vote.frozen_hash, choice, os.urandom(16), names[delegate]
                    )
                    added.append(line)
                    length, head = line.sequence, line.entry_hash
                await store.votes.insert_lines(connection, id, added)
            # Only now, and all at once: a time beside each ballot would tell which line is whose.
            await store.members.touch_all(connection, list(in_person), at)
            proposal.tally.CopyFrom(
                domain.tally.tally(
                    proposal,
                    [*in_person.values(), *(line.choice for line in added)],
                    extended=vote.extended,
                    board_head=head,
                    board_length=length,
                    now=at,
                    key=self._keys.current,
                )
            )
            proposal.state = domain.proposals.outcome(proposal.tally)
            if proposal.state == pb.PROPOSAL_STATE_DISSENT_WINDOW:
                proposal.dissent_end_time.FromDatetime(at + dt.timedelta(seconds=rule.dissent_seconds))
        await store.votes.update_vote(
            connection, id, open=False, sealed_key=None, board_length=length, board_head=head, close_time=at
        )

    async def ends(self, connection: AsyncConnection, proposal: pb.Proposal) -> dict[str, governance.SharingRule]:
        """The rules a proposal would end, by name."""
        return await store.rules.rules_named(connection, proposal.name.split("/")[1], list(proposal.delta.end_rules))

    async def _draft_renewal(self, connection: AsyncConnection, ending: pb.Proposal, at: dt.datetime) -> None:
        """A proposal to go on with what ends, for members to take up or let lapse."""
        cooperative_id = ending.name.split("/")[1]
        cooperative = await store.cooperatives.cooperative(connection, cooperative_id)
        assert cooperative is not None
        live = [
            rule
            for rule in await store.rules.rules_of_proposal(connection, ending.name)
            if rule.state == governance.RULE_STATE_IN_FORCE
        ]
        # In the order they were decided in, and as narrow as they are by now.
        scopes = {rule.name: rule.scope for rule in live}
        delta = pb.PolicyDelta(end_rules=[rule.name for rule in live])
        for draft in ending.delta.rules:
            if draft.sharing_rule in scopes:
                again = delta.rules.add()
                again.CopyFrom(draft)
                again.scope.CopyFrom(scopes[draft.sharing_rule])
                again.life_seconds = 0
        renewal = pb.Proposal(
            title=f"Renew: {ending.title}"[:200],
            body=f"What {ending.name} decided ends soon. Members decide whether it goes on.\n\n{ending.body}"[:20000],
            beneficiaries=ending.beneficiaries,
            supersedes=ending.name,
            author=cooperative.name,
        )
        await self.draft(connection, cooperative, renewal, delta, at, at + domain.proposals.SPONSORING)

    async def draft(
        self,
        connection: AsyncConnection,
        cooperative: governance.Cooperative,
        wish: pb.Proposal,
        delta: pb.PolicyDelta,
        at: dt.datetime,
        sponsor_until: dt.datetime | None = None,
    ) -> pb.Proposal:
        """Saves a new proposal: a draft, or at once looking for sponsors until that time. Refuses as domain.delta does.

        wish: title, body, author, beneficiaries, supersedes, mandate_request.
        """
        proposal = pb.Proposal()
        proposal.CopyFrom(wish)
        proposal.name = f"{cooperative.name}/proposals/{new_id('prop')}"
        proposal.revision = 1
        proposal.create_time.CopyFrom(to_timestamp(at))
        proposal.state = pb.PROPOSAL_STATE_SPONSORING if sponsor_until else pb.PROPOSAL_STATE_DRAFT
        await self.write(connection, cooperative, proposal, delta)
        await store.proposals.insert_proposal(connection, proposal, sponsor_until, sponsor_until)
        if sponsor_until is not None:
            await announce(connection, events_pb2.ProposalMoved(proposal=domain.proposals.told(proposal)), at)
        return proposal

    async def write(
        self,
        connection: AsyncConnection,
        cooperative: governance.Cooperative,
        proposal: pb.Proposal,
        delta: pb.PolicyDelta,
    ) -> None:
        """Puts a delta into a proposal, with everything that follows from it."""
        ends = await store.rules.rules_named(connection, cooperative.name.rsplit("/", 1)[1], list(delta.end_rules))
        ids = [new_id("rule") for _ in delta.rules]
        proposal.delta.CopyFrom(domain.delta.settled(delta, cooperative, ends, ids))
        self.classify(cooperative, proposal, ends)

    @staticmethod
    def classify(
        cooperative: governance.Cooperative, proposal: pb.Proposal, ends: dict[str, governance.SharingRule]
    ) -> None:
        """Says how far-reaching a proposal is under the charter as it is now, and what it takes."""
        proposal.decision_class, reasons = domain.charter.class_of(
            proposal.delta, list(ends.values()), cooperative.charter
        )
        proposal.class_reasons[:] = reasons
        proposal.decision_rule.CopyFrom(domain.charter.rule_for(cooperative.charter, proposal.decision_class))
