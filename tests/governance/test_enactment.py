"""From a passed vote to a rule in force: who may sign, what holds it up, and what a hand in the database achieves."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from assembly import Assembly, asked, found, quick_charter
from house import House, refused, request_id
from sqlalchemy.ext.asyncio import create_async_engine

from governance.sealing import Sealer
from governance.service.course import Course
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.database import Database
from rochdale_kit.keyring import LiveKeyring, read_sealing_key
from rochdale_kit.signing import SigningKey

AWAITING = pb.PROPOSAL_STATE_AWAITING_SIGNATURE


async def passed(house: House, id: str, *, voters: int = 2, **charter: object) -> tuple[Assembly, pb.Proposal]:
    assembly = await found(house, id, quick_charter(voting_seconds=60, **charter), voters=voters)
    draft = pb.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked(id))
    frozen = await assembly.freeze(await assembly.draft([draft]))
    await assembly.vote(frozen)
    return assembly, frozen


async def by_hand(house: House, sql: str, **values: object) -> None:
    """What somebody with the database's password does."""
    name = f"governance_{house.tag}"
    engine = create_async_engine(house.postgres.dsn(name, name, "test"))
    async with engine.begin() as connection:
        await connection.execute(sa.text(sql), values)
    await engine.dispose()


async def course_of(house: House) -> tuple[Course, Database]:
    """Governance's own clockwork over its database, to be asked what happens at another time."""
    name = f"governance_{house.tag}"
    database = Database(house.postgres.dsn(name, name, "test"))
    sealing = read_sealing_key(str(house.folder / "sealing.key"))
    keys = LiveKeyring(database, sealing, dt.timedelta(days=36_500))
    await keys.refresh()
    return Course(database, keys, Sealer(sealing)), database


async def test_a_text_edited_in_the_database_is_annulled_not_enacted(house: House) -> None:
    assembly, proposal = await passed(house, "forgers")
    request = await assembly.enactment(proposal.name)
    id = proposal.name.rsplit("/", 1)[1]
    wider = pb.PolicyDelta()
    wider.CopyFrom(proposal.delta)
    wider.rules[0].scope.floor_price.amount_minor = 0
    wider.rules[0].scope.categories.append(7)  # type: ignore[arg-type] # the largest platforms, whom nobody voted for
    await by_hand(house, "UPDATE proposal SET delta = :delta WHERE id = :id", delta=wider.SerializeToString(), id=id)
    async with refused("TEXT_MISMATCH"):
        await assembly.votes_desk.EnactProposal(request, metadata=assembly.steward.metadata)
    assert (await assembly.show(proposal.name)).state == pb.PROPOSAL_STATE_ANNULLED


async def test_a_tally_edited_in_the_database_enacts_nothing(house: House) -> None:
    assembly = await found(house, "losers", quick_charter(voting_seconds=60), voters=2)
    draft = pb.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked("losers"))
    frozen = await assembly.freeze(await assembly.draft([draft]))
    await assembly.vote(frozen, pb.BALLOT_CHOICE_NO)
    lost = await assembly.until(frozen.name, pb.PROPOSAL_STATE_REJECTED)
    lost.tally.passed, lost.tally.yes_count = True, 2
    await by_hand(
        house,
        "UPDATE proposal SET tally = :tally, state = 7, dissent_end_time = now() WHERE id = :id",
        tally=lost.tally.SerializeToString(),
        id=frozen.name.rsplit("/", 1)[1],
    )
    request = await assembly.enactment(frozen.name)
    async with refused("TEXT_MISMATCH"):
        await assembly.votes_desk.EnactProposal(request, metadata=assembly.steward.metadata)


async def test_nothing_is_enacted_by_another_key(house: House) -> None:
    assembly, proposal = await passed(house, "thieves")
    own = assembly.authority.key
    assembly.authority.key = SigningKey.generate()
    async with refused("SIGNATURE_INVALID"):
        await assembly.enact(proposal.name)
    assembly.authority.key = own
    assert (await assembly.enact(proposal.name))[0].proposal == proposal.name
    # A retry is another request; what is enacted stays enacted.
    later = await assembly.show(proposal.name)
    assert later.state == pb.PROPOSAL_STATE_ENACTED


