"""The electoral roll: who may vote, frozen when the vote opens, and the tree by which each can prove their place."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_kit import merkle
from rochdale_kit.clock import to_timestamp


@dataclass(frozen=True)
class Leaf:
    """One voter on the roll. member: resource name."""

    member: str
    salt: bytes
    active: bool

    @property
    def value(self) -> bytes:
        return leaf(self.salt, self.member)


def leaf(salt: bytes, member: str) -> bytes:
    """What stands in the tree: it names nobody to whoever does not know the salt."""
    return hashlib.sha256(salt + member.encode()).digest()


def take(leaves: Sequence[Leaf], excluded_count: int, count_active_only: bool, now: dt.datetime) -> pb.Roll:
    """The roll as it is published."""
    base = sum(one.active for one in leaves) if count_active_only else len(leaves)
    return pb.Roll(
        merkle_root=merkle.root(sorted(one.value for one in leaves)).hex(),
        eligible_count=len(leaves),
        excluded_count=excluded_count,
        quorum_base_count=base,
        take_time=to_timestamp(now),
    )


def proof(roll: pb.Roll, member: str, salt: bytes, leaves: Collection[bytes]) -> pb.RollProof:
    """That a member is on the roll. leaves: all of them, in any order."""
    ordered = sorted(leaves)
    index = ordered.index(leaf(salt, member))
    return pb.RollProof(
        roll=roll, member=member, salt=salt, leaf_index=index, audit_path=merkle.audit_path(ordered, index)
    )
