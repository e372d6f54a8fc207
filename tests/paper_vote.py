"""A vote as governance's own rules make it, on paper: a board, a roll and a tally for the client to count again."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, field

from governance.domain import ballots, roll, tally
from rochdale.client.authority import PublicKeys
from rochdale.client.recount import frozen_hash_of
from rochdale.governance.v1 import decisions_pb2, governance_pb2, proposals_pb2
from rochdale.type.v1 import money_pb2, scope_pb2
from rochdale_kit.signing import SigningKey

CLOSE = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
PROPOSAL = "cooperatives/valley/proposals/prop_01JABCDEFGHJKMNPQRSTVWXYZ0"
RULE = "cooperatives/valley/sharingRules/rule_01JABCDEFGHJKMNPQRSTVWXYZ0"
YES, NO, ABSTAIN = (
    proposals_pb2.BALLOT_CHOICE_YES,
    proposals_pb2.BALLOT_CHOICE_NO,
    proposals_pb2.BALLOT_CHOICE_ABSTAIN,
)


def scope(**more: object) -> scope_pb2.SharingScope:
    """Something members might share."""
    values: dict[str, object] = {
        "datasets": [
            scope_pb2.DatasetScope(dataset="cooperatives/valley/datasets/randhie", first_version=1, columns=["a", "b"])
        ],
        "categories": [scope_pb2.BUYER_CATEGORY_ACADEMIC],
        "purposes": ["ResearchAndDevelopment"],
        "actions": [scope_pb2.USE_ACTION_ANALYZE],
        "max_mode": scope_pb2.ACCESS_MODE_STREAM,
        "floor_price": money_pb2.Money(amount_minor=1250, currency="EUR"),
        "territories": ["WORLD"],
        "max_duration_seconds": 86_400,
        "max_exclusivity": scope_pb2.EXCLUSIVITY_NONE,
    }
    return scope_pb2.SharingScope(**(values | more))  # type: ignore[arg-type]


def member(number: int) -> str:
    return f"cooperatives/valley/members/mem_{number:026d}"


def decision_rule(**more: object) -> decisions_pb2.DecisionRule:
    values: dict[str, object] = {
        "decision_class": decisions_pb2.DECISION_CLASS_ROUTINE,
        "quorum": decisions_pb2.Ratio(numerator=1, denominator=10),
        "quorum_base": decisions_pb2.QUORUM_BASE_ROLL,
        "threshold": decisions_pb2.Ratio(numerator=1, denominator=2),
        "min_yes": 1,
        "voting_seconds": 60,
        "secrecy": decisions_pb2.SECRECY_OPERATOR_TRUSTED,
        "delegation": True,
        "delegation_cap": 2,
        "sponsor_min": 1,
    }
    return decisions_pb2.DecisionRule(**(values | more))  # type: ignore[arg-type]


@dataclass
class Poll:
    """Members 0 to eligible-1 may vote. Everything is a function of what is cast, in order."""

    eligible: int = 20
    rule: decisions_pb2.DecisionRule = field(default_factory=decision_rule)
    key: SigningKey = field(default_factory=SigningKey.generate)
    secret: bytes = b"the key behind the names"

    def __post_init__(self) -> None:
        self.leaves = [
            roll.Leaf(member(number), hashlib.sha256(bytes([number])).digest()[:16], True)
            for number in range(self.eligible)
        ]
        self.proposal = proposals_pb2.Proposal(
            name=PROPOSAL,
            revision=1,
            title="Free for research",
            body="Because.",
            delta=proposals_pb2.PolicyDelta(
                rules=[
                    proposals_pb2.RuleDraft(
                        sharing_rule=RULE,
                        effect=governance_pb2.RULE_EFFECT_ALLOW,
                        scope=scope(),
                        life_seconds=1000,
                        member_recall=True,
                    )
                ]
            ),
            decision_class=self.rule.decision_class,
            decision_rule=self.rule,
            roll=roll.take(self.leaves, 0, False, CLOSE),
        )
        self.proposal.frozen_hash = frozen_hash_of(self.proposal)
        self.board: list[proposals_pb2.BoardEntry] = []
        self.voted: dict[str, proposals_pb2.BallotChoice.ValueType] = {}

    def name(self, who: str) -> str:
        return ballots.nullifier(self.rule.secrecy, self.secret, who)

    def _add(
        self, who: str, choice: proposals_pb2.BallotChoice.ValueType, follows: str = ""
    ) -> proposals_pb2.BoardEntry:
        line = ballots.entry(
            len(self.board) + 1,
            self.board[-1].entry_hash if self.board else "",
            self.name(who),
            self.proposal.frozen_hash,
            choice,
            hashlib.sha256(f"salt {len(self.board)}".encode()).digest()[:16],
            self.name(follows) if follows else "",
        )
        self.board.append(line)
        return line

    def cast(self, number: int, choice: proposals_pb2.BallotChoice.ValueType) -> proposals_pb2.BallotReceipt:
        self.voted[member(number)] = choice
        return ballots.receipt(PROPOSAL, self._add(member(number), choice), self.key)

    def close(self, delegations: list[tuple[int, int]] | None = None) -> None:
        """Counts. delegations: (who, delegate), the oldest first."""
        entrusted = [ballots.Entrusted(member(who), member(to)) for who, to in delegations or []]
        everybody = [leaf.member for leaf in self.leaves]
        cap = self.rule.delegation_cap if self.rule.delegation else 0
        for who, delegate, choice in ballots.delegated(entrusted, everybody, self.voted, cap):
            self._add(who, choice, delegate)
        standing = ballots.standing(self.board, self.proposal.frozen_hash)
        self.proposal.tally.CopyFrom(
            tally.tally(
                self.proposal,
                [line.choice for line in standing.values()],
                extended=False,
                board_head=self.board[-1].entry_hash if self.board else "",
                board_length=len(self.board),
                now=CLOSE,
                key=self.key,
            )
        )

    def shown(self) -> list[proposals_pb2.BoardEntry]:
        """The board as governance shows it: closed until there is a tally, and where it is withheld."""
        if not self.proposal.HasField("tally") or self.proposal.tally.withheld:
            return [ballots.closed(line) for line in self.board]
        return list(self.board)

    def keys(self) -> PublicKeys:
        return PublicKeys({self.key.key_id: self.key.public_bytes})
