"""Governance's rules, one file a noun. No clock, no ids, no connection."""

from governance.domain import (
    ballots,
    charter,
    cooperatives,
    delta,
    interests,
    keys,
    proposals,
    roll,
    rules,
    tally,
    words,
)

__all__ = [
    "ballots",
    "charter",
    "cooperatives",
    "delta",
    "interests",
    "keys",
    "proposals",
    "roll",
    "rules",
    "tally",
    "words",
]
