"""Governance's rules, one file a noun. No clock, no ids, no connection."""

from governance.domain import (
    ballots,
    charter,
    consents,
    cooperatives,
    deletions,
    delta,
    dividends,
    interests,
    keys,
    members,
    proposals,
    receipts,
    roll,
    rules,
    tally,
    words,
)

__all__ = [
    "ballots",
    "charter",
    "consents",
    "cooperatives",
    "deletions",
    "delta",
    "dividends",
    "interests",
    "keys",
    "members",
    "proposals",
    "receipts",
    "roll",
    "rules",
    "tally",
    "words",
]
