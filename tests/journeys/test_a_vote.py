"""docs/journeys/a-vote.md: a member's draft becomes a rule that every other part believes by its signature alone."""

from __future__ import annotations

import httpx
from assembly import found, quick_charter
from house import refused, request_id
from walk import ACADEMIC, MarketPeople, NotYet, Purchase, eventually

from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as membership
from rochdale.governance.v1 import proposals_pb2 as proposals
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.chain import flaw_of_signed_rule
from rochdale_kit.cooperative_keys import CooperativeKeys

NAME = "cooperatives/carders"


def asked(max_mode: scope.AccessMode.ValueType = scope.ACCESS_MODE_STREAM) -> scope.SharingScope:
    return scope.SharingScope(
        datasets=[scope.DatasetScope(dataset=f"{NAME}/datasets/wool", first_version=1, columns=["weight"])],
        categories=[ACADEMIC],
        purposes=["AcademicResearch"],
        actions=[scope.USE_ACTION_ANALYZE],
        max_mode=max_mode,
        floor_price=Money(amount_minor=0, currency="EUR"),
        territories=["WORLD"],
        max_duration_seconds=86_400,
    )


async def test_a_members_draft_becomes_a_rule(market: MarketPeople) -> None:
    # Eleven vote in secret, so that the numbers may be told.
    charter = quick_charter(secrecy=decisions.SECRECY_OPERATOR_TRUSTED, voting_seconds=60, sponsor_min=2)
    carders = await found(market, "carders", charter, voters=12)
    author, sponsor, conflicted = carders.voters[:3]
    draft = proposals.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked(scope.ACCESS_MODE_DOWNLOAD))

    submitted = await carders.draft([draft], by=author.person, beneficiaries=["mill.example"])
    assert submitted.state == proposals.PROPOSAL_STATE_SPONSORING and submitted.author == author.name
    sponsored = await carders.votes_desk.SponsorProposal(
        proposals.SponsorProposalRequest(name=submitted.name, revision=1), metadata=sponsor.metadata
    )
    assert sponsored.state == proposals.PROPOSAL_STATE_DELIBERATION
    assert (sponsored.decision_class, list(sponsored.class_reasons)) == (
        decisions.DECISION_CLASS_SENSITIVE,
        ["download"],
    )
    await carders.votes_desk.CommentOnProposal(
        proposals.CommentOnProposalRequest(request_id=request_id(), name=submitted.name, text="Only as a stream."),
        metadata=sponsor.metadata,
    )
    draft.scope.max_mode = scope.ACCESS_MODE_STREAM
    amended = await carders.votes_desk.AmendProposal(
        proposals.AmendProposalRequest(
            request_id=request_id(),
            name=submitted.name,
            revision=1,
            title="Let it be studied as a stream",
            body="As was said in the debate.",
            delta=proposals.PolicyDelta(rules=[draft]),
        ),
        metadata=author.metadata,
    )
    assert (amended.revision, amended.decision_class) == (2, decisions.DECISION_CLASS_ROUTINE)
    # One works for who would gain, and says so in her own file, not in this vote.
    await carders.members_desk.UpdateMember(
        membership.UpdateMemberRequest(name=conflicted.name, affiliations=["mill.example"]),
        metadata=conflicted.metadata,
    )

    frozen = await carders.freeze(amended)
    assert frozen.state == proposals.PROPOSAL_STATE_VOTING and frozen.roll.eligible_count == 11
    (late,) = await carders.join("late")
    carders.voters.remove(late)
    for left_out in (late, conflicted):
        async with refused("NOT_ON_ROLL"):
            await carders.vote(frozen, by=[left_out])
    voters = [voter for voter in carders.voters if voter is not conflicted]
    await carders.vote(frozen, proposals.BALLOT_CHOICE_NO, by=voters[:1])
    board = await carders.votes_desk.ListBoard(proposals.ListBoardRequest(parent=frozen.name))
    assert [line.choice for line in board.entries] == [proposals.BALLOT_CHOICE_UNSPECIFIED]
    receipts = await carders.vote(frozen, proposals.BALLOT_CHOICE_NO, by=voters[:3])
    receipts += await carders.vote(frozen, by=voters[3:])

    passed = await carders.until(frozen.name, proposals.PROPOSAL_STATE_AWAITING_SIGNATURE)
    tally = passed.tally
    assert (tally.yes_count, tally.no_count, tally.abstain_count) == (8, 3, 0)
    assert tally.passed and tally.eligible_count == 11 and tally.excluded_count == 1
    board = await carders.votes_desk.ListBoard(proposals.ListBoardRequest(parent=frozen.name))
    lines = {line.entry_hash: line.choice for line in board.entries}
    assert all(lines[receipt.entry_hash] == receipt.choice for receipt in receipts)
    assert not any(voter.name in str(board) for voter in voters)

    (rule,) = await carders.enact(frozen.name)
    assert (rule.proposal, rule.tally_hash) == (frozen.name, tally.tally_hash)
    cooperative = await carders.cooperatives_desk.GetCooperative(governance.GetCooperativeRequest(name=NAME))
    assert flaw_of_signed_rule(rule, CooperativeKeys.follow(NAME, cooperative.signing_keys)) is None

    # The catalog heard of it and believes it: an offering may stand on it.
    await eventually(lambda: market.gateway("carders"))
    version = await market.add_dataset(carders.steward, "wool", b"weight,color\n1,red\n2,blue\n")
    request = carders.signed(
        catalog.PublishOfferingRequest(
            request_id=request_id(),
            parent=NAME,
            title="Wool",
            scope=rule.scope,
            tiers=[catalog.OfferingTier(categories=[ACADEMIC], price=rule.scope.floor_price, sharing_rule=rule.name)],
        ),
        [rule],
    )
    assert version.number == 1

    async def publish() -> catalog.Offering:
        offering = await market.stub("catalog").PublishOffering(request, metadata=carders.steward.metadata)
        assert isinstance(offering, catalog.Offering)
        return offering

    assert (await eventually(publish)).state == catalog.OFFERING_STATE_OPEN
    inbox = await carders.members_desk.ListNotices(
        membership.ListNoticesRequest(parent=author.name), metadata=author.metadata
    )
    assert {membership.NOTICE_KIND_PROPOSAL, membership.NOTICE_KIND_DECISION} <= {one.kind for one in inbox.notices}


