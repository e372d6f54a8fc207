"""What people see of a proposal, a recount and a charter; the same with --json is in the tests of the sides."""

from __future__ import annotations

import pytest
from paper_vote import ABSTAIN, NO, YES, Poll, decision_rule, member, scope

from rochdale.client import charter_words
from rochdale.client.proposal_views import show_proposal, show_recount, tally_sentence
from rochdale.client.recount import recount
from rochdale.governance.v1 import decisions_pb2, governance_pb2, proposals_pb2


def test_a_proposal_is_told_from_what_would_change(capsys: pytest.CaptureFixture[str]) -> None:
    poll = Poll()
    poll.proposal.delta.rules.add(effect=governance_pb2.RULE_EFFECT_DENY, scope=scope())
    poll.proposal.delta.end_rules.append("cooperatives/valley/sharingRules/rule_1")
    poll.proposal.delta.charter.required_approvals = 2
    poll.proposal.delta.charter.decision_rules.append(decision_rule())
    poll.proposal.interests.add(holder=member(3), statement="They employ me.", declared=True)
    poll.proposal.challenges.add(
        number=1, member=member(4), ground=proposals_pb2.CHALLENGE_GROUND_ROLL, statement="Who?"
    )
    poll.proposal.state = proposals_pb2.PROPOSAL_STATE_VOTING
    show_proposal(poll.proposal, text=True)
    said = capsys.readouterr()
    for words in (
        "Free for research",
        "A new rule that would allow",
        "licenses end when members narrow or end it",
        "A new rule that would forbid",
        "A rule that would end",
        "A new charter",
        "2 stewards; it lapses after 30 days",
        "routine decisions would be made so",
        "more than 1/2 of yes and no",
        "They employ me.",
        "Who?",
    ):
        assert words in said.out, words
    assert "rochdale proposal vote valley/prop_" in said.err


def test_a_recount_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    poll = Poll()
    for number in range(12):
        poll.cast(number, (YES, NO, ABSTAIN)[number % 3])
    poll.close()
    show_recount(recount(poll.proposal, poll.shown(), poll.keys()))
    told = capsys.readouterr().out
    assert "It adds up." in told and "4 yes, 4 no, 4 abstained" in told.lower()
    assert tally_sentence(poll.proposal.tally) == "did not pass: 4 yes, 4 no, 4 abstained, of 20"
    poll.proposal.tally.yes_count = 9
    show_recount(recount(poll.proposal, poll.shown(), poll.keys()))
    told = capsys.readouterr().out
    assert "WRONG" in told and "It adds up." not in told


def test_a_charter_reads_like_a_meeting() -> None:
    rule = decision_rule(
        quorum=decisions_pb2.Ratio(numerator=25, denominator=100),
        quorum_base=decisions_pb2.QUORUM_BASE_ACTIVE,
        contributors_only=True,
        min_membership_seconds=86_400,
        close_when_all_voted=True,
        inclusive=True,
        secrecy=decisions_pb2.SECRECY_ROLL_CALL,
    )
    lines = charter_words.decision_lines(rule)
    assert lines["takes part"] == "at least 1/4 of the members active within 365 days"
    assert lines["passes with"] == "at least 1/2 of yes and no, and at least 1 yes; a tie never passes"
    assert lines["who votes"].startswith("contributors") and lines["member since"].startswith("at least 1d")
    assert "roll call" in lines["secrecy"] and "at most 2" in lines["delegation"]
    assert (
        charter_words.charter_lines(governance_pb2.Charter(required_approvals=1))["a rule lives at most"] == "two years"
    )
