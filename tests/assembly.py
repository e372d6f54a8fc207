"""Members who decide, through the real RPCs: a cooperative with a signing key and members' own keys, and the way to a rule."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from authority import Authority
from google.protobuf.timestamp_pb2 import Timestamp
from house import People, Person, new_secret, request_id

from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import events_pb2 as events
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import governance_pb2_grpc, membership_pb2_grpc, proposals_pb2_grpc
from rochdale.governance.v1 import membership_pb2 as membership
from rochdale.governance.v1 import proposals_pb2 as proposals
from rochdale.identity.v1 import identity_pb2
from rochdale.type.v1 import scope_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale.type.v1.signature_pb2 import Signature
from rochdale_kit.chain import hash_of_dividend_policy, hash_of_offering, hash_of_rule, hash_of_rule_end
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.refusals import Kind, refusal_of
from rochdale_kit.signing import (
    DIVIDEND_POLICY_PREFIX,
    OFFERING_PREFIX,
    RULE_END_PREFIX,
    RULE_PREFIX,
    SigningKey,
    sign_hash,
)

T = TypeVar("T")

CLASSES = (
    decisions.DECISION_CLASS_ROUTINE,
    decisions.DECISION_CLASS_SENSITIVE,
    decisions.DECISION_CLASS_CONSTITUTIONAL,
)


def quick_charter(**changed: Any) -> governance.Charter:
    """No notice, no dissent window, and a vote that ends when all have voted; anything may be changed for every class."""
    return governance.Charter(
        required_approvals=1,
        decision_rules=[
            decisions.DecisionRule(
                **{
                    "decision_class": decision_class,
                    "quorum": decisions.Ratio(numerator=1, denominator=2),
                    # A member without a key of their own is no obstacle to those who have one.
                    "quorum_base": decisions.QUORUM_BASE_ACTIVE,
                    "threshold": decisions.Ratio(numerator=2, denominator=3),
                    "inclusive": True,
                    "min_yes": 1,
                    "voting_seconds": 1,
                    "secrecy": decisions.SECRECY_ROLL_CALL,
                    "sponsor_min": 1,
                    "close_when_all_voted": True,
                    **changed,
                }
            )
            for decision_class in CLASSES
        ],
    )


def asked(cooperative: str) -> scope_pb2.SharingScope:
    """Something small to decide on: a ROUTINE rule about the cooperative's (bare id) wool."""
    return scope_pb2.SharingScope(
        datasets=[
            scope_pb2.DatasetScope(
                dataset=f"cooperatives/{cooperative}/datasets/wool", first_version=1, columns=["weight"]
            )
        ],
        categories=[scope_pb2.BUYER_CATEGORY_ACADEMIC],
        purposes=["AcademicResearch"],
        actions=[scope_pb2.USE_ACTION_ANALYZE],
        max_mode=scope_pb2.ACCESS_MODE_STREAM,
        floor_price=Money(amount_minor=0, currency="EUR"),
        territories=["WORLD"],
        max_duration_seconds=86_400,
    )


@dataclass(frozen=True)
class Member:
    """A member with a key of their own. name: resource name."""

    name: str
    person: Person

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return self.person.metadata


