"""An independent recount of a vote from what is public: the proposal, its board and governance's keys. It asks nobody.

Written from the contracts alone. What it cannot know it says: who stands behind a name on the board of a secret ballot,
when a quorum was reached, and, where the numbers are withheld, the numbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rochdale.client.authority import (
    RECEIPT_PREFIX,
    TALLY_PREFIX,
    PublicKeys,
    canonical_hash,
    canonical_hash_without,
)
from rochdale.governance.v1 import decisions_pb2, proposals_pb2

YES, NO, ABSTAIN = (
    proposals_pb2.BALLOT_CHOICE_YES,
    proposals_pb2.BALLOT_CHOICE_NO,
    proposals_pb2.BALLOT_CHOICE_ABSTAIN,
)
_FROZEN_FIELDS = ("name", "revision", "title", "body", "delta", "decision_class", "decision_rule", "beneficiaries")
_LEAST_SHOWN = 10
_DEFAULT_CAP = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `holds` is None where it cannot be known from outside."""

    what: str
    holds: bool | None
    found: str


@dataclass(frozen=True, slots=True)
class Recount:
    """What a recount found. The counts are None while choices are closed."""

    checks: tuple[Check, ...]
    took_part: int
    yes: int | None
    no: int | None
    abstain: int | None

    @property
    def adds_up(self) -> bool:
        """Whether nothing that can be known contradicts the tally."""
        return all(check.holds is not False for check in self.checks)

    @property
    def complete(self) -> bool:
        """Whether everything could be known."""
        return all(check.holds is not None for check in self.checks)

    @property
    def wrong(self) -> list[Check]:
        return [check for check in self.checks if check.holds is False]

    @property
    def unknown(self) -> list[Check]:
        return [check for check in self.checks if check.holds is None]


def frozen_hash_of(proposal: proposals_pb2.Proposal) -> str:
    """What frozen_hash must be."""
    return canonical_hash(proposal, *_FROZEN_FIELDS)


def commitment_of(salt: str, choice: int) -> str:
    """What a line's commitment must be. salt: lower-case hexadecimal. Empty for what is no salt or choice."""
    try:
        name = proposals_pb2.BallotChoice.Name(choice)  # type: ignore[arg-type]  # whatever the board says
        return hashlib.sha256(bytes.fromhex(salt) + name.encode()).hexdigest()
    except ValueError:
        return ""


def recount(
    proposal: proposals_pb2.Proposal, board: Sequence[proposals_pb2.BoardEntry], governance: PublicKeys
) -> Recount:
    """Counts a vote again. board: every line, in order. governance: the keys that sign tallies."""
    counted = _counted(proposal, board)
    closed = not proposal.HasField("tally") or proposal.tally.withheld
    checks = [_text(proposal), _chain(proposal, board)]
    if not proposal.HasField("tally"):
        checks.append(Check("the tally", None, "There is none yet; choices are closed until there is."))
        return Recount(tuple(checks), len(counted), None, None, None)
    if closed:
        checks.append(_withheld(proposal, counted))
    else:
        checks.append(_commitments(counted))
    checks += [_delegations(proposal, board, counted, closed), _roll(proposal, counted)]
    choices = Counter(line.choice for line in counted.values())
    yes, no, abstain = choices[YES], choices[NO], choices[ABSTAIN]
    checks.append(_numbers(proposal, yes, no, abstain, closed))
    checks.append(_quorum(proposal, len(counted)))
    checks.append(_outcome(proposal, yes, no, closed))
    checks.append(_signature(proposal, governance))
    return Recount(
        tuple(checks),
        len(counted),
        *((None, None, None) if closed else (yes, no, abstain)),
    )


def _counted(
    proposal: proposals_pb2.Proposal, board: Sequence[proposals_pb2.BoardEntry]
) -> dict[str, proposals_pb2.BoardEntry]:
    """The last line of each name, of those for the text that is voted on."""
    return {line.nullifier: line for line in board if line.frozen_hash == proposal.frozen_hash}


def _text(proposal: proposals_pb2.Proposal) -> Check:
    same = frozen_hash_of(proposal) == proposal.frozen_hash
    said = "is" if same else "is not"
    return Check(
        "the text", same, f"The hash that ballots carry {said} that of the text, the effect and the rule shown."
    )


def _chain(proposal: proposals_pb2.Proposal, board: Sequence[proposals_pb2.BoardEntry]) -> Check:
    previous = ""
    for number, line in enumerate(board, 1):
        hashed = canonical_hash_without(line, "entry_hash", "choice", "salt")
        if (line.sequence, line.previous_hash, line.entry_hash) != (number, previous, hashed):
            return Check("the board", False, f"Line {number} does not follow the line before it.")
        previous = line.entry_hash
    tally = proposal.tally
    if proposal.HasField("tally") and (tally.board_head, tally.board_length) != (previous, len(board)):
        return Check(
            "the board",
            False,
            f"The tally is of {tally.board_length} lines that end otherwise than these {len(board)}.",
        )
    return Check("the board", True, f"Each of {len(board)} lines follows the one before it.")