async def test_the_board_forbids_and_licenses_rest_until_it_lapses(market: MarketPeople) -> None:
    """An emergency suspends what is in its reach; nobody but time or members end it."""
    steward = await market.found("fullers")
    version = await market.add_dataset(steward, "felt", b"a,b\n" + b"1,2\n" * 20)
    offering = await market.offer(steward, version, {ACADEMIC: 0})
    lab = await market.licensee("fullers-lab", ACADEMIC)
    purchase = Purchase(lab, offering.name)
    token = await market.buy(purchase)
    forbidden = scope.SharingScope()
    forbidden.CopyFrom(offering.scope)
    rule = await market.stub("governance").ProposeSharingRule(
        governance.ProposeSharingRuleRequest(
            request_id=request_id(),
            parent="cooperatives/fullers",
            effect=governance.RULE_EFFECT_DENY,
            scope=forbidden,
            rationale="Something is wrong.",
        ),
        metadata=steward.metadata,
    )
    assert rule.state == governance.RULE_STATE_IN_FORCE and rule.emergency
    assert rule.expire_time.seconds - rule.effective_time.seconds == 30 * 86_400

    async def suspended() -> None:
        license = await market.stub("licensing").GetLicense(
            licensing.GetLicenseRequest(name=purchase.license), metadata=lab.metadata
        )
        if license.state != licensing.LICENSE_STATE_SUSPENDED:
            raise NotYet(license.state)
        assert license.suspended_by == rule.name

    await eventually(suspended)

    async def refused_at_the_door() -> None:
        async with httpx.AsyncClient() as client:
            answer = await client.get(
                f"{token.gateway_url}/v1/{purchase.license}/files", headers={"Authorization": f"Bearer {token.token}"}
            )
        if answer.status_code == 200:
            raise NotYet("still open")
        assert answer.json()["errorCode"] in ("RULE_DENIES", "GRANT_REVOKED"), answer.text

    await eventually(refused_at_the_door)
