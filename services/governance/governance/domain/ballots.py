"""Ballots: the name on the board, the sealed choice, the chained line, the receipt, and what a delegation adds."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit.signing import RECEIPT_PREFIX, SigningKey, canonical_hash, sign_hash

ENTRY_FIELDS = ("sequence", "previous_hash", "nullifier", "frozen_hash", "commitment", "delegate_nullifier")
RECEIPT_FIELDS = ("proposal", "frozen_hash", "nullifier", "sequence", "choice", "salt", "entry_hash")


def nullifier(secrecy: int, key: bytes, member: str) -> str:
    """The member's name on the board: their own in a roll call, else a keyed hash. member: resource name."""
    if secrecy == decisions.SECRECY_ROLL_CALL:
        return member
    return hmac.new(key, member.encode(), hashlib.sha256).hexdigest()


def commitment(choice: pb.BallotChoice.ValueType, salt: bytes) -> str:
    """Hides a choice until the salt is told."""
    return hashlib.sha256(salt + pb.BallotChoice.Name(choice).encode()).hexdigest()


def entry(
    sequence: int,
    previous_hash: str,
    nullifier: str,
    frozen_hash: str,
    choice: pb.BallotChoice.ValueType,
    salt: bytes,
    delegate_nullifier: str = "",
) -> pb.BoardEntry:
    """The next line of the board, its choice still open; who shows it closes it."""
    line = pb.BoardEntry(
        sequence=sequence,
        previous_hash=previous_hash,
        nullifier=nullifier,
        frozen_hash=frozen_hash,
        commitment=commitment(choice, salt),
        delegate_nullifier=delegate_nullifier,
    )
    line.entry_hash = canonical_hash(line, *ENTRY_FIELDS)
    line.choice, line.salt = choice, salt.hex()
    return line


def closed(line: pb.BoardEntry) -> pb.BoardEntry:
    """The line as everybody sees it while the vote is open."""
    shown = pb.BoardEntry()
    shown.CopyFrom(line)
    shown.choice, shown.salt = pb.BALLOT_CHOICE_UNSPECIFIED, ""
    return shown


def receipt(proposal: str, line: pb.BoardEntry, key: SigningKey) -> pb.BallotReceipt:
    """What the voter keeps. It is made from the line whenever it is asked for and stored nowhere."""
    made = pb.BallotReceipt(
        proposal=proposal,
        frozen_hash=line.frozen_hash,
        nullifier=line.nullifier,
        sequence=line.sequence,
        choice=line.choice,
        salt=line.salt,
        entry_hash=line.entry_hash,
    )
    made.signature.CopyFrom(sign_hash(key, RECEIPT_PREFIX, canonical_hash(made, *RECEIPT_FIELDS)))
    return made


def standing(lines: Iterable[pb.BoardEntry], frozen_hash: str) -> dict[str, pb.BoardEntry]:
    """The line that counts of each name: the last one about what is voted on."""
    return {line.nullifier: line for line in lines if line.frozen_hash == frozen_hash}


def late_quorum(
    now: dt.datetime,
    close: dt.datetime,
    voting_seconds: int,
    extension_seconds: int,
    extended: bool,
    *,
    before: int,
    after: int,
    quorum: int,
) -> tuple[dt.datetime, bool]:
    """When the vote closes, and whether it was extended, once these ballots are in.

    before, after: how many had voted in person. A quorum reached in the last tenth gives everybody else more time, once:
    nobody wins by staying away until the last minute.
    """
    late = now >= close - dt.timedelta(seconds=voting_seconds) / 10
    if extended or not extension_seconds or not late or not before < quorum <= after:
        return close, extended
    return close + dt.timedelta(seconds=extension_seconds), True


@dataclass(frozen=True)
class Entrusted:
    """One delegation as it stood at the close. Names are resource names; the order is the oldest first."""

    member: str
    delegate: str


def delegated(
    entrusted: Sequence[Entrusted],
    roll: Iterable[str],
    voted: Mapping[str, pb.BallotChoice.ValueType],
    cap: int,
) -> list[tuple[str, str, pb.BallotChoice.ValueType]]:
    """(member, delegate, choice) of every delegation that counts. voted: who voted in person, and how.

    One step only: a delegate who did not vote in person votes for nobody. Whoever voted in person is not voted for.
    """
    on_roll, carried = set(roll), dict[str, int]()
    follow = []
    for one in entrusted:
        if one.member not in on_roll or one.member in voted or one.delegate not in voted:
            continue
        carried[one.delegate] = carried.get(one.delegate, 0) + 1
        if carried[one.delegate] <= cap:
            follow.append((one.member, one.delegate, voted[one.delegate]))
    return follow
