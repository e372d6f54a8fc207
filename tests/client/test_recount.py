"""A vote is counted again from its board: what governance counts is what the client counts, and a lie is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_vote import ABSTAIN, NO, PROPOSAL, YES, Poll, decision_rule, member

from governance.domain import roll
from rochdale.client.authority import PublicKeys
from rochdale.client.recount import Recount, check_receipt, on_roll, passes, recount
from rochdale.governance.v1 import decisions_pb2, proposals_pb2
from rochdale_kit.signing import TALLY_PREFIX, canonical_hash, sign_hash


def count(poll: Poll) -> Recount:
    return recount(poll.proposal, poll.shown(), poll.keys())


def sign_again(poll: Poll) -> None:
    """Governance signs whatever the tally says now: the operator lies with all its means."""
    tally = poll.proposal.tally
    names = [each.name for each in tally.DESCRIPTOR.fields if each.name not in ("tally_hash", "signature")]
    tally.tally_hash = canonical_hash(tally, *names)
    tally.signature.CopyFrom(sign_hash(poll.key, TALLY_PREFIX, tally.tally_hash))


@pytest.fixture
def held() -> Poll:
    """Twelve vote, one changes their mind, two follow another."""
    poll = Poll()
    for number in range(12):
        poll.cast(number, YES if number < 7 else NO)
    poll.cast(11, YES)
    poll.cast(0, ABSTAIN)
    poll.close([(12, 1), (13, 1), (14, 1), (15, 19), (2, 7)])
    return poll


def test_an_honest_vote_adds_up(held: Poll) -> None:
    counted = count(held)
    assert counted.adds_up and counted.complete, counted.checks
    # 1 to 6 and 11, and the two for whom 1 votes; the third is beyond the cap, 19 did not vote, 2 did.
    assert (counted.yes, counted.no, counted.abstain, counted.took_part) == (9, 4, 1, 14)


LIES: dict[str, tuple[str, Callable[[Poll], object]]] = {
    "a yes more": ("the numbers", lambda poll: setattr(poll.proposal.tally, "yes_count", 10)),
    "not passed": ("the outcome", lambda poll: setattr(poll.proposal.tally, "passed", False)),
    "no quorum": ("the quorum", lambda poll: setattr(poll.proposal.tally, "quorum_met", False)),
    "another roll": ("the roll", lambda poll: setattr(poll.proposal.tally, "eligible_count", 30)),
    "an easier rule": ("the outcome", lambda poll: setattr(poll.proposal.tally.decision_rule, "min_yes", 2)),
    "another text": ("the text", lambda poll: setattr(poll.proposal, "body", "Something else.")),
    "a wider rule": ("the text", lambda poll: poll.proposal.delta.rules[0].scope.territories.append("FR")),
    "a line left out": ("the board", lambda poll: poll.board.pop(3)),
    "a line at the end left out": ("the board", lambda poll: poll.board.pop()),
    "a choice turned": ("the choices", lambda poll: setattr(poll.board[4], "choice", NO)),
    "a salt turned": ("the choices", lambda poll: setattr(poll.board[4], "salt", "00" * 16)),
    "a choice closed": ("the choices", lambda poll: setattr(poll.board[4], "choice", 0)),
    "another's tally": ("the signature", lambda poll: setattr(poll.proposal.tally, "proposal", "another")),
    "withheld without need": ("the choices", lambda poll: setattr(poll.proposal.tally, "withheld", True)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named_even_if_governance_signs_it(held: Poll, lie: str) -> None:
    what, change = LIES[lie]
    change(held)
    sign_again(held)
    counted = recount(held.proposal, held.board, held.keys())
    assert not counted.adds_up and what in [check.what for check in counted.wrong], counted.checks


def test_nobody_but_governance_signs_a_tally(held: Poll) -> None:
    stranger = recount(held.proposal, held.board, PublicKeys({}))
    assert [check.what for check in stranger.wrong] == ["the signature"]
    held.proposal.tally.extended = True
    assert [check.what for check in count(held).wrong] == ["the signature"]


def test_delegations_go_one_step_and_not_beyond_the_cap() -> None:
    def with_lines(*lines: tuple[int, int]) -> str:
        poll = Poll()
        for number in range(10):
            poll.cast(number, YES)
        for who, follows in lines:
            poll._add(member(who), YES, member(follows))
        poll.close()
        return " ".join(check.found for check in count(poll).wrong if check.what == "delegations")

    assert with_lines((10, 1), (11, 1)) == ""
    assert "more than one member may vote for" in with_lines((10, 1), (11, 1), (12, 1))
    assert "did not vote in person" in with_lines((10, 15))
    assert "did not vote in person" in with_lines((10, 1), (11, 10))
    assert "takes the place of a ballot cast in person" in with_lines((3, 1))

    poll = Poll(rule=decision_rule(delegation=False))
    for number in range(10):
        poll.cast(number, YES)
    poll._add(member(12), YES, member(1))
    poll.close()
    assert any("does not allow" in check.found for check in count(poll).wrong)


def test_a_small_secret_ballot_says_what_cannot_be_known() -> None:
    poll = Poll(eligible=9)
    for number in range(5):
        poll.cast(number, YES)
    poll.close()
    counted = count(poll)
    assert counted.adds_up and not counted.complete
    assert (counted.yes, counted.took_part) == (None, 5)
    assert {check.what for check in counted.unknown} == {"the choices", "the numbers", "the outcome"}
    poll.proposal.tally.quorum_met = False
    sign_again(poll)
    assert {"the quorum", "the outcome"} <= {check.what for check in count(poll).wrong}


def test_a_small_roll_call_is_open() -> None:
    poll = Poll(eligible=5, rule=decision_rule(secrecy=decisions_pb2.SECRECY_ROLL_CALL))
    poll.cast(0, YES)
    poll.close()
    assert count(poll).complete and poll.board[0].nullifier == member(0)
    poll.board[0].nullifier = "somebody"
    assert not count(poll).adds_up


def test_an_open_vote_shows_its_chain_and_no_choice() -> None:
    poll = Poll()
    poll.cast(0, YES)
    counted = count(poll)
    assert counted.adds_up and not counted.complete and counted.took_part == 1 and counted.yes is None


@pytest.mark.parametrize(
    ("yes", "no", "more", "passed"),
    [
        (5, 5, {}, False),
        (6, 5, {}, True),
        (4, 2, {"threshold": decisions_pb2.Ratio(numerator=2, denominator=3), "inclusive": True}, True),
        (4, 2, {"threshold": decisions_pb2.Ratio(numerator=2, denominator=3)}, False),
        (1, 0, {"min_yes": 3}, False),
        (1, 1, {"threshold": decisions_pb2.Ratio(numerator=0, denominator=1), "inclusive": True}, False),
    ],
)
def test_majorities_are_exact(yes: int, no: int, more: dict[str, object], passed: bool) -> None:
    assert passes(decision_rule(**more), yes, no) is passed


def test_nobody_on_the_roll_decides_nothing() -> None:
    poll = Poll(eligible=0, rule=decision_rule(quorum=decisions_pb2.Ratio(numerator=0, denominator=1)))
    poll.close()
    assert not poll.proposal.tally.passed and count(poll).adds_up


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 19), st.sampled_from([YES, NO, ABSTAIN])), max_size=60),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=20, unique_by=lambda pair: pair[0]),
    st.booleans(),
    st.sampled_from([decisions_pb2.SECRECY_ROLL_CALL, decisions_pb2.SECRECY_OPERATOR_TRUSTED]),
    st.tuples(st.integers(0, 4), st.integers(1, 4)),
    st.tuples(st.integers(0, 4), st.integers(1, 4)),
    st.integers(0, 3),
)
def test_whatever_happens_governance_and_the_client_count_the_same(
    cast: list[tuple[int, proposals_pb2.BallotChoice.ValueType]],
    delegations: list[tuple[int, int]],
    inclusive: bool,
    secrecy: int,
    quorum: tuple[int, int],
    threshold: tuple[int, int],
    cap: int,
) -> None:
    rule = decision_rule(
        inclusive=inclusive,
        secrecy=secrecy,
        quorum=decisions_pb2.Ratio(numerator=min(quorum), denominator=max(quorum)),
        threshold=decisions_pb2.Ratio(numerator=min(threshold), denominator=max(threshold)),
        delegation=cap > 0,
        delegation_cap=cap,
        min_yes=1 + cap,
    )
    poll = Poll(rule=rule)
    for number, choice in cast:
        poll.cast(number, choice)
    poll.close([pair for pair in delegations if pair[0] != pair[1]])
    counted = count(poll)
    assert counted.adds_up, counted.wrong
    assert counted.complete is not poll.proposal.tally.withheld


def test_a_receipt_finds_its_line() -> None:
    poll = Poll()
    first, receipt = poll.cast(0, YES), poll.cast(1, NO)
    for number in range(2, 12):
        poll.cast(number, YES)
    assert all(check.holds for check in check_receipt(receipt, poll.proposal, poll.shown(), poll.keys()))
    changed = poll.cast(0, NO)
    poll.close()
    assert all(check.holds for check in check_receipt(changed, poll.proposal, poll.shown(), poll.keys()))
    replaced = check_receipt(first, poll.proposal, poll.shown(), poll.keys())
    assert [check.holds for check in replaced] == [True, True, None] and "Line 13" in replaced[-1].found

    receipt.choice = YES
    forged = check_receipt(receipt, poll.proposal, poll.shown(), poll.keys())
    assert [check.holds for check in forged] == [False, False, False]
    gone = check_receipt(changed, poll.proposal, poll.shown()[:5], poll.keys())
    assert [check.holds for check in gone] == [True, False, False]
    poll.proposal.frozen_hash = "0" * 64
    assert "changed" in check_receipt(changed, poll.proposal, poll.shown(), poll.keys())[-1].found


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 20])
def test_a_member_finds_themselves_on_the_roll(size: int) -> None:
    poll = Poll(eligible=size)
    for leaf in poll.leaves:
        proof = roll.proof(poll.proposal.roll, leaf.member, leaf.salt, [each.value for each in poll.leaves])
        assert on_roll(proof, poll.proposal.roll)
        proof.member = member(99)
        assert not on_roll(proof, poll.proposal.roll)
        proof.member = leaf.member
        proof.audit_path.append(b"x" * 32)
        assert not on_roll(proof, poll.proposal.roll)
    assert not on_roll(proposals_pb2.RollProof(member=PROPOSAL), poll.proposal.roll)