def _withheld(proposal: proposals_pb2.Proposal, counted: dict[str, proposals_pb2.BoardEntry]) -> Check:
    if proposal.tally.decision_rule.secrecy == decisions_pb2.SECRECY_ROLL_CALL:
        return Check("the choices", False, "They are withheld, although this vote was a roll call.")
    if len(counted) >= _LEAST_SHOWN:
        return Check("the choices", False, f"They are withheld, although {len(counted)} took part.")
    return Check(
        "the choices",
        None,
        f"They stay closed, because only {len(counted)} took part in a secret ballot: who said yes cannot be recounted.",
    )


def _commitments(counted: dict[str, proposals_pb2.BoardEntry]) -> Check:
    for line in counted.values():
        if line.choice not in (YES, NO, ABSTAIN) or commitment_of(line.salt, line.choice) != line.commitment:
            return Check("the choices", False, f"Line {line.sequence} says something else than it was committed to.")
    return Check("the choices", True, "Every choice is the one committed to when it was cast.")


def _delegations(
    proposal: proposals_pb2.Proposal,
    board: Sequence[proposals_pb2.BoardEntry],
    counted: dict[str, proposals_pb2.BoardEntry],
    closed: bool,
) -> Check:
    what, rule = "delegations", proposal.tally.decision_rule
    entrusted = [line for line in counted.values() if line.delegate_nullifier]
    if entrusted and (not rule.delegation or rule.decision_class == decisions_pb2.DECISION_CLASS_CONSTITUTIONAL):
        return Check(
            what, False, f"Line {entrusted[0].sequence} follows somebody else, which this vote does not allow."
        )
    in_person = {
        line.nullifier for line in board if line.frozen_hash == proposal.frozen_hash and not line.delegate_nullifier
    }
    for line in entrusted:
        if line.nullifier in in_person:
            return Check(what, False, f"Line {line.sequence} takes the place of a ballot cast in person.")
        followed = counted.get(line.delegate_nullifier)
        if followed is None or followed.delegate_nullifier:
            return Check(what, False, f"Line {line.sequence} follows somebody who did not vote in person.")
        if not closed and followed.choice != line.choice:
            return Check(what, False, f"Line {line.sequence} says something else than the ballot it follows.")
    for delegate, number in Counter(line.delegate_nullifier for line in entrusted).items():
        if number > (rule.delegation_cap or _DEFAULT_CAP):
            return Check(what, False, f"{number} lines follow {delegate}, more than one member may vote for.")
    return Check(what, True, f"{len(entrusted)} of {len(counted)} ballots follow another, each as the charter allows.")


def _roll(proposal: proposals_pb2.Proposal, counted: dict[str, proposals_pb2.BoardEntry]) -> Check:
    roll, tally = proposal.roll, proposal.tally
    if (roll.merkle_root, roll.eligible_count, roll.excluded_count, roll.quorum_base_count) != (
        tally.roll_root,
        tally.eligible_count,
        tally.excluded_count,
        tally.quorum_base_count,
    ):
        return Check("the roll", False, "The tally was made with another roll than the one taken at the opening.")
    if len(counted) > tally.eligible_count:
        return Check("the roll", False, f"{len(counted)} took part, but only {tally.eligible_count} may vote.")
    if tally.decision_rule.secrecy == decisions_pb2.SECRECY_ROLL_CALL:
        members = proposal.name.partition("/proposals/")[0] + "/members/"
        if strangers := [name for name in counted if not name.startswith(members)]:
            return Check("the roll", False, f"{strangers[0]} is no member.")
    return Check("the roll", True, f"{len(counted)} of {tally.eligible_count} took part.")


def _numbers(proposal: proposals_pb2.Proposal, yes: int, no: int, abstain: int, closed: bool) -> Check:
    tally = proposal.tally
    told = (tally.yes_count, tally.no_count, tally.abstain_count)
    if closed:
        if any(told):
            return Check("the numbers", False, "They are told, although choices are withheld.")
        return Check("the numbers", None, "They are withheld and cannot be recounted.")
    said = f"{yes} yes, {no} no, {abstain} abstained"
    if told != (yes, no, abstain):
        return Check("the numbers", False, f"The board says {said}; the tally says {told[0]}, {told[1]}, {told[2]}.")
    return Check("the numbers", True, f"{said[0].upper()}{said[1:]}.")