async def test_a_conflicted_steward_neither_sponsors_nor_enacts(house: House) -> None:
    charter = quick_charter(voting_seconds=60, sponsor_min=2)
    assembly = await found(house, "conflict", charter, voters=3)
    steward = await assembly.appoint(assembly.voters[0])
    author = assembly.voters[1]
    draft = pb.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked("conflict"))
    proposal = await assembly.draft([draft], by=author.person)
    assert proposal.state == pb.PROPOSAL_STATE_SPONSORING
    await assembly.votes_desk.DeclareInterest(
        pb.DeclareInterestRequest(name=proposal.name, statement="My brother runs that company."),
        metadata=steward.metadata,
    )
    sponsor = pb.SponsorProposalRequest(name=proposal.name, revision=proposal.revision)
    async with refused("STEWARD_CONFLICTED"):
        await assembly.votes_desk.SponsorProposal(sponsor, metadata=steward.metadata)
    await assembly.votes_desk.SponsorProposal(sponsor, metadata=assembly.voters[2].metadata)
    frozen = await assembly.freeze(await assembly.show(proposal.name))
    assert frozen.roll.eligible_count == 2 and frozen.roll.excluded_count == 1
    await assembly.vote(frozen, by=assembly.voters[1:])
    request = await assembly.enactment(frozen.name)
    async with refused("STEWARD_CONFLICTED"):
        await assembly.votes_desk.EnactProposal(request, metadata=steward.metadata)
    await assembly.votes_desk.EnactProposal(request, metadata=assembly.steward.metadata)


async def test_an_open_challenge_holds_the_enactment_and_an_upheld_one_annuls(house: House) -> None:
    assembly, proposal = await passed(house, "doubters")
    await assembly.until(proposal.name, AWAITING)
    challenged = await assembly.votes_desk.ChallengeProposal(
        pb.ChallengeProposalRequest(
            request_id=request_id(),
            name=proposal.name,
            ground=pb.CHALLENGE_GROUND_PROCEDURE,
            statement="There was no notice.",
        ),
        metadata=assembly.voters[0].metadata,
    )
    async with refused("CHALLENGE_OPEN"):
        await assembly.enact(proposal.name)
    answer = pb.ResolveChallengeRequest(
        request_id=request_id(), name=proposal.name, number=1, upheld=True, answer="True."
    )
    async with refused("STEWARD_CONFLICTED"):
        # It was drafted in the cooperative's name, by a key without a member.
        await assembly.votes_desk.ResolveChallenge(answer, metadata=assembly.steward.metadata)
    judge = await assembly.appoint(assembly.voters[1])
    annulled = await assembly.votes_desk.ResolveChallenge(answer, metadata=judge.metadata)
    assert challenged.challenges[0].number == 1 and annulled.state == pb.PROPOSAL_STATE_ANNULLED


async def test_the_dissent_window_is_waited_out(house: House) -> None:
    assembly, proposal = await passed(house, "patient", dissent_seconds=3600)
    over = await assembly.until(proposal.name, pb.PROPOSAL_STATE_DISSENT_WINDOW)
    at = to_timestamp(now())
    request = pb.EnactProposalRequest(request_id=request_id(), name=proposal.name, effective_time=at)
    async with refused("PROPOSAL_NOT_PASSED"):
        await assembly.votes_desk.EnactProposal(request, metadata=assembly.steward.metadata)
    course, database = await course_of(house)
    await course.pass_over(over.dissent_end_time.ToDatetime(tzinfo=dt.UTC))
    assert (await assembly.show(proposal.name)).state == AWAITING
    await database.close()


