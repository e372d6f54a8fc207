"""Merkle trees with the hashing of RFC 6962: a root over leaves, the path that shows one leaf, and its check."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """The 32 bytes a leaf is in the tree."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """From the leaves' hashes to the root. An odd last node moves up as it is, which gives RFC 6962's split."""
    levels = [[leaf_hash(leaf) for leaf in leaves]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        level = [_node(below[index], below[index + 1]) for index in range(0, len(below) - 1, 2)]
        if len(below) % 2:
            level.append(below[-1])
        levels.append(level)
    return levels


def root(leaves: Sequence[bytes]) -> bytes:
    """The tree's root, 32 bytes; of no leaves, the hash of nothing."""
    return _levels(leaves)[-1][0] if leaves else EMPTY_ROOT


def audit_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes beside the way from leaf `index` (from 0) to the root."""
    path = []
    for level in _levels(leaves)[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index //= 2
    return path


def verify_path(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> bool:
    """Whether the leaf stands at `index` among `size` leaves under this root."""
    if not 0 <= index < size:
        return False
    found, beside = leaf_hash(leaf), list(path)
    while size > 1:
        if index % 2:
            if not beside:
                return False
            found = _node(beside.pop(0), found)
        elif index + 1 < size:
            if not beside:
                return False
            found = _node(found, beside.pop(0))
        index, size = index // 2, (size + 1) // 2
    return not beside and found == expected_root
