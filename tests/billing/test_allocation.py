"""Dividing exactly, tried with everything: sums, fairness, order, scale and growth."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.domain.allocation import divide

thoroughly = settings(max_examples=3000, deadline=None)

keys = st.text("abcdefghij0123456789", min_size=1, max_size=4)
weights = st.dictionaries(keys, st.one_of(st.integers(0, 5), st.integers(0, 10**15)), max_size=12)
pools = st.one_of(st.integers(0, 20), st.integers(0, 10**15))


@thoroughly
@given(pools, weights, keys)
def test_parts_sum_to_the_pool_and_are_fair(pool: int, given_weights: dict[str, int], seed: str) -> None:
    total = sum(given_weights.values())
    if total == 0 and pool > 0:
        with pytest.raises(ValueError, match="no weights"):
            divide(pool, given_weights, seed)
        return
    parts = divide(pool, given_weights, seed)
    assert parts.keys() == given_weights.keys()
    assert sum(parts.values()) == pool
    for key, weight in given_weights.items():
        if weight == 0 or pool == 0:
            assert parts[key] == 0
        else:
            # |part - exact| < 1, without a fraction.
            assert abs(parts[key] * total - pool * weight) < total


@thoroughly
@given(pools, weights, keys, st.randoms(use_true_random=False), st.integers(1, 10**6))
def test_neither_order_nor_scale_matters(
    pool: int, given_weights: dict[str, int], seed: str, random: Any, scale: int
) -> None:
    if not sum(given_weights.values()):
        return
    parts = divide(pool, given_weights, seed)
    shuffled = list(given_weights.items())
    random.shuffle(shuffled)
    assert divide(pool, dict(shuffled), seed) == parts
    assert divide(pool, {key: weight * scale for key, weight in given_weights.items()}, seed) == parts


@thoroughly
@given(pools, weights, keys)
def test_who_has_more_never_gets_less(pool: int, given_weights: dict[str, int], seed: str) -> None:
    if not sum(given_weights.values()):
        return
    parts = divide(pool, given_weights, seed)
    ordered = sorted(given_weights, key=lambda key: given_weights[key])
    for less, more in itertools.pairwise(ordered):
        if given_weights[less] < given_weights[more]:
            assert parts[less] <= parts[more]
        else:
            assert abs(parts[less] - parts[more]) <= 1


def test_a_tie_is_broken_by_a_hash_and_not_by_the_name() -> None:
    everyone = {f"member{number}": 1 for number in range(9)}
    won: dict[str, int] = dict.fromkeys(everyone, 0)
    for month in range(900):
        for member, part in divide(1, everyone, f"run{month}").items():
            won[member] += part
    assert sum(won.values()) == 900
    assert min(won.values()) > 60 and max(won.values()) < 140
    # As docs/reference/dividends.md says it: sha256("run0\0member…"), smallest first.
    assert [member for member, part in divide(1, everyone, "run0").items() if part] == ["member4"]


@pytest.mark.parametrize("pool, given_weights", [(1.0, {"a": 1}), (True, {"a": 1}), (1, {"a": 0.5}), (1, {"a": True})])
def test_only_whole_numbers_are_divided(pool: Any, given_weights: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        divide(pool, given_weights, "run")


@pytest.mark.parametrize("pool, given_weights", [(-1, {"a": 1}), (1, {"a": -1, "b": 2}), (1, {})])
def test_nothing_negative_and_nothing_among_nobody(pool: int, given_weights: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        divide(pool, given_weights, "run")
