"""Dividing whole amounts exactly: the largest remainder over weights, and what of a fee goes back with part of a charge.

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
    parts: dict[str, int] = {}
    remainders: dict[str, int] = {}
    for key, weight in weights.items():
        parts[key], remainders[key] = divmod(pool * weight, total)
    left = pool - sum(parts.values())
    if left:
        # What is left comes from fractions, so as many keys at least have one, and none without weight gets any.
        ordered = sorted(
            (key for key, remainder in remainders.items() if remainder),
            key=lambda key: (-remainders[key], hashlib.sha256(f"{seed}\0{key}".encode()).digest()),
        )
        for key in ordered[:left]:
            parts[key] += 1
    return parts


def back(fee: int, charge: int, refunded: int, refund: int) -> int:
    """What of `fee`, taken from `charge`, goes back with `refund` after `refunded` did.

    Cumulative: any sequence of refunds that ends at the charge gives back exactly the fee. Raises ValueError for more
    than is left.
    """
    if not (0 <= fee <= charge and refunded >= 0 and 0 <= refund <= charge - refunded):
        raise ValueError(f"{refund} after {refunded} of {charge}, with a fee of {fee}")
    if charge == 0:
        return 0
    return fee * (refunded + refund) // charge - fee * refunded // charge
