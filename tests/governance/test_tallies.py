"""The golden tallies of tests/scenarios/tallies.yaml, each walked through the real RPCs; and what no scenario can say."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from assembly import Assembly, Member, asked, found, quick_charter
from house import House, refused, request_id
from sqlalchemy.ext.asyncio import create_async_engine

from governance.domain import ballots
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb

SCENARIOS = yaml.safe_load((Path(__file__).parents[1] / "scenarios" / "tallies.yaml").read_text())
PASSED = (pb.PROPOSAL_STATE_DISSENT_WINDOW, pb.PROPOSAL_STATE_AWAITING_SIGNATURE)
OVER = (*PASSED, pb.PROPOSAL_STATE_REJECTED, pb.PROPOSAL_STATE_QUORUM_FAILED, pb.PROPOSAL_STATE_ANNULLED)


def ratio(text: str) -> decisions.Ratio:
    above, below = text.split("/")
    return decisions.Ratio(numerator=int(above), denominator=int(below))


def charter_of(scenario: dict[str, Any]) -> governance.Charter:
    rule = {"threshold": "1/2", "inclusive": False, "quorum": "1/10", "min_yes": 1, **scenario.get("rule", {})}
    rule.pop("expect_refused", None)
    made = quick_charter(
        **{
            **rule,
            "threshold": ratio(rule["threshold"]),
            "quorum": ratio(rule["quorum"]),
            "quorum_base": decisions.QUORUM_BASE_ROLL,
            "voting_seconds": 1,
            "close_when_all_voted": False,
        }
    )
    # Never for the charter itself, whatever the scenario says of the rest.
    made.decision_rules[2].delegation = False
    if scenario.get("constitutional"):
        for one in made.decision_rules[:2]:
            one.delegation = True
    return made


async def delegate(assembly: Assembly, who: Member, to: Member) -> None:
    await assembly.votes_desk.SetDelegation(
        pb.SetDelegationRequest(parent=who.name, decision_class=decisions.DECISION_CLASS_ROUTINE, delegate=to.name),
        metadata=who.metadata,
    )


async def rows(house: House, sql: str, id: str) -> list[Any]:
    """The first column of what governance's own database answers."""
    engine = create_async_engine(house.postgres.dsn(f"governance_{house.tag}", f"governance_{house.tag}", "test"))
    try:
        async with engine.connect() as connection:
            return list((await connection.execute(sa.text(sql), {"id": id})).scalars())
    finally:
        await engine.dispose()


def choice(word: str) -> pb.BallotChoice.ValueType:
    return pb.BallotChoice.Value(f"BALLOT_CHOICE_{word.upper()}")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[one["name"] for one in SCENARIOS])
async def test_golden(house: House, scenario: dict[str, Any]) -> None:
    id = f"gold-{SCENARIOS.index(scenario)}"
    if reason := scenario.get("rule", {}).get("expect_refused"):
        async with refused(reason):
            await found(house, id, charter_of(scenario), voters=0)
        return
    assembly = await found(house, id, charter_of(scenario), voters=scenario["members"])
    members = assembly.voters
    for pair in scenario.get("delegations", []):
        who, to = map(int, pair.split())
        await delegate(assembly, members[who], members[to])
    if scenario.get("constitutional"):
        delta = pb.PolicyDelta(charter=charter_of(scenario))
    else:
        delta = pb.PolicyDelta(rules=[pb.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked(id))])
    proposal = await assembly.draft(delta=delta)
    for number in scenario.get("interested", []):
        await assembly.votes_desk.DeclareInterest(
            pb.DeclareInterestRequest(name=proposal.name, statement="I work for them."),
            metadata=members[number].metadata,
        )
    frozen = await assembly.freeze(proposal)
    assert frozen.state == pb.PROPOSAL_STATE_VOTING
    if scenario.get("late"):
        (late,) = await assembly.join("late")
        async with refused("NOT_ON_ROLL"):
            await assembly.vote(frozen, by=[late])
    for ballot in scenario["ballots"]:
        who, word = ballot.split()
        await assembly.vote(frozen, choice(word), by=[members[int(who)]])
    for ballot, reason in scenario.get("refused", {}).items():
        who, word = ballot.split()
        async with refused(reason):
            await assembly.vote(frozen, choice(word), by=[members[int(who)]])

    over = await assembly.until(frozen.name, *OVER)
    tally = over.tally
    expected = scenario["outcome"]
    if expected == "PASSED":
        assert over.state in PASSED and tally.passed
    else:
        assert over.state == pb.ProposalState.Value(f"PROPOSAL_STATE_{expected}") and not tally.passed
    assert {"yes": tally.yes_count, "no": tally.no_count, "abstain": tally.abstain_count} == scenario["counted"]
    assert tally.eligible_count == scenario.get("eligible", scenario["members"])
    assert tally.excluded_count == scenario.get("excluded", 0)
    if "quorum_met" in scenario:
        assert tally.quorum_met == scenario["quorum_met"]
    if members and scenario["ballots"]:
        async with refused("VOTE_NOT_OPEN"):
            await assembly.vote(frozen, by=members[:1])