@dataclass
class Assembly:
    """One cooperative, its steward, its signing key, and the members who vote."""

    people: People
    steward: Person
    authority: Authority
    voters: list[Member] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.authority.name

    @property
    def cooperatives_desk(self) -> Any:
        return governance_pb2_grpc.GovernanceServiceStub(self.people.channel("governance"))

    @property
    def members_desk(self) -> Any:
        return membership_pb2_grpc.MembershipServiceStub(self.people.channel("governance"))

    @property
    def votes_desk(self) -> Any:
        return proposals_pb2_grpc.ProposalServiceStub(self.people.channel("governance"))

    # ---- members ----

    async def join(self, *references: str, email: str = "") -> list[Member]:
        """Each reference accepts an invitation and gets a key of their own; they vote from now on."""
        codes = {reference: secrets.token_hex(16) for reference in references}
        await self.members_desk.InviteMembers(
            membership.InviteMembersRequest(
                request_id=request_id(),
                parent=self.name,
                invitations=[
                    membership.Invitation(
                        reference=reference, code_hash=hashlib.sha256(code.encode()).digest(), email=email
                    )
                    for reference, code in codes.items()
                ],
            ),
            metadata=self.steward.metadata,
        )
        joined = list(await asyncio.gather(*(self._accept(code) for code in codes.values())))
        self.voters.extend(joined)
        return joined

    async def _accept(self, code: str) -> Member:
        secret = new_secret()
        member = await self.members_desk.AcceptInvitation(
            membership.AcceptInvitationRequest(
                parent=self.name, code=code, key_hash=hashlib.sha256(secret.encode()).digest()
            )
        )
        return Member(member.name, await self.sign_in(secret))

    async def sign_in(self, secret: str) -> Person:
        """A session of a member's key, once identity has heard of it."""
        return await patiently(lambda: self.people.session(self.authority.cooperative, secret), "KEY_INVALID")

    async def appoint(self, member: Member) -> Member:
        """The member as a steward, signed in anew once identity has heard of it."""
        await self.members_desk.SetSteward(
            membership.SetStewardRequest(name=member.name, steward=True), metadata=self.steward.metadata
        )
        secret, deadline = member.person.secret, time.monotonic() + 20
        while True:
            session = await self.people.identity.IssueSession(identity_pb2.IssueSessionRequest(secret=secret))
            if identity_pb2.ROLE_STEWARD in session.roles:
                return Member(member.name, await self.sign_in(secret))
            assert time.monotonic() < deadline, "identity has not heard of the appointment"
            await asyncio.sleep(0.02)

    # ---- decisions ----

    async def draft(
        self, drafts: Sequence[proposals.RuleDraft] = (), *, by: Person | None = None, **more: Any
    ) -> proposals.Proposal:
        """A proposal of these rules, debated."""
        author = by or self.steward
        delta = more.pop("delta", None) or proposals.PolicyDelta(rules=drafts)
        drafted = await self.votes_desk.CreateProposal(
            proposals.CreateProposalRequest(
                request_id=request_id(),
                parent=self.name,
                title=more.pop("title", "Let it be studied"),
                body=more.pop("body", "We want it studied."),
                delta=delta,
                **more,
            ),
            metadata=author.metadata,
        )
        submitted = await self.votes_desk.SubmitProposal(
            proposals.SubmitProposalRequest(name=drafted.name, revision=drafted.revision), metadata=author.metadata
        )
        assert isinstance(submitted, proposals.Proposal)
        return submitted

    async def freeze(self, proposal: proposals.Proposal) -> proposals.Proposal:
        """Frozen, and with a charter without notice open for votes."""
        frozen = await self.votes_desk.FreezeProposal(
            proposals.FreezeProposalRequest(name=proposal.name, revision=proposal.revision),
            metadata=self.steward.metadata,
        )
        assert isinstance(frozen, proposals.Proposal)
        return frozen

    async def vote(
        self,
        proposal: proposals.Proposal,
        choice: proposals.BallotChoice.ValueType = proposals.BALLOT_CHOICE_YES,
        *,
        by: Sequence[Member] | None = None,
    ) -> list[proposals.BallotReceipt]:
        """Everybody, or these, vote the same."""
        request = proposals.CastBallotRequest(name=proposal.name, frozen_hash=proposal.frozen_hash, choice=choice)
        return list(
            await asyncio.gather(
                *(
                    self.votes_desk.CastBallot(request, metadata=member.metadata)
                    for member in (self.voters if by is None else by)
                )
            )
        )

    async def show(self, name: str) -> proposals.Proposal:
        found = await self.votes_desk.GetProposal(
            proposals.GetProposalRequest(name=name), metadata=self.steward.metadata
        )
        assert isinstance(found, proposals.Proposal)
        return found

    async def until(self, name: str, *states: proposals.ProposalState.ValueType) -> proposals.Proposal:
        """The proposal once it is in one of these states."""
        deadline = time.monotonic() + 20
        while (found := await self.show(name)).state not in states:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)
        return found

    def rule_of(
        self, draft: proposals.RuleDraft, proposal: proposals.Proposal, effective: Any
    ) -> governance.SharingRule:
        """The rule a draft becomes, as whoever signs it computes it from the proposal alone."""
        rule = governance.SharingRule(
            name=draft.sharing_rule,
            revision=1,
            effect=draft.effect,
            scope=draft.scope,
            effective_time=effective,
            proposal=proposal.name,
            tally_hash=proposal.tally.tally_hash,
            member_recall=draft.member_recall,
        )
        rule.expire_time.seconds = effective.seconds + draft.life_seconds
        rule.expire_time.nanos = effective.nanos
        return rule

    async def enactment(self, name: str) -> proposals.EnactProposalRequest:
        """The request by which a passed proposal is enacted, signed with the cooperative's key."""
        proposal = await self.until(name, proposals.PROPOSAL_STATE_AWAITING_SIGNATURE)
        at = to_timestamp(now())
        key, ends = self.authority.key, []
        for rule_name in proposal.delta.end_rules:
            rule = await self.cooperatives_desk.GetSharingRule(governance.GetSharingRuleRequest(name=rule_name))
            rule.end_time.CopyFrom(at)
            ends.append(sign_hash(key, RULE_END_PREFIX, hash_of_rule_end(rule)))
        return proposals.EnactProposalRequest(
            request_id=request_id(),
            name=name,
            effective_time=at,
            rule_signatures=[
                sign_hash(key, RULE_PREFIX, hash_of_rule(self.rule_of(draft, proposal, at)))
                for draft in proposal.delta.rules
            ],
            end_signatures=ends,
            dividend_policy_signature=self.policy_signature(proposal, at)
            if proposal.delta.HasField("dividend_policy")
            else None,
        )

    def policy_signature(self, proposal: proposals.Proposal, at: Timestamp) -> Signature:
        """Of a dividend policy that members voted on."""
        enacted = events.DividendPolicyEnacted(
            cooperative=self.name,
            policy=proposal.delta.dividend_policy,
            proposal=proposal.name,
            tally_hash=proposal.tally.tally_hash,
            effective_time=at,
        )
        return sign_hash(self.authority.key, DIVIDEND_POLICY_PREFIX, hash_of_dividend_policy(enacted))

    async def enact(self, name: str) -> list[governance.SharingRule]:
        """Brings a passed proposal into force."""
        reply = await self.votes_desk.EnactProposal(await self.enactment(name), metadata=self.steward.metadata)
        return list(reply.sharing_rules)

    async def decide(
        self, *scopes: scope_pb2.SharingScope, member_recall: bool = False, **more: Any
    ) -> list[governance.SharingRule]:
        """The whole way: rules that allow these scopes, drafted, frozen, voted by everybody and enacted."""
        drafts = [
            proposals.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=scope, member_recall=member_recall)
            for scope in scopes
        ]
        return await self.pass_through(await self.draft(drafts, **more))

    async def forbid(self, scope: scope_pb2.SharingScope) -> governance.SharingRule:
        """The same for a prohibition by the members."""
        drafts = [proposals.RuleDraft(effect=governance.RULE_EFFECT_DENY, scope=scope)]
        return (await self.pass_through(await self.draft(drafts)))[0]

    async def pass_through(self, proposal: proposals.Proposal) -> list[governance.SharingRule]:
        """From the debate to the enactment."""
        frozen = await self.freeze(proposal)
        await self.vote(frozen)
        return await self.enact(frozen.name)

    async def narrow(
        self, rule: governance.SharingRule, scope: scope_pb2.SharingScope | None
    ) -> governance.SharingRule:
        """The board narrows a rule, or ends it, in force at once."""
        at, key = to_timestamp(now()), self.authority.key
        over = governance.SharingRule()
        over.CopyFrom(rule)
        over.end_time.CopyFrom(at)
        request = governance.NarrowSharingRuleRequest(
            request_id=request_id(),
            name=rule.name,
            revision=rule.revision,
            scope=scope,
            effective_time=at,
            end_signature=sign_hash(key, RULE_END_PREFIX, hash_of_rule_end(over)),
        )
        if scope is not None:
            following = governance.SharingRule()
            following.CopyFrom(rule)
            following.revision += 1
            following.scope.CopyFrom(scope)
            following.effective_time.CopyFrom(at)
            request.signature.CopyFrom(sign_hash(key, RULE_PREFIX, hash_of_rule(following)))
        narrowed = await self.cooperatives_desk.NarrowSharingRule(request, metadata=self.steward.metadata)
        assert isinstance(narrowed, governance.SharingRule)
        return narrowed

    def signed(self, request: Any, rules: Sequence[governance.SharingRule]) -> Any:
        """A PublishOfferingRequest with the id and the signature a steward's program gives it. rules: one a tier."""
        signed = catalog_pb2.PublishOfferingRequest()
        signed.CopyFrom(request)
        signed.offering_id = new_id("off")
        offering = catalog_pb2.Offering(
            name=f"{self.name}/offerings/{signed.offering_id}",
            scope=signed.scope,
            tiers=signed.tiers,
            rule_hashes=[rule.rule_hash for rule in rules],
        )
        offering.scope.categories[:] = sorted({one for tier in signed.tiers for one in tier.categories})
        offering.scope.floor_price.CopyFrom(
            min((tier.price for tier in signed.tiers), key=lambda one: one.amount_minor)
        )
        signed.signature.CopyFrom(sign_hash(self.authority.key, OFFERING_PREFIX, hash_of_offering(offering)))
        return signed


async def found(people: People, id: str, charter: governance.Charter | None = None, voters: int = 1) -> Assembly:
    """A verified cooperative with a signing key and so many members who vote."""
    steward = await people.steward(id)
    assembly = Assembly(people, steward, Authority(id, SigningKey.generate()))
    await assembly.cooperatives_desk.CreateCooperative(
        governance.CreateCooperativeRequest(
            request_id=request_id(),
            display_name=id.title(),
            charter=charter or quick_charter(),
            signing_key=introduce(assembly.name, assembly.authority.key, now()),
        ),
        metadata=steward.metadata,
    )
    if voters:
        await assembly.join(*(f"voter-{number}" for number in range(1, voters + 1)))
    return assembly


async def patiently(step: Callable[[], Awaitable[T]], *reasons: str, seconds: float = 20) -> T:
    """Repeats a step while it is refused for one of these reasons, or because somebody is unavailable."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await step()
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            if refusal.reason not in reasons and refusal.kind is not Kind.UNAVAILABLE:
                raise
            assert time.monotonic() < deadline, refusal
        await asyncio.sleep(0.02)
