"""Counting: who won, in whole numbers. What a ballot is, is in ballots; when a vote is counted, in proposals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.clock import to_timestamp
from rochdale_kit.signing import TALLY_PREFIX, SigningKey, canonical_hash, sign_hash

# Below so many secret ballots the numbers could tell who voted how.
SECRET_MINIMUM = 10
FIELDS = (
    "proposal",
    "frozen_hash",
    "roll_root",
    "eligible_count",
    "excluded_count",
    "quorum_base_count",
    "yes_count",
    "no_count",
    "abstain_count",
    "quorum_met",
    "passed",
    "extended",
    "board_head",
    "board_length",
    "withheld",
    "decision_rule",
    "count_time",
)


@dataclass(frozen=True)
class Count:
    """Ballots that count, one a person."""

    yes: int
    no: int
    abstain: int

    @property
    def total(self) -> int:
        return self.yes + self.no + self.abstain

    @classmethod
    def of(cls, choices: Iterable[int]) -> Count:
        """Of the choices that stand."""
        counts = dict.fromkeys((pb.BALLOT_CHOICE_YES, pb.BALLOT_CHOICE_NO, pb.BALLOT_CHOICE_ABSTAIN), 0)
        for choice in choices:
            counts[choice] += 1  # type: ignore[index]
        return cls(counts[pb.BALLOT_CHOICE_YES], counts[pb.BALLOT_CHOICE_NO], counts[pb.BALLOT_CHOICE_ABSTAIN])


def quorum_count(rule: decisions.DecisionRule, base: int) -> int:
    """How many have to take part: the fraction rounded up, and at least one, because an empty vote decides nothing."""
    return max(1, -(-base * rule.quorum.numerator // rule.quorum.denominator))


def quorum_met(rule: decisions.DecisionRule, eligible: int, base: int, count: Count) -> bool:
    return eligible > 0 and count.total >= quorum_count(rule, base)


def passes(rule: decisions.DecisionRule, count: Count) -> bool:
    """Whether those who said yes are enough. A tie fails whatever the threshold; abstaining is neither."""
    if count.yes < max(1, rule.min_yes) or count.yes <= count.no:
        return False
    reached = count.yes * rule.threshold.denominator
    needed = rule.threshold.numerator * (count.yes + count.no)
    return reached >= needed if rule.inclusive else reached > needed


def tally(
    proposal: pb.Proposal,
    choices: Iterable[int],
    *,
    extended: bool,
    board_head: str,
    board_length: int,
    now: dt.datetime,
    key: SigningKey,
) -> pb.Tally:
    """What was counted, signed. choices: those that stand, of everybody who voted or was voted for."""
    rule, roll, count = proposal.decision_rule, proposal.roll, Count.of(choices)
    met = quorum_met(rule, roll.eligible_count, roll.quorum_base_count, count)
    withheld = rule.secrecy != decisions.SECRECY_ROLL_CALL and count.total < SECRET_MINIMUM
    counted = pb.Tally(
        proposal=proposal.name,
        frozen_hash=proposal.frozen_hash,
        roll_root=roll.merkle_root,
        eligible_count=roll.eligible_count,
        excluded_count=roll.excluded_count,
        quorum_base_count=roll.quorum_base_count,
        quorum_met=met,
        passed=met and passes(rule, count),
        extended=extended,
        board_head=board_head,
        board_length=board_length,
        withheld=withheld,
        decision_rule=rule,
        count_time=to_timestamp(now),
    )
    if not withheld:
        counted.yes_count, counted.no_count, counted.abstain_count = count.yes, count.no, count.abstain
    counted.tally_hash = canonical_hash(counted, *FIELDS)
    counted.signature.CopyFrom(sign_hash(key, TALLY_PREFIX, counted.tally_hash))
    return counted