def _quorum(proposal: proposals_pb2.Proposal, took_part: int) -> Check:
    tally, quorum = proposal.tally, proposal.tally.decision_rule.quorum
    # The fraction rounded up, and at least one: an empty vote decides nothing, whatever fraction of nothing is asked for.
    needed = max(1, -(-quorum.numerator * tally.quorum_base_count // quorum.denominator))
    met = tally.eligible_count > 0 and took_part >= needed
    share = f"{quorum.numerator}/{quorum.denominator} of {tally.quorum_base_count}"
    asked = f"{took_part} took part; {share} is {needed}"
    if met != tally.quorum_met:
        return Check(
            "the quorum", False, f"{asked}, which the tally says is{'' if tally.quorum_met else ' not'} reached."
        )
    return Check("the quorum", True, f"{asked}, which is{'' if met else ' not'} reached.")


def passes(rule: decisions_pb2.DecisionRule, yes: int, no: int) -> bool:
    """Whether a majority passes, the quorum being reached: in whole numbers, a tie never."""
    decided, asked = yes * rule.threshold.denominator, rule.threshold.numerator * (yes + no)
    enough = decided >= asked if rule.inclusive else decided > asked
    return enough and yes > no and yes >= rule.min_yes


def _outcome(proposal: proposals_pb2.Proposal, yes: int, no: int, closed: bool) -> Check:
    tally, rule = proposal.tally, proposal.tally.decision_rule
    said = "passed" if tally.passed else "did not pass"
    if rule != proposal.decision_rule:
        return Check("the outcome", False, "It was counted by another rule than the one fixed at the freeze.")
    if closed:
        if tally.passed and not tally.quorum_met:
            return Check("the outcome", False, "It is said to have passed without a quorum.")
        return Check("the outcome", None, f"The tally says that it {said}; nobody outside can count that again.")
    passed = tally.quorum_met and passes(rule, yes, no)
    at_least = "at least" if rule.inclusive else "more than"
    asked = (
        f"{at_least} {rule.threshold.numerator}/{rule.threshold.denominator} of yes and no, {rule.min_yes} yes or more"
    )
    if passed != tally.passed:
        return Check("the outcome", False, f"It takes {asked}; the tally says that it {said}.")
    return Check("the outcome", True, f"It takes {asked}: it {said}.")


def _signature(proposal: proposals_pb2.Proposal, governance: PublicKeys) -> Check:
    tally = proposal.tally
    if (tally.proposal, tally.frozen_hash) != (proposal.name, proposal.frozen_hash):
        return Check("the signature", False, "The tally is of another proposal, or of another text.")
    if canonical_hash_without(tally, "tally_hash", "signature") != tally.tally_hash:
        return Check("the signature", False, "The tally is not what its hash was made of.")
    if not governance.verify(tally.signature, TALLY_PREFIX, tally.tally_hash):
        return Check("the signature", False, "Governance did not sign the tally.")
    return Check("the signature", True, "Governance signed exactly this tally.")


def check_receipt(
    receipt: proposals_pb2.BallotReceipt,
    proposal: proposals_pb2.Proposal,
    board: Sequence[proposals_pb2.BoardEntry],
    governance: PublicKeys,
) -> tuple[Check, ...]:
    """Whether a receipt is genuine and its ballot stands on the board and counts."""
    genuine = governance.verify(receipt.signature, RECEIPT_PREFIX, canonical_hash_without(receipt, "signature"))
    checks = [Check("the receipt", genuine, "Governance signed it." if genuine else "Governance did not sign it.")]
    line = next((line for line in board if line.sequence == receipt.sequence), None)
    committed = commitment_of(receipt.salt, receipt.choice)
    there = (
        line is not None
        and (line.entry_hash, line.nullifier, line.commitment) == (receipt.entry_hash, receipt.nullifier, committed)
        and canonical_hash_without(line, "entry_hash", "choice", "salt") == line.entry_hash
        and line.choice in (proposals_pb2.BALLOT_CHOICE_UNSPECIFIED, receipt.choice)
    )
    where = f"Line {receipt.sequence} of the board {'is this ballot' if there else 'is another, or is missing'}."
    checks.append(Check("the line", there, where))
    if receipt.proposal != proposal.name or receipt.frozen_hash != proposal.frozen_hash:
        checks.append(
            Check("the text", False, "It was cast for another text; the proposal was changed, so vote again.")
        )
        return tuple(checks)
    last = _counted(proposal, board).get(receipt.nullifier)
    if there and last is not None and last.sequence > receipt.sequence:
        changed = (
            f"Line {last.sequence} of the same voter replaced it. If you did not change your vote, challenge this one."
        )
        checks.append(Check("the count", None, changed))
    else:
        checks.append(Check("the count", there, "It counts." if there else "It is not counted."))
    return tuple(checks)


def on_roll(proof: proposals_pb2.RollProof, roll: proposals_pb2.Roll) -> bool:
    """Whether a member stands on the roll with this root: the path of RFC 6962 from their leaf, folded up."""
    index, size = proof.leaf_index, roll.eligible_count
    if not 0 <= index < size or len(proof.salt) != 16:
        return False
    leaf = hashlib.sha256(proof.salt + proof.member.encode()).digest()
    found, beside = hashlib.sha256(b"\x00" + leaf).digest(), iter(proof.audit_path)
    while size > 1:
        # The last node of a level with an odd number of them moves up as it is.
        if index % 2 or index + 1 < size:
            sibling = next(beside, b"")
            pair = sibling + found if index % 2 else found + sibling
            found = hashlib.sha256(b"\x01" + pair).digest()
        index, size = index // 2, (size + 1) // 2
    return next(beside, None) is None and found.hex() == roll.merkle_root
