"""Merkle trees against RFC 6962 written out as its section 2.1 does, and paths that were tampered with."""

import hashlib
import random

import pytest

from rochdale_kit import merkle

SIZES = range(71)


def leaves_of(size: int) -> list[bytes]:
    return [f"leaf {number}".encode() for number in range(size)]


def split(size: int) -> int:
    """The largest power of two smaller than the size."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of the RFC."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    at = split(len(leaves))
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:at]) + tree_hash(leaves[at:])).digest()


def path_of(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of the RFC."""
    if len(leaves) == 1:
        return []
    at = split(len(leaves))
    if index < at:
        return [*path_of(index, leaves[:at]), tree_hash(leaves[at:])]
    return [*path_of(index - at, leaves[at:]), tree_hash(leaves[:at])]


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_the_rfcs(size: int) -> None:
    leaves = leaves_of(size)
    root = merkle.root(leaves)
    assert root == tree_hash(leaves)
    for index in range(size):
        path = merkle.audit_path(leaves, index)
        assert path == path_of(index, leaves)
        assert merkle.verify_path(leaves[index], index, size, path, root)


@pytest.mark.parametrize("size", [size for size in SIZES if size])
def test_a_tampered_path_shows_nothing(size: int) -> None:
    """Another leaf, another place, another size, a step left out, added, swapped or changed by one bit."""
    leaves, chance = leaves_of(size), random.Random(size)
    root = merkle.root(leaves)
    for index in range(size):
        path, leaf = merkle.audit_path(leaves, index), leaves[index]
        assert not merkle.verify_path(b"leaf", index, size, path, root)
        assert not merkle.verify_path(merkle.leaf_hash(leaf), index, size, path, root)
        assert not merkle.verify_path(leaf, index, size, path, hashlib.sha256(root).digest())
        assert not merkle.verify_path(leaf, index, size, [*path, root], root)
        assert not merkle.verify_path(leaf, -1, size, path, root)
        assert not merkle.verify_path(leaf, size, size, path, root)
        for other in range(size):
            assert other == index or not merkle.verify_path(leaf, other, size, path, root)
        for place, step in enumerate(path):
            assert not merkle.verify_path(leaf, index, size, path[:place] + path[place + 1 :], root)
            byte = chance.randrange(32)
            flipped = step[:byte] + bytes([step[byte] ^ 1]) + step[byte + 1 :]
            assert not merkle.verify_path(leaf, index, size, [*path[:place], flipped, *path[place + 1 :]], root)
        if len(path) > 1:
            assert not merkle.verify_path(leaf, index, size, path[::-1], root)


def test_an_inner_node_is_no_leaf() -> None:
    """The two prefixes: without them the hash of two leaves could be shown as a member of a smaller tree."""
    leaves = leaves_of(4)
    inner = merkle.leaf_hash(leaves[0]) + merkle.leaf_hash(leaves[1])
    beside = merkle.audit_path(leaves, 0)[1:]
    assert not merkle.verify_path(inner, 0, 2, beside, merkle.root(leaves))


def test_nobody_is_in_a_tree_of_nothing() -> None:
    assert merkle.root([]) == merkle.EMPTY_ROOT == hashlib.sha256().digest()
    assert not merkle.verify_path(b"", 0, 0, [], merkle.EMPTY_ROOT)