async def test_an_emergency_of_the_board_lapses_after_thirty_days(house: House) -> None:
    assembly = await found(house, "alarm", voters=1)
    rule = await assembly.cooperatives_desk.ProposeSharingRule(
        governance.ProposeSharingRuleRequest(
            request_id=request_id(),
            parent=assembly.name,
            effect=governance.RULE_EFFECT_DENY,
            scope=asked("alarm"),
            rationale="Something is wrong.",
        ),
        metadata=assembly.steward.metadata,
    )
    assert rule.emergency and rule.state == governance.RULE_STATE_IN_FORCE
    begun = rule.effective_time.ToDatetime(tzinfo=dt.UTC)
    course, database = await course_of(house)
    get = governance.GetSharingRuleRequest(name=rule.name)
    await course.pass_over(begun + dt.timedelta(days=30, seconds=-1))
    assert (await assembly.cooperatives_desk.GetSharingRule(get)).state == governance.RULE_STATE_IN_FORCE
    await course.pass_over(begun + dt.timedelta(days=30))
    over = await assembly.cooperatives_desk.GetSharingRule(get)
    assert over.state == governance.RULE_STATE_ENDED and over.end_time == over.expire_time
    await database.close()
    async with refused("MEMBERS_DECIDE"):
        await assembly.cooperatives_desk.ProposeSharingRule(
            governance.ProposeSharingRuleRequest(
                request_id=request_id(),
                parent=assembly.name,
                effect=governance.RULE_EFFECT_ALLOW,
                scope=asked("alarm"),
                rationale="We would like to.",
            ),
            metadata=assembly.steward.metadata,
        )


async def test_rules_are_reviewed_and_end(house: House) -> None:
    assembly, proposal = await passed(house, "renewers")
    (rule,) = await assembly.enact(proposal.name)
    expire = rule.expire_time.ToDatetime(tzinfo=dt.UTC)
    course, database = await course_of(house)
    await course.pass_over(expire - dt.timedelta(days=59))
    assert (await assembly.show(proposal.name)).state == pb.PROPOSAL_STATE_REVIEW_DUE
    drafted = await assembly.votes_desk.ListProposals(
        pb.ListProposalsRequest(parent=assembly.name, state=pb.PROPOSAL_STATE_SPONSORING),
        metadata=assembly.steward.metadata,
    )
    (renewal,) = drafted.proposals
    assert renewal.supersedes == proposal.name and list(renewal.delta.end_rules) == [rule.name]
    await course.pass_over(expire)
    await course.pass_over(expire)
    assert (await assembly.show(proposal.name)).state == pb.PROPOSAL_STATE_EXPIRED
    await database.close()


async def test_a_key_is_rotated_and_only_the_latest_enacts(house: House) -> None:
    assembly, proposal = await passed(house, "rotators")
    old, new = assembly.authority.key, SigningKey.generate()
    await assembly.cooperatives_desk.AddCooperativeKey(
        governance.AddCooperativeKeyRequest(key=introduce(assembly.name, new, now(), old)),
        metadata=assembly.steward.metadata,
    )
    async with refused("SIGNATURE_INVALID"):
        await assembly.enact(proposal.name)
    assembly.authority.key = new
    await assembly.enact(proposal.name)
    async with refused("COOPERATIVE_KEY_INVALID"):
        # Introduced by a key that is no longer the latest.
        await assembly.cooperatives_desk.AddCooperativeKey(
            governance.AddCooperativeKeyRequest(key=introduce(assembly.name, SigningKey.generate(), now(), old)),
            metadata=assembly.steward.metadata,
        )


async def test_members_change_their_charter(house: House) -> None:
    assembly = await found(house, "reformers", quick_charter(voting_seconds=60), voters=2)
    stricter = quick_charter(voting_seconds=60, min_yes=2)
    proposal = await assembly.draft(delta=pb.PolicyDelta(charter=stricter))
    assert proposal.decision_class == decisions.DECISION_CLASS_CONSTITUTIONAL
    await assembly.pass_through(proposal)
    cooperative = await assembly.cooperatives_desk.GetCooperative(governance.GetCooperativeRequest(name=assembly.name))
    assert all(rule.min_yes == 2 for rule in cooperative.charter.decision_rules)
