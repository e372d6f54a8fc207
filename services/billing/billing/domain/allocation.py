"""Dividing whole amounts exactly: the largest remainder over weights. Who bears a refund: postings.

Whole numbers only. No money is lost or made, and anyone can work the same result out again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def divide(pool: int, weights: Mapping[str, int], seed: str) -> dict[str, int]:
    """`pool` over the keys of `weights`, in proportion, by the largest remainder; the parts sum to the pool exactly.

    Each gets its proportion rounded down; the units left over go, one each, to the largest fractions, and among equal
    ones by SHA-256 over "{seed}\\0{key}": anybody can compute it, nobody can aim at it, and low ids gain nothing by it.
    Raises TypeError for anything but whole numbers, ValueError for negative ones and for a pool without weights.
    """
    for number in (pool, *weights.values()):
        # A bool is an int to Python, and a truth value is no weight.
        if type(number) is not int:
            raise TypeError(f"{number!r} is not a whole number")
        if number < 0:
            raise ValueError(f"{number} is negative")
    if pool == 0:
        return dict.fromkeys(weights, 0)
    total = sum(weights.values())
    if total == 0:
        raise ValueError(f"there are {pool} to divide and no weights")
    parts = {key: pool * weight // total for key, weight in weights.items()}
    for key in _extra(pool, weights, seed):
        parts[key] += 1
    return parts


def last_extra(pool: int, weights: Mapping[str, int], seed: str) -> tuple[int, str] | None:
    """Remainder and hash of the last key that got one of the units left over; None when nothing was left.

    With it anybody works out their own part without seeing another's: one more for a larger remainder, or for the same
    one and a hash that is not larger.
    """
    extra = _extra(pool, weights, seed)
    if not extra:
        return None
    return pool * weights[extra[-1]] % sum(weights.values()), tie_break(seed, extra[-1])


def tie_break(seed: str, key: str) -> str:
    """What decides among equal fractions, the smallest first; lower-case hexadecimal."""
    return hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest()


def _extra(pool: int, weights: Mapping[str, int], seed: str) -> list[str]:
    """The keys that get one of the units left over, in their order."""
    total = sum(weights.values())
    if pool == 0 or total == 0:
        return []
    remainders = {key: pool * weight % total for key, weight in weights.items()}
    # They sum to a multiple of the total, and each is below it: more keys have a fraction than there are units left.
    left = sum(remainders.values()) // total
    if not left:
        return []
    ordered = sorted(
        (key for key in remainders if remainders[key]), key=lambda key: (-remainders[key], tie_break(seed, key))
    )
    return ordered[:left]