def test_a_late_quorum_extends_once_and_only_by_those_who_vote_themselves() -> None:
    close = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)

    def after(seconds_before: int, before: int, now: int, extended: bool = False) -> tuple[int, bool]:
        later, extension = ballots.late_quorum(
            close - dt.timedelta(seconds=seconds_before), close, 1000, 500, extended, before=before, after=now, quorum=5
        )
        return int((later - close).total_seconds()), extension

    assert after(100, 4, 5) == (500, True)  # in the last tenth, and this ballot reached it
    assert after(101, 4, 5) == (0, False)  # early enough
    assert after(1, 5, 6) == (0, False)  # reached before
    assert after(1, 3, 4) == (0, False)  # not reached
    assert after(1, 4, 5, extended=True) == (0, True)  # once


async def test_many_ballots_of_one_member_at_once_are_one(house: House) -> None:
    assembly = await found(house, "storm", quick_charter(voting_seconds=60, close_when_all_voted=False), voters=2)
    frozen = await assembly.freeze(
        await assembly.draft([pb.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked("storm"))])
    )
    one, other = assembly.voters
    await asyncio.gather(
        *(
            assembly.vote(frozen, (pb.BALLOT_CHOICE_YES, pb.BALLOT_CHOICE_NO)[number % 2], by=[one])
            for number in range(50)
        )
    )
    await assembly.vote(frozen, by=[other])
    assert (await assembly.show(frozen.name)).turnout_count == 2
    board = await assembly.votes_desk.ListBoard(pb.ListBoardRequest(parent=frozen.name))
    previous = ""
    for number, line in enumerate(board.entries, 1):
        assert (line.sequence, line.previous_hash) == (number, previous)
        previous = line.entry_hash
    assert {line.nullifier for line in board.entries} == {one.name, other.name}


async def test_an_edit_after_the_freeze_voids_every_ballot(house: House) -> None:
    assembly = await found(house, "editors", quick_charter(voting_seconds=60), voters=3)
    draft = pb.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked("editors"))
    frozen = await assembly.freeze(await assembly.draft([draft]))
    await assembly.vote(frozen, by=assembly.voters[:2])
    amended = await assembly.votes_desk.AmendProposal(
        pb.AmendProposalRequest(
            request_id=request_id(),
            name=frozen.name,
            revision=frozen.revision,
            title="Something else",
            body=frozen.body,
            delta=pb.PolicyDelta(rules=[draft]),
        ),
        metadata=assembly.steward.metadata,
    )
    assert amended.state == pb.PROPOSAL_STATE_DELIBERATION and not amended.frozen_hash
    async with refused("VOTE_NOT_OPEN"):
        await assembly.vote(frozen, by=assembly.voters[2:])
    again = await assembly.freeze(amended)
    assert again.frozen_hash != frozen.frozen_hash and again.turnout_count == 0
    async with refused("BALLOT_STALE"):
        await assembly.vote(frozen, by=assembly.voters[:1])
    await assembly.vote(again, pb.BALLOT_CHOICE_NO)
    over = await assembly.until(again.name, *OVER)
    assert (over.tally.yes_count, over.tally.no_count) == (0, 3)


async def test_the_key_behind_secret_ballots_is_gone_after_the_close(house: House) -> None:
    secret = quick_charter(voting_seconds=60, secrecy=decisions.SECRECY_OPERATOR_TRUSTED)
    assembly = await found(house, "whisper", secret, voters=11)
    frozen = await assembly.freeze(
        await assembly.draft([pb.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked("whisper"))])
    )
    receipts = await assembly.vote(frozen)
    over = await assembly.until(frozen.name, *PASSED)
    assert over.tally.yes_count == 11 and not over.tally.withheld
    board = await assembly.votes_desk.ListBoard(pb.ListBoardRequest(parent=frozen.name))
    assert {line.entry_hash for line in board.entries} == {receipt.entry_hash for receipt in receipts}
    id = frozen.name.rsplit("/", 1)[1]
    assert await rows(house, "SELECT sealed_key FROM vote WHERE proposal_id = :id", id) == [None]
    lines = str(await rows(house, "SELECT row_to_json(ballot)::text FROM ballot WHERE proposal_id = :id", id))
    assert len(lines) > 1000 and not any(member.name in lines for member in assembly.voters)


async def test_few_secret_ballots_tell_only_what_came_of_them(house: House) -> None:
    secret = quick_charter(voting_seconds=60, secrecy=decisions.SECRECY_OPERATOR_TRUSTED)
    assembly = await found(house, "twelve", secret, voters=3)
    frozen = await assembly.freeze(
        await assembly.draft([pb.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked("twelve"))])
    )
    await assembly.vote(frozen)
    over = await assembly.until(frozen.name, *PASSED)
    assert over.tally.withheld and over.tally.passed and over.tally.yes_count == 0
    board = await assembly.votes_desk.ListBoard(pb.ListBoardRequest(parent=frozen.name))
    assert all(line.choice == pb.BALLOT_CHOICE_UNSPECIFIED and not line.salt for line in board.entries)
